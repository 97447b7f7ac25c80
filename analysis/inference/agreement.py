"""Does analytic ε agree with tuned ε? Regret, its interval, and the verdict.

Regret is test accuracy at tuned ε minus test accuracy at analytic ε, on fresh seeds that no earlier
stage used, paired by seed. Choosing on one stage and measuring on another avoids the winner's
curse. With few seeds the t interval holds its level and the percentile bootstrap does not
(docs/statistics.md), so t it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.load import ANALYTIC, LoadError

CONFIDENCE = 0.90  # two-sided; its upper end is the one-sided 95 % bound of non-inferiority
PREFERRED_RULE = "activation"  # the paper's; the verdict is about this rule where it was run

VERDICTS = {
    "non_inferior": "analytic ε is as good as tuned ε",
    "inferior": "analytic ε is worse than tuned ε",
    "inconclusive": "too few data to tell",
    "insensitive": "even ε = 0 is as good, so the cell cannot tell",
}


@dataclass(frozen=True)
class Interval:
    """A mean with its t interval; low and high are None below two values."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def asdict(self) -> dict[str, Any]:
        """Plain dict, for JSON."""
        return asdict(self)


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and two-sided t interval of independent values.

    Args:
        values: shape (n,), any unit; NaN is left out.
        confidence: two-sided level in (0, 1).
    """
    x = np.asarray(list(values), dtype=float)
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return Interval(None, None, None, 0)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def confirm_table(own: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of a cell's confirm stage, shape (seeds, arms); NaN where an arm lacks a seed.

    Args:
        own: the cell's confirm rows of `trials`.
        reference: confirm rows of plain CE beside the cell, from `load.reference_rows`.
    """
    rows = pd.concat([own[own["arm"] != "ce"], reference]).dropna(subset=["arm", "seed"])
    return rows.pivot_table(index="seed", columns="arm", values="test_acc", aggfunc="mean")


def regrets(table: pd.DataFrame, reference: str = "tuned") -> pd.DataFrame:
    """Paired differences reference − arm of a `confirm_table`: columns arm, seed, regret."""
    if reference not in table:
        return pd.DataFrame({"arm": [], "seed": [], "regret": []})
    difference = table.drop(columns=reference).rsub(table[reference], axis=0)
    out = difference.melt(ignore_index=False, var_name="arm", value_name="regret")
    return out.dropna(subset=["regret"]).reset_index()[["arm", "seed", "regret"]]


def conclude(regret: Interval, margin: float) -> str:
    """non_inferior | inferior | inconclusive, from a regret's interval and the margin δ."""
    if regret.low is None or regret.high is None:
        return "inconclusive"
    if regret.high < margin:
        return "non_inferior"
    return "inferior" if regret.low > margin else "inconclusive"


def non_inferiority(differences: Iterable[float], margin: float) -> float | None:
    """One-sided p value of mean difference < margin; None below two values."""
    x = np.asarray(list(differences), dtype=float)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return None
    spread = x.std(ddof=1) / np.sqrt(len(x))
    if spread == 0:
        return float(x.mean() >= margin)
    return float(stats.t.cdf((x.mean() - margin) / spread, len(x) - 1))


def equivalence(differences: Sequence[float], margin: float) -> float | None:
    """TOST p value of |mean difference| < margin (Schuirmann 1987); None below two values."""
    upper = non_inferiority(differences, margin)
    lower = non_inferiority([-d for d in differences], margin)
    return None if upper is None or lower is None else max(upper, lower)


def judge(regret: Interval, control: Interval | None, margin: float) -> tuple[str, str]:
    """Verdict of one cell and rule, and the reason in words.

    Args:
        regret: of the analytic arm.
        control: of arm `zero`; None where it was not run.
        margin: δ.
    """
    if regret.n == 0:
        return "inconclusive", "no paired confirm networks of arms tuned and analytic"
    if regret.n == 1:
        return "inconclusive", "one confirm seed has no spread; two are the least"
    if control is not None and conclude(control, margin) == "non_inferior":
        return "insensitive", "ε = 0 is itself within the margin of tuned ε"
    verdict = conclude(regret, margin)
    reason = {
        "non_inferior": "the whole interval lies below the margin",
        "inferior": "the whole interval lies above the margin",
        "inconclusive": "the interval contains the margin",
    }[verdict]
    if control is None and verdict == "non_inferior":
        reason += "; without arm zero the cell's sensitivity to ε is not shown"
    return verdict, reason


