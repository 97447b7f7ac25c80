"""Where the verdict on a cell is made: `judge` decides, from the interval of the regret.

Regret is test accuracy at tuned ε minus test accuracy at analytic ε, on fresh seeds that no earlier
stage used, paired by seed. Choosing on one stage and measuring on another avoids the winner's
curse.
"""

from __future__ import annotations

import pandas as pd

from analysis.data.load import StudyCell
from analysis.inference.intervals import CONFIDENCE, equivalence, mean_interval, non_inferiority
from analysis.inference.records import (
    NO_VALUES,
    CellVerdict,
    CrossEntropyReference,
    Interval,
    RegretInterval,
    RuleVerdict,
    Verdict,
)
from study.results.arms import CE, TUNED, ZERO, Arm, analytic_arm
from study.results.schema import Stage, Status

PREFERRED_RULE = "activation"
"""The paper's rule; the verdict is about this one where it was run."""


def conclude(regret: Interval, margin: float) -> Verdict:
    """Non-inferior, inferior or inconclusive, from the interval of a regret.

    Args:
        regret: mean and 90 % interval, fractions of accuracy.
        margin: δ, a fraction of accuracy.
    """
    if regret.low is None or regret.high is None:
        return Verdict.INCONCLUSIVE
    if regret.high < margin:
        return Verdict.NON_INFERIOR
    return Verdict.INFERIOR if regret.low > margin else Verdict.INCONCLUSIVE


def judge(regret: Interval, control: Interval | None, margin: float) -> tuple[Verdict, str]:
    """Verdict on one rule in one cell, and the reason in words.

    Args:
        regret: regret of the analytic arm.
        control: regret of arm `zero`; None where it was not run.
        margin: δ, a fraction of accuracy.

    Returns:
        the verdict, and a text for the column `reason`.
    """
    if regret.n == 0:
        return Verdict.INCONCLUSIVE, "no paired confirm networks of arms tuned and analytic"
    if regret.n == 1:
        return Verdict.INCONCLUSIVE, "one confirm seed has no spread; at least two are needed"
    if control is not None and conclude(control, margin) == Verdict.NON_INFERIOR:
        return Verdict.INSENSITIVE, "ε = 0 is itself within the margin of tuned ε"
    verdict = conclude(regret, margin)
    reason = {
        Verdict.NON_INFERIOR: "the whole interval lies below the margin",
        Verdict.INFERIOR: "the whole interval lies above the margin",
        Verdict.INCONCLUSIVE: "the interval contains the margin",
    }[verdict]
    if control is None and verdict == Verdict.NON_INFERIOR:
        reason += "; without arm zero the cell's sensitivity to ε is not shown"
    return verdict, reason


def judge_cell(
    cell: StudyCell, rows: pd.DataFrame, reference: pd.DataFrame, margin: float
) -> tuple[CellVerdict, pd.DataFrame]:
    """Regrets and verdict of one cell.

    Args:
        cell: the cell.
        rows: its rows of `trials`, all stages.
        reference: confirm rows of plain cross-entropy, from `load.reference_rows`.
        margin: δ.

    Returns:
        the verdict without the response to ε, and the paired `regrets`.
    """
    table = confirm_table(rows[rows["stage"] == Stage.CONFIRM], reference)
    pairs = regrets(table)
    differences = {str(arm): group["regret"] for arm, group in pairs.groupby("arm")}
    intervals = {arm: mean_interval(values) for arm, values in differences.items()}
    analytic = _analytic_epsilon(rows)
    rules = list(analytic)
    by_rule = {}
    for rule in reversed(rules):
        arm = analytic_arm(rule)
        verdict, reason = judge(intervals.get(arm, NO_VALUES), intervals.get(ZERO), margin)
        paired = differences[arm].tolist() if arm in differences else []
        by_rule[rule] = RuleVerdict(
            verdict, reason, non_inferiority(paired, margin), equivalence(paired, margin)
        )
    if not rules:
        verdict, reason = Verdict.INCONCLUSIVE, "no analytic arm was run"
    else:
        verdict, reason = by_rule[rules[0]].verdict, by_rule[rules[0]].reason
        if TUNED not in table:
            reason = "no confirm networks of arm tuned"
    judged = CellVerdict(
        cell_id=cell.cell_id,
        dataset=cell.dataset,
        noise_kind=cell.noise_kind,
        noise_rate=cell.noise_rate,
        model=cell.model,
        loss=cell.loss,
        classes=cell.classes,
        epsilon_analytic=analytic,
        epsilon_tuned=tuned_epsilon(rows),
        rule=rules[0] if rules else None,
        regret={rule: _regret_interval(differences.get(analytic_arm(rule))) for rule in rules},
        controls={arm: i for arm, i in intervals.items() if _rule_of(arm) is None},
        accuracy={str(arm): mean_interval(table[arm]) for arm in table},
        reference=_reference(reference),
        confidence=CONFIDENCE,
        margin=margin,
        verdict=verdict,
        reason=reason,
        by_rule=by_rule,
    )
    return judged, pairs


