"""The tables below `analysis/tables/`: tidy frames made from a verdict, and their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import NO_VALUES, Interval, VarianceShares
from analysis.inference.study_records import NoiseSlope, ValueAgreement
from study.results.arms import BEST, analytic_arm

_LATEX_OMITS = {"reason", "missing"}  # sentences do not fit a printed table


def cell_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell: factors, ε, value, gain of tuning, share recovered, verdict."""
    return pd.DataFrame([_cell_row(cell) for cell in judged])


def _cell_row(cell: CellVerdict) -> dict[str, Any]:
    best, region = cell.epsilon_best, cell.indifference
    value, tuning = cell.primary_value or NO_VALUES, cell.primary_procedure or NO_VALUES
    share = cell.recovered.get(cell.rule or "")
    chosen = cell.arms.get(BEST)
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
        "epsilon_confirmed": chosen and chosen.epsilon,
        "epsilon_tuned": cell.epsilon_tuned,
        "epsilon_best": best and best.value,
        "epsilon_best_low": best and best.low,
        "epsilon_best_high": best and best.high,
        "on_edge": best and best.on_edge,
        "flat": best and best.flat,
        "indifference_low": region and region.low,
        "indifference_high": region and region.high,
        "value": value.mean,
        "value_low": value.low,
        "value_high": value.high,
        "value_n": value.n,
        "procedure": tuning.mean,
        "procedure_low": tuning.low,
        "procedure_high": tuning.high,
        "searches": tuning.n,
        "recovered": share and share.value,
        "recovered_low": share and share.low,
        "recovered_high": share and share.high,
        "evidence": cell.evidence,
        "margin": cell.margin,
        "verdict": cell.verdict.value,
        "reason": cell.reason,
        "missing": cell.completeness.sentence,
    }


def cost_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell and arm: cost against the comparator, its interval, and its parts."""
    rows = []
    for cell in judged:
        for arm, c in cell.cost_by_arm.items():
            measured = (c.measured.mean, c.measured.low, c.measured.high)
            ends = (c.mean, c.low, c.high, c.n)
            rows.append((cell.cell_id, cell.comparator, arm, *ends, *measured, c.adjustment))
    columns = ["cell_id", "comparator", "arm", "mean", "low", "high", "n"]
    columns += ["measured", "measured_low", "measured_high", "adjustment"]
    return pd.DataFrame(rows, columns=columns)


def arm_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell and arm of the confirm stage on the common seeds.

    Columns: ε and learning rate, test accuracy, cost against the comparator, networks, failures.
    """
    rows = []
    for cell in judged:
        costs = {arm: c for arm, c in cell.cost_by_arm.items()}
        tuning: dict[str, Interval] = {}
        if cell.comparator != BEST:  # one search: the paired difference is that of the procedure
            tuning = {analytic_arm(r): p.over_seeds for r, p in cell.procedure.items()}
        for arm, summary in cell.arms.items():
            against = costs.get(arm) or tuning.get(arm) or NO_VALUES
            accuracy = summary.accuracy
            rows.append(
                {
                    "cell_id": cell.cell_id,
                    "arm": arm,
                    "loss": summary.loss,
                    "epsilon": summary.epsilon,
                    "lr": summary.lr,
                    "accuracy": accuracy.mean,
                    "accuracy_low": accuracy.low,
                    "accuracy_high": accuracy.high,
                    "n": accuracy.n,
                    "comparator": cell.comparator,
                    "cost": against.mean,
                    "cost_low": against.low,
                    "cost_high": against.high,
                    "planned": summary.planned,
                    "missing": summary.missing,
                    "diverged": summary.diverged,
                    "not_finite": summary.not_finite,
                    "failed": summary.failed,
                    "failure_bound": summary.failure_bound,
                }
            )
    columns = ["cell_id", "arm", "loss", "epsilon", "lr", "accuracy", "accuracy_low"]
    columns += ["accuracy_high", "n", "comparator", "cost", "cost_low", "cost_high", "planned"]
    columns += ["missing", "diverged", "not_finite", "failed", "failure_bound"]
    return pd.DataFrame(rows, columns=columns)


def choice_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell, arm and replicate of the search: what it chose, and its test accuracy."""
    rows = [
        (
            *(cell.cell_id, arm, choice.replicate, choice.loss, choice.epsilon, choice.lr),
            *(choice.accuracy.mean, choice.accuracy.n),
        )
        for cell in judged
        for arm, choices in cell.choices.items()
        for choice in choices
    ]
    columns = ["cell_id", "arm", "replicate", "loss", "epsilon", "lr", "accuracy", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def procedure_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell, rule and replicate: what tuning ε as well gained."""
    rows = [
        (cell.cell_id, rule, gain.replicate, gain.mean, gain.seeds)
        for cell in judged
        for rule, result in cell.procedure.items()
        for gain in result.replicates
    ]
    return pd.DataFrame(rows, columns=["cell_id", "rule", "replicate", "gain", "seeds"])


def variance_table(judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell, rule and question: how the variance of its mean divides."""
    rows = []
    for cell in judged:
        for question, results in (("value", cell.value), ("procedure", cell.procedure)):
            for rule, result in results.items():
                shares: VarianceShares | None = result.shares
                if shares is not None:
                    rows.append(
                        {"cell_id": cell.cell_id, "rule": rule, "question": question}
                        | shares.to_json()
                    )
    columns = ["cell_id", "rule", "question", "searches", "seeds", "test_examples", "surface"]
    return pd.DataFrame(rows, columns=columns)


def value_agreement_table(agreement: dict[str, ValueAgreement]) -> pd.DataFrame:
    """One row per rule."""
    rows = [{"rule": rule, **a.to_json()} for rule, a in agreement.items()]
    return pd.DataFrame([{**row, "bounds": "; ".join(row["bounds"])} for row in rows])


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
