"""What a changed study file does to a study that has rows: what is new, what is kept, what is not.

A study may grow: more cells, replicates, seeds, points or networks in the same folder. Refused is
what would make a row one that the study file would not have produced: each such key is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from study import samplers
from study.config.grid import LISTS
from study.config.loader import StudyFileError
from study.config.sections import StudyConfig
from study.planning.cells import Cell
from study.planning.plan import SWEEP_SEEDS_FROM, Plan
from study.results.arms import CE
from study.results.schema import STAGES, Stage

_NO_EFFECT = {"storage", "resources"}  # sections that change neither rows nor the analysis
_ANALYSIS = "analysis"
_GRID_OF_SWEEP = ("sweep.points", "sweep.lr_points", "confirm.arms")
_MAY_CHANGE = (  # within the limits of `_rows_outside` and `_changed_cells`
    *("search.networks_per_cell", "search.replicates", "search.worker_hours"),
    *("sweep", *(f"sweep.{key}" for key in ("points", "seeds", "lr_points"))),
    *("sweep.until_interval", "sweep.most_seeds"),
    *("confirm", "confirm.seeds", "confirm.replicate_seeds", "confirm.arms"),
)
_LONGEST = 120  # characters of a value in a message


@dataclass(frozen=True)
class Change:
    """A key of the study file that differs from the study in the folder.

    Attributes:
        key: as in `search.replicates`.
        was: the value in the folder, as YAML.
        now: the value in the study file, as YAML.
    """

    key: str
    was: str
    now: str

    def __str__(self) -> str:
        text = f"{self.key}: {self.was} → {self.now}"
        return f"{text} (the analysis alone)" if self.key.startswith(_ANALYSIS) else text


@dataclass(frozen=True)
class Growth:
    """A changed study file against the study in its folder.

    Attributes:
        changes: the keys that differ.
        kept: {stage: networks that have a row}; all of them are kept.
        planned: {stage: networks of the changed study}.
        has_begun: whether there are rows or cohorts in training.
        remarks: how the study differs from one that was planned so from the start.
    """

    changes: tuple[Change, ...]
    kept: Mapping[Stage, int]
    planned: Mapping[Stage, int]
    has_begun: bool
    remarks: tuple[str, ...] = ()

    @property
    def new(self) -> dict[Stage, int]:
        """{stage: networks to train}."""
        return {stage: max(0, n - self.kept[stage]) for stage, n in self.planned.items()}

    def to_json(self) -> dict[str, Any]:
        """As `logit-bias plan --json` prints it."""
        return {
            "changes": [{"key": c.key, "was": c.was, "now": c.now} for c in self.changes],
            "kept": dict(self.kept),
            "new": self.new,
            "remarks": list(self.remarks),
        }

    def lines(self) -> Iterator[str]:
        """The same in words."""
        yield "this study file differs from the study in the folder:"
        yield from (f"  {change}" for change in self.changes)
        stages = " + ".join(f"{count} {stage}" for stage, count in self.new.items())
        yield (
            f"{sum(self.kept.values())} networks are kept, {sum(self.new.values())} are to be "
            f"trained ({stages})"
        )
        yield from (f"note: {remark}" for remark in self.remarks)


def differences(old: StudyConfig, new: StudyConfig) -> list[Change]:
    """The keys at which two study files differ, except storage and resources.

    In a list of the grid, each choice that one of them lacks is a difference of its own.
    """
    before, after = (c.model_dump(exclude=_NO_EFFECT) for c in (old, new))
    is_joint = isinstance(old.grid.loss, str) or isinstance(new.grid.loss, str)
    lists = LISTS[:3] if is_joint else LISTS
    changes: list[Change] = []
    for name in lists:
        del before["grid"][name], after["grid"][name]
        was, now = ({c.label: c for c in getattr(config.grid, name)} for config in (old, new))
        for label in dict.fromkeys([*was, *now]):
            if label in was and label in now:
                values = (was[label].model_dump(), now[label].model_dump())
                changes += list(_differences(*values, f"grid.{name} {label}"))
            else:
                changes.append(
                    Change(f"grid.{name}", *(label if label in x else "absent" for x in (was, now)))
                )
    return [*changes, *_differences(before, after)]


def growth(
    old: Plan, new: Plan, rows: Iterable[Mapping[str, Any]], *, has_checkpoints: bool, where: str
) -> Growth | None:
    """Compare a changed study file with the study in its folder.

    Args:
        old: the plan of the study in the folder.
        new: the plan of the changed study file.
        rows: counts of rows of `trials`: stage, cell_id, arm, seed, replicate, the largest `point`
            and the number of rows, `count`, of each combination.
        has_checkpoints: whether the folder has cohorts in training.
        where: the folder, for messages.

    Returns:
        None where nothing differs but storage and resources.

    Raises:
        StudyFileError: a row exists that the changed study file would not have produced; the
            message names each key, what it was and what it is.
    """
    changes = differences(old.config, new.config)
    if not changes:
        return None
    rows = list(rows)
    kept = Counter({stage: 0 for stage in STAGES})
    for row in rows:
        kept[Stage(row["stage"])] += row["count"]
    has_begun = bool(rows) or has_checkpoints
    if has_begun and (refused := refusals(old, new, rows)):
        raise StudyFileError(
            f"{where}: this study file would change rows that exist: {', '.join(refused)}; put the "
            "earlier values back, or give this study another name"
        )
    remarks = tuple(_remarks(old, new, rows))
    return Growth(tuple(changes), kept, new.networks(), has_begun, remarks)


def refusals(old: Plan, new: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why rows would not follow from a changed study file: each key, what it was, what it is.

    Args:
        old: the plan that the rows follow from.
        new: the plan of the changed study file.
        rows: as of `growth`.

    Returns:
        One text per key; empty where all rows follow from the new plan.
    """
    changes = differences(old.config, new.config)
    reasons: dict[str, str] = {}  # by key
    for change in changes:
        is_list = change.key in [f"grid.{name}" for name in LISTS]
        if not (is_list or change.key in _MAY_CHANGE or change.key.startswith(_ANALYSIS)):
            reasons[change.key] = ""
    reasons |= {k: v for k, v in _changed_cells(old, new, rows, changes) if k not in reasons}
    changed = {change.key for change in changes}
    for key, count in _rows_outside(old, new, rows).items():
        if key not in reasons and (key in changed or not reasons):
            reasons[key] = f"{count} rows would not be part of the study"
    parts = []
    for key, reason in reasons.items():
        of_key = [c for c in changes if c.key == key and not (reason and c.was == "absent")]
        said = [f"was {c.was}, is {c.now}" for c in of_key]
        parts.append(f"{key} ({'; '.join([*said, *([reason] if reason else [])])})")
    return parts