def confirm_table(confirm: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of a cell's confirm stage, shape (seeds, arms); NaN where an arm lacks a seed.

    Args:
        confirm: the cell's confirm rows of `trials`.
        reference: confirm rows of plain cross-entropy, from `load.reference_rows`.
    """
    rows = pd.concat([confirm[confirm["arm"] != CE], reference]).dropna(subset=["arm", "seed"])
    return rows.pivot_table(index="seed", columns="arm", values="test_acc", aggfunc="mean")


def regrets(table: pd.DataFrame, reference: str = TUNED) -> pd.DataFrame:
    """Paired differences reference − arm.

    Args:
        table: from `confirm_table`.
        reference: the arm that the others are compared with.

    Returns:
        columns arm, seed, regret (a fraction); no rows where the reference is absent.
    """
    if reference not in table:
        return pd.DataFrame({"arm": [], "seed": [], "regret": []})
    difference = table.drop(columns=reference).rsub(table[reference], axis=0)
    out = difference.melt(ignore_index=False, var_name="arm", value_name="regret")
    return out.dropna(subset=["regret"]).reset_index()[["arm", "seed", "regret"]]


def tuned_epsilon(rows: pd.DataFrame) -> float | None:
    """The ε that tuning chose: of the confirm arm `tuned`, else of the best search network.

    Args:
        rows: a cell's rows of `trials`, all stages.
    """
    tuned = rows[rows["arm"] == TUNED]
    confirm = tuned[tuned["stage"] == Stage.CONFIRM]
    if len(confirm):
        return float(confirm["epsilon"].median())
    search = tuned[(tuned["stage"] == Stage.SEARCH) & (tuned["status"] == Status.COMPLETE)]
    search = search.dropna(subset=["val_acc_noisy"])
    if search.empty:
        return None
    return float(search["epsilon"].to_numpy()[search["val_acc_noisy"].to_numpy().argmax()])


def _analytic_epsilon(rows: pd.DataFrame) -> dict[str, float]:
    """{rule: ε} of a cell's analytic arms; the preferred rule first, then by name."""
    epsilon = {}
    for arm, group in rows.groupby("arm"):
        rule = _rule_of(str(arm))
        if rule is not None:
            epsilon[rule] = float(group["epsilon"].iloc[-1])
    return {r: epsilon[r] for r in sorted(epsilon, key=lambda r: (r != PREFERRED_RULE, r))}


def _rule_of(arm_name: str) -> str | None:
    """The rule of an analytic arm; None for other arms."""
    arm = Arm.of_row(arm_name)
    return arm.rule if arm.is_analytic else None


def _regret_interval(differences: pd.Series[float] | None) -> RegretInterval:
    values = [] if differences is None else differences.tolist()
    usual, wide = mean_interval(values), mean_interval(values, 0.95)
    return RegretInterval(usual.mean, usual.low, usual.high, usual.n, wide.low, wide.high)


def _reference(rows: pd.DataFrame) -> CrossEntropyReference | None:
    if rows.empty:
        return None
    clean, noisy = (
        None if pd.isna(mean := rows[metric].mean()) else float(mean)
        for metric in ("val_acc_clean", "val_acc_noisy")
    )
    return CrossEntropyReference(str(rows["cell_id"].iloc[0]), clean, noisy)
