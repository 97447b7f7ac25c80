"""The tables below `analysis/tables/`: tidy frames made from a verdict, and their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.inference.records import NO_VALUES, CellVerdict, NoiseSlope, ValueAgreement

_LATEX_OMITS = {"reason"}  # sentences do not fit a printed table


def cell_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell: factors, analytic, tuned and best ε, primary regret, verdict."""
    return pd.DataFrame([_cell_row(cell) for cell in judged])


def _cell_row(cell: CellVerdict) -> dict[str, Any]:
    best, region, regret = cell.epsilon_best, cell.indifference, cell.primary_regret
    return {
        "cell_id": cell.cell_id,
        "dataset": cell.dataset,
        "classes": cell.classes,
        "noise_kind": cell.noise_kind,
        "noise_rate": cell.noise_rate,
        "model": cell.model,
        "loss": cell.loss,
        "rule": cell.rule,
        "epsilon_analytic": cell.primary_epsilon,
        "epsilon_tuned": cell.epsilon_tuned,
        "epsilon_best": best and best.value,
        "epsilon_best_low": best and best.low,
        "epsilon_best_high": best and best.high,
        "on_edge": best and best.on_edge,
        "flat": best and best.flat,
        "indifference_low": region and region.low,
        "indifference_high": region and region.high,
        "regret_mean": regret and regret.mean,
        "regret_low": regret and regret.low,
        "regret_high": regret and regret.high,
        "regret_n": regret and regret.n,
        "margin": cell.margin,
        "verdict": cell.verdict.value,
        "reason": cell.reason,
    }


def regret_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell and arm: regret against tuned ε with its interval, and n (seeds)."""
    rows = [
        (cell.cell_id, arm, r.mean, r.low, r.high, r.n)
        for cell in judged
        for arm, r in cell.regret_by_arm.items()
    ]
    return pd.DataFrame(rows, columns=["cell_id", "arm", "mean", "low", "high", "n"])


def arm_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell and arm of the confirm stage: test accuracy, and regret against tuned ε."""
    rows = []
    for cell in judged:
        regrets = cell.regret_by_arm
        for arm, accuracy in cell.accuracy.items():
            regret = regrets.get(arm, NO_VALUES)
            measured = (accuracy.mean, accuracy.low, accuracy.high, accuracy.n)
            rows.append((cell.cell_id, arm, *measured, regret.mean, regret.low, regret.high))
    columns = ["cell_id", "arm", "accuracy", "accuracy_low", "accuracy_high", "n"]
    return pd.DataFrame(rows, columns=[*columns, "regret", "regret_low", "regret_high"])


def value_agreement_table(agreement: dict[str, ValueAgreement]) -> pd.DataFrame:
    """One row per rule: the fields of `ValueAgreement`."""
    return pd.DataFrame([{"rule": rule, **a.to_json()} for rule, a in agreement.items()])


def noise_slope_table(slopes: Iterable[NoiseSlope]) -> pd.DataFrame:
    """One row per data set, model, loss and noise kind: `NoiseSlope` without `rates`."""
    return pd.DataFrame([s.to_json() for s in slopes]).drop(columns="rates", errors="ignore")


def concatenate(frames: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Join frames by rows; without any row, the result still has these columns."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled)[columns] if filled else pd.DataFrame(columns=columns)


def latex(table: pd.DataFrame) -> str:
    """A table as a LaTeX tabular with booktabs rules, numbers to three digits."""
    shown = table.drop(columns=[c for c in table if c in _LATEX_OMITS])
    return str(shown.to_latex(index=False, escape=True, float_format="%.3g", na_rep="--"))