def judge_cell(
    cell: pd.Series, own: pd.DataFrame, reference: pd.DataFrame, margin: float
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Regrets and verdict of one cell.

    Args:
        cell: a row of `load.cells`.
        own: the cell's rows of `trials`, all stages.
        reference: confirm rows of plain CE beside the cell, from `load.reference_rows`.
        margin: δ.

    Returns:
        the cell's entry of `verdict.json` but for the response, and the paired `regrets`.
    """
    table = confirm_table(own[own["stage"] == "confirm"], reference)
    pairs = regrets(table)
    intervals = {str(arm): mean_interval(g["regret"]) for arm, g in pairs.groupby("arm")}
    last = {str(arm): float(g["epsilon"].iloc[-1]) for arm, g in own.groupby("arm")}
    analytic = {a.removeprefix(ANALYTIC): e for a, e in last.items() if a.startswith(ANALYTIC)}
    rules = sorted(analytic, key=lambda r: (r != PREFERRED_RULE, r))
    nothing = Interval(None, None, None, 0)
    control = intervals.get("zero")
    by_rule, main = {}, ("", "")
    for rule in reversed(rules):
        regret = intervals.get(ANALYTIC + rule, nothing)
        main = verdict, reason = judge(regret, control, margin)
        differences = pairs.loc[pairs["arm"] == ANALYTIC + rule, "regret"].tolist()
        by_rule[rule] = {
            "verdict": verdict,
            "reason": reason,
            "non_inferiority_p": non_inferiority(differences, margin),
            "equivalence_p": equivalence(differences, margin),
        }
    verdict, reason = ("inconclusive", "no analytic arm was run") if not rules else main
    if "tuned" not in table and rules:
        reason = "no confirm networks of arm tuned"
    keys = ["cell_id", "dataset", "noise_kind", "noise_rate", "model", "loss"]
    judged = {
        **{key: cell[key] for key in keys},
        "noise_rate": float(cell["noise_rate"]),
        "classes": int(cell["classes"]),
        "epsilon_analytic": {rule: analytic[rule] for rule in rules},
        "epsilon_tuned": tuned_epsilon(own),
        "rule": rules[0] if rules else None,
        "regret": {
            r: {**intervals.get(ANALYTIC + r, nothing).asdict(), **_two_sided_95(pairs, r)}
            for r in rules
        },
        "controls": {
            arm: i.asdict() for arm, i in intervals.items() if not arm.startswith(ANALYTIC)
        },
        "accuracy": {arm: mean_interval(table[arm]).asdict() for arm in table},
        "reference": _reference(reference),
        "confidence": CONFIDENCE,
        "margin": margin,
        "verdict": verdict,
        "reason": reason,
        "by_rule": by_rule,
    }
    return judged, pairs


def _two_sided_95(pairs: pd.DataFrame, rule: str) -> dict[str, float | None]:
    """The same interval at 95 %, for readers who want the usual level; no verdict uses it."""
    wide = mean_interval(pairs.loc[pairs["arm"] == ANALYTIC + rule, "regret"], 0.95)
    return {"low_95": wide.low, "high_95": wide.high}


def _reference(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Plain CE beside the cell: where its rows are, and its mean validation accuracies."""
    if rows.empty:
        return None
    means = {m: rows[m].mean() for m in ("val_acc_clean", "val_acc_noisy")}
    return {
        "cell_id": str(rows["cell_id"].iloc[0]),
        **{m: None if pd.isna(v) else float(v) for m, v in means.items()},
    }


def tuned_epsilon(rows: pd.DataFrame) -> float | None:
    """The ε that tuning chose: of the confirm arm `tuned`, else of the best search network."""
    tuned = rows[rows["arm"] == "tuned"]
    confirm = tuned[tuned["stage"] == "confirm"]
    if len(confirm):
        return float(confirm["epsilon"].median())
    search = tuned[(tuned["stage"] == "search") & (tuned["status"] == "complete")]
    search = search.dropna(subset=["val_acc_noisy"])
    if search.empty:
        return None
    return float(search["epsilon"].to_numpy()[search["val_acc_noisy"].to_numpy().argmax()])


def verdict_paragraph(verdict: dict[str, Any]) -> str:
    """The answer in one plain-text paragraph: what was compared, n, regret, margin, conclusion.

    Args:
        verdict: as `verdict.analyse` returns it.

    Raises:
        LoadError: a verdict without cells.
    """
    cells, pooled = verdict["cells"], verdict["pooled"]
    if not cells:
        raise LoadError(f"{verdict['study']}: no cell compares analytic with tuned ε")
    margin, regret = pooled["margin"], pooled["regret"]
    counts = pooled["counts"]
    what = (
        f"{_join(_distinct(cells, 'loss'))} on {_join(_distinct(cells, 'dataset'))}: "
        f"{_count(len(cells), 'cell')}, rule {_join(_distinct(cells, 'rule')) or 'none'}."
    )
    answer = {
        "non_inferior": "Analytic ε agrees with tuned ε",
        "inferior": "Analytic ε does not agree with tuned ε",
        "inconclusive": "Undecided whether analytic ε agrees with tuned ε",
        "insensitive": "This study cannot tell whether analytic ε agrees with tuned ε",
    }[pooled["verdict"]]
    if pooled["verdict"] == "non_inferior" and counts["inferior"]:
        answer += " on average, but not in every cell"
    if pooled["verdict"] == "insensitive":
        middle = f"in every cell even ε = 0 is within {points(margin)} points of tuned ε."
    elif regret["low"] is None:
        middle = (
            "the confirm stage has fewer than two paired seeds"
            if regret["mean"] is None
            else f"regret is {points(regret['mean'])} points on one seed, without an interval"
        ) + f"; the margin is {points(margin)}."
    else:
        relation = {
            "non_inferior": "the interval lies below",
            "inferior": "the interval lies above",
            "inconclusive": "the interval contains",
        }[pooled["verdict"]]
        middle = (
            f"on {_count(regret['n'], 'fresh paired seed')}, test accuracy at tuned "
            f"minus analytic ε is {points(regret['mean'])} percentage points "
            f"({100 * pooled['confidence']:.0f} % interval {points(regret['low'])} to "
            f"{points(regret['high'])}), averaged over "
            f"{_count(pooled['sensitive_cells'], 'cell')} that ε matters in; "
            f"{relation} the margin of {points(margin)}."
        )
    by_cell = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in counts.items() if n)
    tail = f" By cell: {by_cell}."
    return f"{answer} ({what.rstrip('.')}): {middle}{tail}"


def points(fraction: float) -> str:
    """A fraction as percentage points with two decimals and a true minus sign."""
    text = f"{100 * fraction:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def _distinct(cells: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(c[key]) for c in cells if c[key] is not None))


def _join(names: list[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
