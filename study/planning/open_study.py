"""From a study file or a study folder to what a command works with: configuration, plan, rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from study.config.choices import Importable
from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.planning.cells import Cell
from study.planning.growth import Growth, differences, growth
from study.planning.plan import (
    KeptEpsilons,
    Plan,
    cells_to_measure,
    make_plan,
    rules_of_logits,
)
from study.results.folder import CHECKPOINTS, STUDY_FILE, ResultsError, StudyFolder
from study.results.plan_summary import (
    CellSummary,
    KeptPoint,
    LossLabel,
    PlanSummary,
    read_plan_summary,
)
from study.results.schema import STAGES, Stage
from study.results.study_files import earlier_study_files

REPLAYED = (
    *("network_id", "stage", "cell_id", "arm", "point", "loss", "loss_params", "epsilon", "lr"),
    *("seed", "replicate", "val_acc_noisy", "val_acc_clean", "epochs", "status", "wall_s"),
    "networks_in_cohort",
)
"""The columns of `trials` from which a scheduler is rebuilt."""

_ROWS_AT_ONCE = 10_000


def folder_of(config: StudyConfig) -> StudyFolder:
    """The folder that the study file names."""
    return StudyFolder.at(config.folder_uri)


def plan_of(
    config: StudyConfig,
    earlier: Sequence[StudyConfig] = (),
    kept: KeptEpsilons | None = None,
    *,
    is_estimate: bool = False,
) -> Plan:
    """The study's plan; initial logits are measured where an arm needs them.

    Args:
        config: the study.
        earlier: what its study file said in earlier runs, the oldest first.
        kept: as in `make_plan`.
        is_estimate: whether a quick measurement suffices.
    """
    if cells := cells_to_measure(config, kept or {}):
        from study.planning.initial_logits import initial_logits

        measured = initial_logits(config, cells, is_estimate=is_estimate)
        return make_plan(config, measured, earlier, kept)
    return make_plan(config, earlier=earlier, kept=kept)


def kept_epsilons(folder: StudyFolder, config: StudyConfig) -> KeptEpsilons:
    """What the folder's first run measured: by its rows, and by plan.json where there are none."""
    rules = rules_of_logits(config)
    if not rules:
        return {}
    try:
        summary = read_plan_summary(folder)
    except ResultsError:  # the rows know better, and a run writes it anew
        summary = None
    cells = () if summary is None else summary.cells
    kept = {cell.cell_id: dict(cell.measured_epsilons) for cell in cells}
    columns = ["schema_version", "cell_id", "rule", "epsilon"]
    table = folder.read("trials", columns=columns).select(columns[1:])
    for row in table.group_by(columns[1:]).aggregate([]).to_pylist():
        if row["rule"] in rules:
            kept.setdefault(row["cell_id"], {})[row["rule"]] = row["epsilon"]
    return kept


def plan_in_folder(
    config: StudyConfig,
    folder: StudyFolder,
    trust: bool = False,
    *,
    before_measuring: Callable[[Sequence[Cell]], None] = lambda cells: None,
    is_estimate: bool = False,
) -> Plan:
    """The plan of a study file for its folder, which may hold an earlier version of the study.

    Args:
        config: the user's study.
        folder: its folder.
        trust: whether the folder's study files may import what the user's own one does not name.
        before_measuring: called with the cells whose initial logits are about to be measured.
        is_estimate: whether a quick measurement suffices where the folder has no rows.

    Raises:
        StudyFileError: an earlier study file in the folder is not valid.
        study.results.object_store.StorageError: the bucket that is to hold the folder does not
            exist, or cannot be reached.
    """
    folder.check_storage()
    importable = None if trust else config.importable
    earlier, content = _earlier_configs(folder, importable), folder.read_bytes(STUDY_FILE)
    is_new = not has_begun(folder)
    if content is not None and not is_new:
        earlier.append(parse_study(content, folder.file(STUDY_FILE), importable))
    kept = {} if is_new else kept_epsilons(folder, config)
    if cells := cells_to_measure(config, kept):
        before_measuring(cells)
    return plan_of(config, earlier, kept, is_estimate=is_estimate and is_new)


