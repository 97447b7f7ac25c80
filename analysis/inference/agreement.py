"""Where the verdict on a cell is made: `judge` decides, from the value of analytic ε.

The value is what analytic ε costs against the best ε, each at its best learning rate
(`analysis.inference.value`): test accuracy on fresh seeds that no earlier stage used, paired by
seed. Choosing on one stage and measuring on another avoids the winner's curse. What a user gains by
tuning is another question (`analysis.inference.procedure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.data.completeness import CellPlan, cell_completeness
from analysis.data.load import StudyCell
from analysis.inference.arm_summaries import arm_summaries, replicate_choices
from analysis.inference.cell_records import (
    CellVerdict,
    CrossEntropyReference,
    RuleVerdict,
)
from analysis.inference.comparison import ArmComparison, confirm_table, rule_of
from analysis.inference.examples import example_effects
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.inference.procedure import Gain, procedure
from analysis.inference.records import Cost, Interval, Procedure, Verdict
from analysis.inference.recovered import Gains, recovered
from analysis.inference.value import Contrast, cost
from analysis.response.surface import CellSurface
from study.results.arms import BEST, CE, TUNED, ZERO, analytic_arm
from study.results.schema import Stage, Status

PREFERRED_RULE = "activation"
"""The paper's rule; the verdict is about this one where it was run."""

SAME_EPSILON_REASON = "best and analytic ε are the same ε, so that nothing is measured"

NO_BEST = "the study has no arm best, so the value of analytic ε is not measured"
NO_PAIRS = "no paired confirm networks of arms best and analytic"
NO_SURFACE = (
    "too few networks of search and sweep to know whether the confirmed points are the best"
)


@dataclass(frozen=True)
class JudgedCell:
    """The verdict on a cell, and what a verdict over cells needs of it.

    Attributes:
        verdict: without the response to ε.
        pairs: paired differences comparator − arm, columns arm, seed, regret.
        values: {rule: contrast of best and analytic arm}.
        gains: {rule: contrasts with arm zero}.
        tuning: {rule: gain of tuning by replicate}.
    """

    verdict: CellVerdict
    pairs: pd.DataFrame
    values: dict[str, Contrast] = field(default_factory=dict)
    gains: dict[str, Gains] = field(default_factory=dict)
    tuning: dict[str, Gain] = field(default_factory=dict)


def conclude(value: Interval, margin: float) -> Verdict:
    """Equivalent, non-inferior, inferior or undecided, from the interval of a cost.

    Args:
        value: cost of analytic ε, two-sided at `CONFIDENCE`.
        margin: δ.
    """
    if value.low is None or value.high is None:
        return Verdict.UNDECIDED
    if value.low > margin:
        return Verdict.INFERIOR
    if value.high < margin:
        return Verdict.EQUIVALENT if value.low > -margin else Verdict.NON_INFERIOR
    return Verdict.UNDECIDED


def judge(
    value: Cost | None, zero: Cost | None, over_zero: Cost | None, margin: float
) -> tuple[Verdict, str]:
    """Verdict on the value of one rule in one cell, and the reason in words.

    Analytic ε is judged first. A cell cannot tell only where the confirmed analytic ε, ε = 0 and
    best ε are mutually equivalent as measured; the surface may still leave room for a better ε.

    Args:
        value: cost of analytic ε against the best ε; None where it was not measured.
        zero: cost of ε = 0 against the best ε; None where it was not run.
        over_zero: accuracy of analytic ε minus that of ε = 0; None likewise.
        margin: δ.
    """
    if value is None:
        return Verdict.UNDECIDED, NO_BEST
    if value.mean is None and value.same_epsilon:
        return Verdict.UNDECIDED, SAME_EPSILON_REASON
    if value.mean is None:
        return Verdict.UNDECIDED, NO_PAIRS
    if value.low is None:
        return Verdict.UNDECIDED, "one confirm seed has no spread; two are the least"
    verdict = conclude(value, margin)
    measured = [c.measured for c in (value, zero, over_zero) if c is not None]
    if verdict == Verdict.INFERIOR:
        pass
    elif len(measured) == 3 and all(conclude(m, margin) == Verdict.EQUIVALENT for m in measured):
        verdict = Verdict.CANNOT_TELL
    elif verdict.agrees and not value.has_surface:
        return Verdict.UNDECIDED, NO_SURFACE
    reason = {
        Verdict.EQUIVALENT: "the whole interval lies within ± the margin",
        Verdict.NON_INFERIOR: "the whole interval lies below the margin",
        Verdict.INFERIOR: "the whole interval lies above the margin",
        Verdict.UNDECIDED: "the interval contains the margin",
        Verdict.CANNOT_TELL: "analytic ε, ε = 0 and the best ε are within the margin of each other",
    }[verdict]
    if value.leads:
        reason += "; search and sweep rank analytic ε first, so it is compared with the strongest "
        reason += "challenger at another ε"
    if zero is None and verdict.agrees:
        reason += "; without arm zero the cell's sensitivity to ε is not shown"
    return verdict, reason


