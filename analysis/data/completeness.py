"""What is missing of a study, against its plan (`plan.json`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.data.load import Study
from analysis.formatting import count, listing
from analysis.records import Record
from study.results.schema import STAGES, Stage, Status


@dataclass(frozen=True)
class StageCount(Record):
    """Networks of one stage.

    Attributes:
        planned: according to `plan.json`; None where there is no such file.
        done: rows.
    """

    planned: int | None
    done: int


@dataclass(frozen=True)
class Completeness(Record):
    """What is missing of a cell or of a study.

    Attributes:
        stages: {stage: networks planned and done}; for a cell the confirm stage alone.
        missing_confirm: confirm networks that are planned and have no row; without `plan.json`,
            seeds that another arm or cell of the study has.
        not_finite: confirm networks that are complete and have no test accuracy.
        diverged: confirm networks that diverged; they count with the accuracy of guessing.
        missing_pairs: {arm: confirm seeds without a pair of the comparator and this arm}.
        sentence: all that in words; empty where nothing is missing.
    """

    stages: dict[str, StageCount]
    missing_confirm: int
    not_finite: int
    diverged: int
    missing_pairs: dict[str, int]
    sentence: str

    @property
    def is_complete(self) -> bool:
        """Whether every planned network has a row, and every confirm network an accuracy."""
        stages = [stage for stage in self.stages.values() if stage.planned is not None]
        rows = all(stage.done >= (stage.planned or 0) for stage in stages)
        return rows and self.missing_confirm == 0 and self.not_finite == 0


@dataclass(frozen=True)
class CellPlan:
    """Confirm networks that a cell plans.

    Attributes:
        arms: {arm: networks on the common seeds}.
        choices: {arm: networks on the seeds of replicates}.
    """

    arms: Mapping[str, int]
    choices: Mapping[str, int]


def cell_plans(study: Study) -> dict[str, CellPlan]:
    """{cell_id: its planned confirm networks}, of the cells whose plan names its arms.

    Several folders of the same cells add up; networks that are in two of them count once.
    """
    plans: dict[str, CellPlan] = {}
    for plan in study.plans:
        if plan is None or plan.confirm_seeds is None:
            continue
        per_choice = plan.replicate_seeds * (plan.replicates or 0)
        for cell in plan.cells:
            earlier = plans.get(cell.cell_id, CellPlan({}, {}))
            plans[cell.cell_id] = CellPlan(
                _add(earlier.arms, dict.fromkeys(cell.arms, plan.confirm_seeds)),
                _add(earlier.choices, dict.fromkeys(cell.replicate_arms, per_choice)),
            )
    for (cell_id, arm, pooled), repeats in study.repeats.items():
        if cell_id in plans:
            known = plans[cell_id].arms if pooled else plans[cell_id].choices
            if arm in known:
                changed = {**known, arm: known[arm] - repeats}
                arms, choices = (
                    (changed, plans[cell_id].choices) if pooled else (plans[cell_id].arms, changed)
                )
                plans[cell_id] = CellPlan(arms, choices)
    return plans


def cell_completeness(
    confirm: pd.DataFrame, plan: CellPlan | None, comparator: str | None
) -> Completeness:
    """What a cell lacks in its confirm stage.

    Args:
        confirm: the cell's confirm rows of `trials`.
        plan: what it plans; None where unknown.
        comparator: the arm that others are compared with.
    """
    # Two rows of an arm with one seed do not stand for two seeds.
    confirm = confirm.drop_duplicates(["arm", "replicate", "seed"])
    pooled = confirm[confirm["replicate"].isna()]
    of_replicates = confirm[confirm["replicate"].notna()]
    planned: int | None
    if plan is None:
        seeds = {arm: set(rows["seed"]) for arm, rows in pooled.groupby("arm")}
        every = set().union(*seeds.values()) if seeds else set()
        missing = sum(len(every - present) for present in seeds.values())
        expected = {str(arm): len(every) for arm in seeds}
        # Each replicate of the search confirms its arms on the same seeds.
        for _, rows in of_replicates.groupby("replicate"):
            seeds_of = {arm: set(part["seed"]) for arm, part in rows.groupby("arm")}
            union = set().union(*seeds_of.values())
            missing += sum(len(union - present) for present in seeds_of.values())
        planned = None
    else:
        expected = dict(plan.arms)
        missing = _missing(plan.arms, pooled["arm"]) + _missing(plan.choices, of_replicates["arm"])
        planned = sum(plan.arms.values()) + sum(plan.choices.values())
    measured = pooled.dropna(subset=["test_acc"])
    reference = set(measured.loc[measured["arm"] == comparator, "seed"])
    pairs = {
        arm: n - len(reference & set(measured.loc[measured["arm"] == arm, "seed"]))
        for arm, n in expected.items()
        if arm != comparator
    }
    pairs = {arm: n for arm, n in pairs.items() if n > 0}
    not_finite, diverged = _faults(confirm)
    sentence = _sentence(missing, planned, not_finite, pairs)
    stages = {Stage.CONFIRM.value: StageCount(planned, len(confirm))}
    return Completeness(stages, missing, not_finite, diverged, pairs, sentence)


def study_completeness(study: Study, cells: Iterable[Completeness]) -> Completeness:
    """What a study lacks.

    Args:
        study: as loaded.
        cells: of its cells.
    """
    cells = list(cells)
    stages = {}
    for stage in STAGES:
        plans = [None if plan is None else plan.networks.get(stage, 0) for plan in study.plans]
        known = [n for n in plans if n is not None]
        done = int((study.trials["stage"] == stage).sum())
        planned = sum(known) if known and len(known) == len(plans) else None
        if planned is not None:
            planned -= study.repeats_of(stage)
        stages[stage.value] = StageCount(planned, done)
    confirm = stages[Stage.CONFIRM.value]
    if confirm.planned is None:
        missing = max(sum(cell.missing_confirm for cell in cells), _missing_seeds(study))
    else:
        by_cell = sum(cell.missing_confirm for cell in cells)
        missing = max(confirm.planned - confirm.done, by_cell, 0)
    pairs: dict[str, int] = {}
    for cell in cells:
        pairs = dict(_add(pairs, cell.missing_pairs))
    rows = study.stage(Stage.CONFIRM)
    not_finite, diverged = _faults(rows)
    sentence = _sentence(missing, confirm.planned, not_finite, pairs, stages)
    return Completeness(stages, missing, not_finite, diverged, pairs, sentence)


def _missing_seeds(study: Study) -> int:
    """Confirm networks that a study without a plan lacks, if its cells have the same seeds."""
    if len(study.uris) > 1:
        return 0  # the seeds of another study are no gap in this one
    trials = study.trials[
        study.trials["replicate"].isna() | (study.trials["stage"] != Stage.CONFIRM)
    ]
    confirm = trials[trials["stage"] == Stage.CONFIRM]
    every = confirm["seed"].nunique()
    missing = 0
    for cell_id, rows in trials.groupby("cell_id"):
        of_cell = confirm[confirm["cell_id"] == cell_id]
        if of_cell.empty:
            missing += every * rows["arm"].nunique()
        else:
            missing += int((every - of_cell.groupby("arm")["seed"].nunique()).sum())
    return missing


def _faults(confirm: pd.DataFrame) -> tuple[int, int]:
    """Complete networks without a test accuracy, and networks that diverged."""
    diverged = confirm["status"] == Status.DIVERGED
    return int((~diverged & confirm["test_acc"].isna()).sum()), int(diverged.sum())


def _missing(planned: Mapping[str, int], arms: pd.Series[str]) -> int:
    rows = arms.value_counts()
    return sum(max(n - int(rows.get(arm, 0)), 0) for arm, n in planned.items())


def _add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in [*one, *other]}


def _sentence(
    missing: int,
    planned: int | None,
    not_finite: int,
    pairs: Mapping[str, int],
    stages: Mapping[str, StageCount] | None = None,
) -> str:
    parts: Sequence[str] = [
        f"{stage.planned - stage.done} of {stage.planned} {name} networks are missing"
        for name, stage in (stages or {}).items()
        if name != Stage.CONFIRM.value and stage.planned is not None and stage.done < stage.planned
    ]
    parts = list(parts)
    if missing:
        of = "" if planned is None else f" of {planned}"
        parts.append(f"{missing}{of} confirm networks are missing")
    if not_finite:
        parts.append(f"{count(not_finite, 'confirm network')} without a test accuracy")
    if pairs:
        lacking = listing([f"{arm} {n}" for arm, n in pairs.items()])
        parts.append(f"missing pairs: {lacking}")
    return "; ".join(parts)
