"""Merging folders of one study: the rows of each network once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.export.merged_file import merged_study_file
from study.planning.growth import refusals
from study.planning.open_study import (
    kept_epsilons,
    open_study,
    plan_of,
    plan_summary,
    replay_rows,
    row_counts,
)
from study.planning.plan import KeptEpsilons, Plan
from study.planning.scheduler import Scheduler
from study.results.evidence import ChoosePoints
from study.results.folder import SCHEMAS, STUDY_FILE, StudyFolder, TableName
from study.results.plan_summary import write_plan_summary
from study.results.schema import STAGES, Stage
from study.results.study_files import earlier_study_files, keep_study_file
from trainables.errors import BadInputError

_NOT_COMPARED = {  # columns that two trainings of one network do not share
    *("study", "cohort_id", "wall_s", "networks_in_cohort", "device", "host", "started_utc"),
    *("finished_utc", "config_sha256", "git_commit", "git_dirty", "versions"),
    "input_stall_share",
}
_TABLES: tuple[TableName, ...] = ("epochs", "trials")  # in the order in which they are written


@dataclass(frozen=True)
class Merged:
    """What a merge gives.

    Attributes:
        folder: the new folder.
        networks: number of networks in it.
        duplicates: number of networks that were in more than one folder.
        missing: number of networks that its study file plans and that have no row.
    """

    folder: str
    networks: int
    duplicates: int
    missing: int


@dataclass(frozen=True)
class _Source:
    folder: StudyFolder
    config: StudyConfig
    plan: Plan

    @property
    def study_files(self) -> list[bytes]:
        return [*earlier_study_files(self.folder), self.folder.study_file()]


def merge(
    uris: Sequence[str],
    output: str,
    choose_points: ChoosePoints | None = None,
    trust: bool = False,
) -> Merged:
    """Merge folders of one study into a new folder; the folders themselves stay as they are.

    Args:
        uris: the folders.
        output: the new folder; its last component is the study's name.
        choose_points: as of `Scheduler`; needed for a study with the arm `best`.
        trust: whether the folders' study files may import `package.module:name`, which runs code.

    Returns:
        What was written.

    Raises:
        BadInputError: the folders hold different studies, or different results of one network.
        ResultsError: a folder holds no study.
    """
    if len(set(uris)) < 2:
        raise BadInputError("merge: two or more different folders are needed")
    sources = [_open(uri, trust) for uri in uris]
    target = StudyFolder.at(output)
    names = sorted({source.config.name for source in sources})
    if len(names) > 1:
        raise BadInputError(f"merge: these are different studies: {', '.join(names)}")
    if target.name != names[0]:
        raise BadInputError(f"{output}: must end in /{names[0]}, the name of the study")
    if target.exists() or any(target.table_files("trials", stage).cohorts for stage in STAGES):
        raise BadInputError(f"{output}: there is a study already; choose another folder")
    content = merged_study_file(
        [(s.config, s.folder.study_file()) for s in sources], target.parent.uri
    )
    plan = _merged_plan(sources, content)
    rows = _merged_rows(sources)
    _check_points(plan, rows)
    noise = _merged_noise(sources)
    written = [row for source in sources for row in replay_rows(source.folder)]
    by_id = {row["network_id"]: row for row in written}
    scheduler = Scheduler(plan, by_id.values(), choose_points=choose_points)
    _ = scheduler.is_done  # completes the count of what a grown search no longer chooses
    for table in _TABLES:
        for stage in STAGES:
            if rows[table, stage].num_rows:
                cohorts = pc.unique(rows["trials", stage]["cohort_id"]).to_pylist()
                target.write_compacted(rows[table, stage], table, stage, cohorts)
    if noise:
        target.write_transitions(noise)
    for source in sources:
        for earlier in source.study_files:
            keep_study_file(target, earlier)
    summary = plan_summary(
        plan, scheduler.networks_planned, scheduler.superseded, scheduler.kept_points
    )
    write_plan_summary(target, summary)
    target.write_bytes(STUDY_FILE, content)
    return Merged(
        folder=target.uri,
        networks=len(by_id),
        duplicates=len(written) - len(by_id),
        missing=scheduler.networks_total - scheduler.networks_done,
    )


def _open(uri: str, trust: bool) -> _Source:
    folder, plan = open_study(uri, trust)
    return _Source(folder, plan.config, plan)


def _merged_plan(sources: Sequence[_Source], content: bytes) -> Plan:
    """The plan of the merged study file, from which the rows of every folder must follow."""
    config = parse_study(content, "the merged study file")
    files = [file for source in sources for file in source.study_files]
    earlier = [parse_study(file, STUDY_FILE) for file in files]
    plan = plan_of(config, earlier, _kept_epsilons(sources))
    for source in sources:
        counted = row_counts(source.folder)
        _check_budgets(source, sources[0], plan, counted)
        if refused := refusals(source.plan, plan, counted):
            raise BadInputError(
                f"{source.folder.uri} and {sources[0].folder.uri} are not one study: "
                f"{', '.join(refused)}"
            )
    return plan


def _kept_epsilons(sources: Sequence[_Source]) -> KeptEpsilons:
    """What the folders' first runs measured.

    Raises:
        BadInputError: two folders have measured a cell, with different results.
    """
    kept: dict[str, dict[str, float]] = {}
    first: dict[tuple[str, str], str] = {}  # folder that has measured a rule in a cell
    for source in sources:
        for cell_id, epsilons in kept_epsilons(source.folder, source.config).items():
            for rule, epsilon in epsilons.items():
                known = kept.setdefault(cell_id, {}).setdefault(rule, epsilon)
                uri = first.setdefault((cell_id, rule), source.folder.uri)
                if known != epsilon:
                    raise BadInputError(
                        f"{uri} and {source.folder.uri}: {cell_id} has measured ε {known!r} and "
                        f"{epsilon!r} ({rule}): another machine measures another last digit, so "
                        "these are different networks; let one folder begin the cell"
                    )
    return kept


def _check_budgets(
    source: _Source, other: _Source, plan: Plan, counted: Sequence[Mapping[str, Any]]
) -> None:
    """Check that the searches of a folder have the numbers that the merged plan gives them."""
    for row in counted:
        key = (row["cell_id"], row["replicate"])
        first = source.plan.first_budgets.get(key, source.config.search.networks_per_cell)
        merged = plan.first_budgets.get(key, plan.config.search.networks_per_cell)
        if row["replicate"] and row["stage"] == Stage.SEARCH and first != merged:
            raise BadInputError(
                f"{source.folder.uri}: replicate {row['replicate']} of {row['cell_id']} began "
                f"with search.networks_per_cell = {first}, in {other.folder.uri} with {merged}: "
                "its points have other numbers, so these are different searches"
            )


def _merged_rows(sources: Sequence[_Source]) -> dict[tuple[TableName, Stage], pa.Table]:
    """The rows of all folders; of a network in several of them, those of the first.

    Raises:
        BadInputError: two folders have different results of a network.
    """
    merged: dict[tuple[TableName, Stage], pa.Table] = {}
    for stage in STAGES:
        for table in _TABLES:
            rows = sources[0].folder.read(table, [stage])
            for source in sources[1:]:
                more = source.folder.read(table, [stage])
                known = pc.is_in(more["network_id"], value_set=rows["network_id"].combine_chunks())
                _check_equal(rows, more.filter(known), table, source.folder.uri)
                rows = pa.concat_tables([rows, more.filter(pc.invert(known))])
            merged[table, stage] = rows
    return merged


def _check_equal(rows: pa.Table, repeated: pa.Table, table: TableName, uri: str) -> None:
    """Check that networks that are in two folders have the same numbers in both."""
    if not repeated.num_rows:
        return
    keys = ["network_id"] if table == "trials" else ["network_id", "epoch"]
    columns = [name for name in SCHEMAS[table].names if name not in _NOT_COMPARED]
    same = pc.is_in(rows["network_id"], value_set=repeated["network_id"].combine_chunks())
    known = {tuple(row[k] for k in keys): row for row in _listed(rows.filter(same), columns)}
    for row in _listed(repeated, columns):
        other = known.pop(tuple(row[k] for k in keys), None)
        where = f"{uri}: network {row['network_id']}"
        if other is None:
            raise BadInputError(f"{where} has an epoch {row['epoch']} here alone")
        for name in columns:
            if not _is_same(row[name], other[name]):
                at = f" in epoch {row['epoch']}" if table == "epochs" else ""
                raise BadInputError(
                    f"{where}: {name}{at} is {row[name]!r} here and {other[name]!r} in an earlier "
                    "folder; networks of one id must agree"
                )
    if known:
        network_id = next(iter(known))[0]
        raise BadInputError(f"{uri}: network {network_id} has fewer {table} than elsewhere")


def _listed(table: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    return rows


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _check_points(plan: Plan, rows: Mapping[tuple[TableName, Stage], pa.Table]) -> None:
    """Check that no point of a search has two networks, and no pooled arm two points."""
    point = ["cell_id", "arm", "seed", "point"]
    searched = rows["trials", Stage.SEARCH].select([*point, "network_id"])
    counted = searched.group_by(point).aggregate([("network_id", "count_distinct")])
    several = counted.filter(pc.greater(counted["network_id_count_distinct"], 1)).to_pylist()
    if several:
        first = several[0]
        raise BadInputError(
            f"merge: point {first['point']} of arm {first['arm']} in {first['cell_id']}, seed "
            f"{first['seed']}, lies elsewhere in each folder: these are different searches"
        )

    if not plan.config.has_best:
        return
    confirmed = rows["trials", Stage.CONFIRM].select(
        ["cell_id", "arm", "replicate", "loss", "loss_params", "epsilon", "lr"]
    )
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for row in confirmed.filter(pc.is_null(confirmed["replicate"])).to_pylist():
        other = known.setdefault((row["cell_id"], row["arm"]), row)
        if other != row:
            points = [f"ε {r['epsilon']:g}, lr {r['lr']:g}" for r in (other, row)]
            raise BadInputError(
                f"merge: arm {row['arm']} of {row['cell_id']} was confirmed at {points[0]} and at "
                f"{points[1]}, because the folders had other networks to choose from; it must have "
                "one point: merge such folders before their confirm stage (run --stage)"
            )


def _merged_noise(sources: Sequence[_Source]) -> list[dict[str, Any]]:
    """The label noise that the folders record.

    Raises:
        BadInputError: two folders have drawn one noise differently.
    """
    merged: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for source in sources:
        recorded = source.folder.read_transitions()
        drawn: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in [] if recorded is None else recorded.to_pylist():
            drawn.setdefault((row["dataset"], row["noise"]), []).append(row)
        for key, rows in drawn.items():
            if merged.setdefault(key, rows) != rows:
                raise BadInputError(
                    f"{source.folder.uri}: the noise {key[1]} of {key[0]} was drawn differently "
                    "there: its data or its seed is not the same"
                )
    return [row for rows in merged.values() for row in rows]