def is_evidence(zero: Interval | None, margin: float) -> bool:
    """Whether ε = 0 is shown to cost more than the margin.

    Args:
        zero: cost of ε = 0 against the best ε; None where it was not run.
        margin: δ.
    """
    return zero is not None and conclude(zero, margin) == Verdict.INFERIOR


def judge_cell(
    cell: StudyCell,
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    margin: float,
    plan: CellPlan | None = None,
    correct: Mapping[Any, bytes] | None = None,
    surface: CellSurface | None = None,
) -> JudgedCell:
    """Value, procedure and verdict of one cell.

    Args:
        cell: the cell.
        rows: its rows of `trials`, all stages.
        reference: confirm rows of plain cross-entropy, from `load.reference_rows`.
        margin: δ.
        plan: its planned confirm networks; None where unknown.
        correct: {label of a row: what the network gets right}, from `Study.test_correct`.
        surface: of the cell's search and sweep; None where there are too few networks for one.
    """
    cell_confirm = rows[rows["stage"] == Stage.CONFIRM]
    confirm = pd.concat([cell_confirm[cell_confirm["arm"] != CE], reference])
    pooled = confirm[confirm["replicate"].isna()].dropna(subset=["arm", "seed"])
    table = confirm_table(pooled)
    names = {str(name) for name in table}
    comparator = BEST if BEST in names else TUNED if TUNED in names else None
    compare = ArmComparison(cell, pooled, table, correct or {}, surface)
    analytic = _analytic_epsilon(rows)
    costs = {}
    if comparator is not None:
        others = [name for name in table if name != comparator]
        costs = {
            str(arm): compare.cost_contrast(str(arm))
            if comparator == BEST
            else compare.contrast(comparator, str(arm))
            for arm in others
        }
    controls = {
        arm: cost(contrast, margin) for arm, contrast in costs.items() if rule_of(arm) is None
    }
    values: dict[str, Contrast] = {}
    gains: dict[str, Gains] = {}
    for rule in analytic if comparator == BEST else ():
        arm = analytic_arm(rule)
        if arm in costs:
            values[rule] = costs[arm]
            if ZERO in costs and not costs[arm].same_epsilon:
                gains[rule] = Gains(costs[ZERO], compare.contrast(arm, ZERO), costs[arm])
    value = {rule: cost(contrast, margin) for rule, contrast in values.items()}
    over_zero = {rule: cost(g.analytic_over_zero, margin) for rule, g in gains.items()}
    tuning = _tuning(cell, cell_confirm, list(analytic), correct or {})
    completeness = cell_completeness(cell_confirm, plan, comparator)
    verdicts = {}
    no_pairs = cost(Contrast(cell.cell_id, cell.dataset, pd.Series(dtype=float)), margin)
    for rule in analytic:
        # Without any confirm network, nothing says that the study has no arm best.
        measured = value.get(rule) or (None if comparator == TUNED else no_pairs)
        verdict, reason = judge(measured, controls.get(ZERO), over_zero.get(rule), margin)
        if not completeness.is_complete:
            reason += f"; incomplete: {completeness.sentence}"
        verdicts[rule] = RuleVerdict(verdict, reason)
    rules = list(analytic)
    if rules:
        verdict, reason = verdicts[rules[0]].verdict, verdicts[rules[0]].reason
    else:
        verdict, reason = Verdict.UNDECIDED, "no analytic arm was run"
    tuned = _tuned_epsilons(rows)
    judged = CellVerdict(
        cell_id=cell.cell_id,
        dataset=cell.dataset,
        noise_kind=cell.noise_kind,
        noise_rate=cell.noise_rate,
        model=cell.model,
        loss=cell.loss,
        classes=cell.classes,
        epsilon_analytic=analytic,
        epsilon_tuned=float(pd.Series(tuned).median()) if tuned else None,
        epsilon_tuned_by_replicate=tuned,
        rule=rules[0] if rules else None,
        comparator=comparator,
        value=value,
        over_zero=over_zero,
        controls=controls,
        procedure=_procedures(tuning, margin),
        recovered={rule: recovered([g]) for rule, g in gains.items()},
        accuracy={str(arm): mean_interval(table[arm]) for arm in table},
        arms=arm_summaries(pooled, plan, cell.classes),
        choices=replicate_choices(cell_confirm),
        reference=_reference(reference),
        confidence=CONFIDENCE,
        margin=margin,
        evidence=comparator == BEST and is_evidence(controls.get(ZERO), margin),
        verdict=verdict,
        reason=reason,
        verdicts=verdicts,
        completeness=completeness,
    )
    pairs = pd.concat(
        [pd.DataFrame({"arm": [], "seed": [], "regret": []})]
        + [
            contrast.differences.rename("regret").rename_axis("seed").reset_index().assign(arm=arm)
            for arm, contrast in costs.items()
            if len(contrast.differences)
        ]
    )
    return JudgedCell(judged, pairs, values, gains, tuning)