def open_study(uri: str, trust: bool = False) -> tuple[StudyFolder, Plan]:
    """Open a study folder.

    Args:
        uri: a path or URI.
        trust: whether its study files may import `package.module:name`, which runs code.

    Returns:
        The folder, and the plan of the study in it.

    Raises:
        ResultsError: there is no study in the folder.
        StudyFileError: the study file in the folder is not valid.
    """
    folder = StudyFolder.at(uri)
    importable = None if trust else ()
    config = parse_study(folder.study_file(), folder.file(STUDY_FILE), importable)
    kept = kept_epsilons(folder, config)
    return folder, plan_of(config, _earlier_configs(folder, importable), kept)


def plan_summary(
    plan: Plan,
    networks: Mapping[Stage, int] | None = None,
    superseded: int = 0,
    kept_points: tuple[KeptPoint, ...] = (),
) -> PlanSummary:
    """What `status` shows of a plan.

    Args:
        plan: the study's plan.
        networks: number of networks per stage, where it has changed since the plan was made.
        superseded: as in `PlanSummary`.
        kept_points: as in `PlanSummary`.
    """
    return PlanSummary(
        study=plan.config.name,
        value_column=plan.config.search.value_column,
        networks=dict(networks or plan.networks()),
        replicates=plan.config.search.replicates if plan.config.has_best else None,
        confirm_seeds=len(plan.confirm_seeds),
        replicate_seeds=len(plan.replicate_seeds(0)) if plan.config.has_best else 0,
        superseded=superseded,
        kept_points=kept_points,
        cells=tuple(
            CellSummary(
                cell_id=cell.cell_id,
                budget=plan.search_points(cell),
                loss_is_searched=cell.loss is None,
                takes_epsilon=cell.takes_epsilon,
                losses=tuple(LossLabel(x.name, x.params_json, x.label) for x in cell.losses),
                arms=tuple(arm.name for arm in arms if arm.is_pooled),
                replicate_arms=tuple(arm.name for arm in arms if arm.is_replicated),
                measured_epsilons={
                    rule: epsilon
                    for rule, epsilon in plan.analytic[cell].items()
                    if rule in rules_of_logits(plan.config)
                },
            )
            for cell, arms in plan.arms.items()
        ),
    )


def replay_rows(folder: StudyFolder) -> Iterator[Mapping[str, Any]]:
    """The rows of `trials`, with the columns from which a scheduler is rebuilt.

    Raises:
        ResultsError: a file is damaged or has another schema version.
    """
    table = folder.read("trials", columns=["schema_version", *REPLAYED])
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def compare_with_folder(
    folder: StudyFolder, config: StudyConfig, plan: Plan, trust: bool = False
) -> Growth | None:
    """What a study file changes in the study that its folder holds.

    Args:
        folder: the study's folder.
        config: the study.
        plan: the study's plan, from `plan_of`.
        trust: as of `plan_in_folder`.

    Returns:
        None where the folder is new, or holds this study already.

    Raises:
        StudyFileError: the study file would change rows that exist.
    """
    content = folder.read_bytes(STUDY_FILE)
    if content is None:
        return None
    importable = None if trust else config.importable
    earlier = _earlier_configs(folder, importable)
    present = parse_study(content, folder.file(STUDY_FILE), importable)
    if not differences(present, config):
        return None
    return growth(
        plan_of(present, earlier, kept_epsilons(folder, config)),
        plan,
        row_counts(folder),
        has_checkpoints=_has_checkpoints(folder),
        where=folder.uri,
    )


def has_begun(folder: StudyFolder) -> bool:
    """Whether the folder has rows or cohorts in training."""
    has_rows = any(folder.table_files("trials", stage).cohorts for stage in STAGES)
    return has_rows or _has_checkpoints(folder)


def _has_checkpoints(folder: StudyFolder) -> bool:
    return bool(folder.file_names(CHECKPOINTS))


def row_counts(folder: StudyFolder) -> list[dict[str, Any]]:
    """Rows of `trials` counted by stage, cell, arm, seed and replicate, as `growth` takes them."""
    keys = ["stage", "cell_id", "arm", "seed", "replicate"]
    table = folder.read("trials", columns=["schema_version", *keys, "point"])
    counted = table.group_by(keys).aggregate([("point", "max"), ([], "count_all")])
    return [
        {**row, "point": row["point_max"], "count": row["count_all"]} for row in counted.to_pylist()
    ]


def _earlier_configs(folder: StudyFolder, importable: Importable) -> list[StudyConfig]:
    """What the study file said in earlier runs, the oldest first."""
    where = f"{folder.uri}/study-files"
    return [parse_study(content, where, importable) for content in earlier_study_files(folder)]
