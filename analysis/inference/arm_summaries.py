"""What each arm of a cell was confirmed with: its point, its networks, its failures."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from analysis.data.completeness import CellPlan
from analysis.inference.cell_records import (
    ArmSummary,
    ReplicateChoice,
)
from analysis.inference.intervals import mean_interval
from study.results.schema import Status


def arm_summaries(
    pooled: pd.DataFrame, plan: CellPlan | None, classes: int
) -> dict[str, ArmSummary]:
    """{arm: its point, its networks, its failures}.

    Args:
        pooled: confirm rows of a cell on the common seeds.
        plan: its planned confirm networks; None where unknown.
        classes: number of classes.
    """
    summaries = {}
    for name, rows in pooled.groupby("arm"):
        arm = str(name)
        planned = None if plan is None else plan.arms.get(arm)
        accuracy = rows["test_acc"].dropna()
        diverged = int((rows["status"] == Status.DIVERGED).sum())
        failed = _failures(rows, classes)
        n = len(accuracy)
        bound = None if n == 0 else _failure_bound(failed, n)
        first = rows.iloc[0]
        summaries[arm] = ArmSummary(
            loss=str(first["loss"]),
            epsilon=float(first["epsilon"]),
            lr=None if pd.isna(first["lr"]) else float(first["lr"]),
            accuracy=mean_interval(accuracy),
            planned=planned,
            seeds=n,
            missing=0 if planned is None else max(planned - len(rows), 0),
            diverged=diverged,
            not_finite=int(rows["test_acc"].isna().sum()),
            failed=failed,
            failure_rate=None if n == 0 else failed / n,
            failure_bound=bound,
        )
    return summaries


def _failures(rows: pd.DataFrame, classes: int) -> int:
    """Networks that diverged, or that are closer to guessing than to the median of the arm."""
    accuracy = rows["test_acc"].dropna()
    half = (1 / classes + accuracy.median()) / 2
    collapsed = (rows["test_acc"] < half) | (rows["status"] == Status.DIVERGED)
    return int((collapsed & rows["test_acc"].notna()).sum())


def _failure_bound(failed: int, n: int) -> float:
    """Upper 95 % bound of a rate (Clopper & Pearson 1934)."""
    return 1.0 if failed == n else float(stats.beta.ppf(0.95, failed + 1, n - failed))


def replicate_choices(confirm: pd.DataFrame) -> dict[str, list[ReplicateChoice]]:
    """{arm: what each replicate of the search chose}.

    Args:
        confirm: confirm rows of a cell, those with a replicate among them.
    """
    of_replicates = confirm[confirm["replicate"].notna()]
    choices: dict[str, list[ReplicateChoice]] = {}
    for (arm, replicate), rows in of_replicates.groupby(["arm", "replicate"]):
        first = rows.iloc[0]
        choices.setdefault(str(arm), []).append(
            ReplicateChoice(
                replicate=int(str(replicate).partition(".")[0]),
                loss=str(first["loss"]),
                epsilon=float(first["epsilon"]),
                lr=None if pd.isna(first["lr"]) else float(first["lr"]),
                accuracy=mean_interval(rows["test_acc"]),
            )
        )
    return choices