def _tuning(
    cell: StudyCell, confirm: pd.DataFrame, rules: list[str], correct: Mapping[Any, bytes]
) -> dict[str, Gain]:
    """{rule: tuned minus analytic choice}, by replicate; of the one search of an older study."""
    of_replicates = confirm[confirm["replicate"].notna()]
    rows = of_replicates if len(of_replicates) else confirm.assign(replicate=0)
    rows = rows.dropna(subset=["seed"])
    table = rows.pivot_table(
        index=["replicate", "seed"], columns="arm", values="test_acc", aggfunc="mean"
    )
    bits: dict[str, dict[int, bytes]] = {}
    for label, arm, seed in zip(rows.index, rows["arm"], rows["seed"], strict=True):
        if label in correct:
            bits.setdefault(str(arm), {})[int(seed)] = correct[label]
    gains = {}
    for rule in rules:
        arm = analytic_arm(rule)
        if TUNED not in table or arm not in table:
            continue
        difference = (table[TUNED] - table[arm]).dropna().rename("difference").reset_index()
        difference = difference.astype({"replicate": int})
        examples = None
        if {TUNED, arm} <= set(bits):
            examples = example_effects(bits[TUNED], bits[arm])
        gains[rule] = Gain(cell.cell_id, cell.dataset, difference, examples)
    return gains


def _procedures(tuning: Mapping[str, Gain], margin: float) -> dict[str, Procedure]:
    results = {rule: procedure([gain], margin) for rule, gain in tuning.items()}
    return {rule: result for rule, result in results.items() if result is not None}


def _tuned_epsilons(rows: pd.DataFrame) -> list[float]:
    """The ε that each search chose: of the confirm arm `tuned`, else of its best network."""
    tuned = rows[rows["arm"] == TUNED]
    tuned = tuned.assign(replicate=tuned["replicate"].fillna(-1))
    confirm = tuned[tuned["stage"] == Stage.CONFIRM]
    if len(confirm):
        return [float(group["epsilon"].median()) for _, group in confirm.groupby("replicate")]
    search = tuned[(tuned["stage"] == Stage.SEARCH) & (tuned["status"] == Status.COMPLETE)]
    search = search.dropna(subset=["val_acc_noisy"])
    return [
        float(group["epsilon"].to_numpy()[group["val_acc_noisy"].to_numpy().argmax()])
        for _, group in search.groupby("replicate")
    ]


def _analytic_epsilon(rows: pd.DataFrame) -> dict[str, float]:
    """{rule: ε} of a cell's analytic arms; the preferred rule first, then by name."""
    epsilon = {}
    for arm, group in rows.groupby("arm"):
        rule = rule_of(str(arm))
        if rule is not None:
            epsilon[rule] = float(group["epsilon"].iloc[-1])
    return {r: epsilon[r] for r in sorted(epsilon, key=lambda r: (r != PREFERRED_RULE, r))}


def _reference(rows: pd.DataFrame) -> CrossEntropyReference | None:
    if rows.empty:
        return None
    clean, noisy = (
        None if pd.isna(mean := rows[metric].mean()) else float(mean)
        for metric in ("val_acc_clean", "val_acc_noisy")
    )
    return CrossEntropyReference(str(rows["cell_id"].iloc[0]), clean, noisy)