def _rows_outside(old: Plan, new: Plan, rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """{key: number of rows that it puts outside the new plan}."""
    cells = {cell.cell_id: cell for cell in new.cells}
    before = {cell.cell_id: cell for cell in old.cells}
    outside: Counter[str] = Counter()
    for row in rows:
        cell = cells.get(row["cell_id"])
        if cell is None:
            key: str | None = _key_of_absent(before.get(row["cell_id"]), new.config)
        else:
            key = _key_outside(new, cell, row)
        if key is not None:
            outside[key] += row["count"]
    return outside


def _key_of_absent(cell: Cell | None, config: StudyConfig) -> str:
    """The key that put a cell outside the plan."""
    grid = config.grid
    if cell is None or isinstance(grid.loss, str) or cell.loss is None:
        return "grid.loss"
    labels = (cell.dataset.label, cell.noise.label, cell.model.label)
    for name, label in zip(LISTS[:3], labels, strict=True):
        if label not in [c.label for c in getattr(grid, name)]:
            return f"grid.{name}"
    return "confirm.arms" if cell.loss.name == CE else "grid.loss"


def _key_outside(plan: Plan, cell: Cell, row: Mapping[str, Any]) -> str | None:
    """The key that puts rows of a planned cell outside the plan; None where they are inside."""
    config, stage, seed = plan.config, Stage(row["stage"]), row["seed"]
    replicate = row["replicate"] if config.has_best else None
    if stage == Stage.SEARCH:
        if replicate not in plan.replicates:
            return "search.replicates"
        if row["arm"] not in [arm.name for arm in plan.searched_arms(cell)]:
            return "confirm" if config.confirm is None else "confirm.arms"
        is_inside = _local_point(plan, cell, row) < config.search.networks_per_cell
        return None if is_inside else "search.networks_per_cell"
    if stage == Stage.SWEEP:
        sweep = config.sweep
        if sweep is None:
            return "sweep"
        most = sweep.seeds if sweep.until_interval is None else sweep.most_seeds
        return None if seed - SWEEP_SEEDS_FROM < most else "sweep.seeds"
    if config.confirm is None:
        return "confirm"
    if row["arm"] not in [arm.name for arm in plan.arms[cell]]:
        return "confirm.arms"
    if replicate is None:
        return None if seed in plan.confirm_seeds else "confirm.seeds"
    if replicate not in plan.replicates:
        return "search.replicates"
    return None if seed in plan.replicate_seeds(replicate) else "confirm.replicate_seeds"


def _changed_cells(
    old: Plan, new: Plan, rows: Sequence[Mapping[str, Any]], changes: Sequence[Change]
) -> Iterator[tuple[str, str]]:
    """Keys that change what is trained in a cell that has rows, with the reason."""
    with_rows = {row["cell_id"] for row in rows}
    swept = {row["cell_id"] for row in rows if row["stage"] == Stage.SWEEP}
    cells = {cell.cell_id: cell for cell in new.cells}
    changed = {change.key for change in changes}
    for cell in old.cells:
        if cell.cell_id not in with_rows or cell.cell_id not in cells:
            continue
        now = cells[cell.cell_id]
        before, after = (
            [(a.name, a.is_pooled, a.is_replicated) for a in plan.searched_arms(of)]
            for plan, of in ((old, cell), (new, now))
        )
        arms = {arm.name: arm for arm in new.arms[now]}
        if before != after or any(arms.get(a.name, a) != a for a in old.arms[cell]):
            yield (
                "confirm" if "confirm" in changed else "confirm.arms",
                "the arms with searches must stay as they are, and in their order",
            )
        grid = {network.network_id for network in new.sweep_networks(now)}
        if cell.cell_id in swept and new.config.sweep is not None:
            seeds = range(SWEEP_SEEDS_FROM, SWEEP_SEEDS_FROM + new.config.sweep.seeds)
            if not {n.network_id for n in old.sweep_networks(cell, seeds)} <= grid:
                for key in _GRID_OF_SWEEP:
                    if key in changed:
                        yield key, "the earlier ε and learning rates of the sweep must be in it"
    search, earlier = new.config.search, old.config.search
    each, budget = earlier.points_per_round, earlier.networks_per_cell
    if search.networks_per_cell > budget and budget % each:
        before_last = budget - budget % each
        searched = [row for row in rows if row["stage"] == Stage.SEARCH]
        of_id = {cell.cell_id: cell for cell in old.cells}
        if any(_local_point(old, of_id[r["cell_id"]], r) >= before_last for r in searched):
            yield (
                "search.networks_per_cell",
                f"the last round has {budget % each} points and not points_per_round = {each}",
            )


def _local_point(plan: Plan, cell: Cell, row: Mapping[str, Any]) -> int:
    """Number of a row's largest point within the search of its arm."""
    replicate = row["replicate"] if plan.config.has_best else None
    arms = len(plan.searched_arms(cell))
    first = (replicate or 0) * plan.first_budget(cell, replicate) * arms
    return int((row["point"] - first) // arms)


def _remarks(old: Plan, new: Plan, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How the grown study differs from one that was planned so from the start."""
    before, after = old.config.search.networks_per_cell, new.config.search.networks_per_cell
    searched = [row for row in rows if row["stage"] == Stage.SEARCH]
    confirmed = [row for row in rows if row["stage"] == Stage.CONFIRM]
    if after > before and searched:
        difference = samplers.get(new.config.search.sampler).differs_when_grown(before, after)
        if difference:
            yield difference
        tried = max(1, before // 4)
        most = max((len({*a.values(), 0.0}) for a in old.analytic.values()), default=0)
        if tried < min(most, max(1, after // 4)):
            yield (
                f"arm tuned tries {tried} of its initial points (analytic ε, ε = 0), because it "
                f"began with {before} networks"
            )
        if any(row["replicate"] for row in searched):
            yield (
                "the searches of replicates from 1 on keep the numbers of their points, from which "
                "network ids and the samplers' random numbers follow"
            )
        if confirmed:
            yield (
                "every search chooses again at its end: where its choice moves, the confirm rows "
                "of the earlier choice are kept and not analysed"
            )
    has_more = any(
        change.key.startswith(("search.networks", "search.replicates", "sweep"))
        for change in differences(old.config, new.config)
    )
    pooled = {(row["cell_id"], row["arm"]) for row in confirmed if row["replicate"] is None}
    if new.config.has_best and has_more and pooled:
        cells = len({cell for cell, _ in pooled})
        yield (
            f"arms on the common seeds ({len(pooled)} in {cells} cells) keep the points that they "
            "were confirmed at; the run names those that all networks would place elsewhere, and "
            "the surface of the analysis accounts for the difference"
        )


def _differences(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Differences between two nested mappings."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield Change(path, _shown(old), _shown(new))


def _shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...").strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
