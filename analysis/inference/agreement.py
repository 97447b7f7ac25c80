"""Where the verdict on a cell is made: `judge` decides, from the value of analytic ε.

The value is what analytic ε costs against the best ε, each at its best learning rate
(`analysis.inference.value`): test accuracy on fresh seeds that no earlier stage used, paired by
seed. Choosing on one stage and measuring on another avoids the winner's curse. What a user gains by
tuning is another question (`analysis.inference.procedure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from scipy import stats

from analysis.data.completeness import CellPlan, cell_completeness
from analysis.data.evidence import confirmed_point
from analysis.data.load import StudyCell
from analysis.inference.examples import ExampleEffects, example_effects
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.inference.means import Array
from analysis.inference.procedure import Gain, procedure
from analysis.inference.records import (
    ArmSummary,
    CellVerdict,
    Cost,
    CrossEntropyReference,
    Interval,
    Procedure,
    ReplicateChoice,
    RuleVerdict,
    Verdict,
)
from analysis.inference.recovered import Gains, recovered
from analysis.inference.value import Contrast, cost, estimate
from analysis.response.surface import CellSurface, SurfaceDraws
from analysis.response.top import Measured
from study.results.arms import BEST, CE, TUNED, ZERO, Arm, analytic_arm
from study.results.schema import Stage, Status

PREFERRED_RULE = "activation"
"""The paper's rule; the verdict is about this one where it was run."""

SAME_EPSILON = 1e-6
"""Two ε that differ by less are the same."""

SAME_EPSILON_REASON = "best and analytic ε are the same ε, so that nothing is measured"

NO_BEST = "the study has no arm best, so the value of analytic ε is not measured"


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
    value: Cost | None, zero: Interval | None, over_zero: Interval | None, margin: float
) -> tuple[Verdict, str]:
    """Verdict on the value of one rule in one cell, and the reason in words.

    Analytic ε is judged first. A cell cannot tell only where analytic ε, ε = 0 and the best ε are
    mutually equivalent.

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
        return Verdict.UNDECIDED, "no paired confirm networks of arms best and analytic"
    if value.low is None:
        return Verdict.UNDECIDED, "one confirm seed has no spread; two are the least"
    verdict = conclude(value, margin)
    others = [interval for interval in (zero, over_zero) if interval is not None]
    if (
        verdict == Verdict.EQUIVALENT
        and len(others) == 2
        and all(conclude(interval, margin) == Verdict.EQUIVALENT for interval in others)
    ):
        verdict = Verdict.CANNOT_TELL
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
    compare = _Comparison(cell, pooled, table, correct or {}, surface)
    analytic = _analytic_epsilon(rows)
    costs = {}
    if comparator is not None:
        others = [name for name in table if name != comparator]
        costs = {str(arm): compare.contrast(comparator, str(arm)) for arm in others}
    controls = {
        arm: cost(contrast, margin) for arm, contrast in costs.items() if _rule_of(arm) is None
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
        measured = value.get(rule) if comparator != BEST else value.get(rule) or no_pairs
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
        arms=_arm_summaries(pooled, plan, cell.classes),
        choices=_choices(cell_confirm),
        reference=_reference(reference),
        confidence=CONFIDENCE,
        margin=margin,
        evidence=comparator == BEST and is_evidence(controls.get(ZERO), margin),
        verdict=verdict,
        reason=reason,
        verdicts=verdicts,
        completeness=completeness,
    )
    pairs = differences(table, comparator)
    pairs = pairs[~pairs["arm"].isin([arm for arm, c in costs.items() if c.same_epsilon])]
    return JudgedCell(judged, pairs, values, gains, tuning)


def confirm_table(confirm: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy on the common seeds, shape (seeds, arms); NaN where an arm lacks a seed.

    Args:
        confirm: confirm rows of a cell on the common seeds, with those of plain cross-entropy.
    """
    return confirm.pivot_table(index="seed", columns="arm", values="test_acc", aggfunc="mean")


def differences(table: pd.DataFrame, comparator: str | None) -> pd.DataFrame:
    """Paired differences comparator − arm.

    Args:
        table: from `confirm_table`.
        comparator: the arm that the others are compared with; None for no differences.

    Returns:
        columns arm, seed, regret (a fraction); no rows where the comparator is absent.
    """
    if comparator is None or comparator not in table:
        return pd.DataFrame({"arm": [], "seed": [], "regret": []})
    difference = table.drop(columns=comparator).rsub(table[comparator], axis=0)
    out = difference.melt(ignore_index=False, var_name="arm", value_name="regret")
    return out.dropna(subset=["regret"]).reset_index()[["arm", "seed", "regret"]]


def confirmed_epsilons(confirm: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """{arm: (loss with parameters, ε)} of confirm rows."""
    first = confirm.drop_duplicates("arm")
    return {
        str(row["arm"]): (f"{row['loss']} {row['loss_params']}", float(row["epsilon"]))
        for row in first[["arm", "loss", "loss_params", "epsilon"]].to_dict("records")
    }


def have_same_epsilon(one: tuple[str, float], other: tuple[str, float]) -> bool:
    """Whether two arms have the same loss and ε, from `confirmed_epsilons`."""
    return one[0] == other[0] and abs(one[1] - other[1]) < SAME_EPSILON


class _Comparison:
    """Contrasts of the pooled arms of one cell."""

    def __init__(
        self,
        cell: StudyCell,
        pooled: pd.DataFrame,
        table: pd.DataFrame,
        correct: Mapping[Any, bytes],
        surface: CellSurface | None,
    ) -> None:
        self._cell, self._table = cell, table
        self._epsilon = confirmed_epsilons(pooled)
        self._bits: dict[str, dict[int, bytes]] = {}
        for label, arm, seed in zip(pooled.index, pooled["arm"], pooled["seed"], strict=True):
            if label in correct:
                self._bits.setdefault(str(arm), {})[int(seed)] = correct[label]
        self._draws: SurfaceDraws | None = None
        self._leading: set[str] = set()  # analytic arms that the surface ranks above `best`
        if surface is not None and BEST in table:
            self._look_at(surface, pooled)

    def _look_at(self, surface: CellSurface, pooled: pd.DataFrame) -> None:
        """Ask the surface about the arms that lie on it."""
        on_it = pooled[pooled["rescale"].isna() & (pooled["arm"] != CE)]
        points = {str(arm): confirmed_point(rows) for arm, rows in on_it.groupby("arm")}
        arms = {arm: None if arm == BEST else point.epsilon for arm, point in points.items()}
        if not all(surface.has(point) for point in points.values()):
            return
        level = {arm: surface.level(point) for arm, point in points.items()}
        analytic = [arm for arm in points if _rule_of(arm) is not None]
        self._leading = {arm for arm in analytic if level[arm] > level[BEST]}
        measured = {}
        for arm in analytic:
            plain = estimate([self._plain(BEST, arm)])
            if plain is not None and plain.has_interval:
                error = 100 * plain.measured.error
                measured[arm] = Measured(100 * plain.measured.value, error)
        self._draws = surface.draw(arms, points, measured)

    def contrast(self, first: str, second: str) -> Contrast:
        """First arm minus second arm, with what the surface says about their points.

        Where the surface ranks analytic ε above `best`, what other arms lack of the best point is
        measured from the analytic arm.
        """
        leading = sorted(self._leading)
        if first == BEST and leading and _rule_of(second) is None:
            lack = self._lack("below", leading[0], second)
            return replace(self._plain(leading[0], second), lack=lack)
        plain = self._plain(first, second)
        if plain.same_epsilon:
            return plain
        given = None
        if first == BEST and self._draws is not None:
            given = self._draws.given.get(second)
        if given is None:
            return replace(plain, lack=self._lack("lacks", first, second))
        return replace(
            plain,
            lack=given.cost - given.slope * float(plain.differences.mean()),
            slope=given.slope,
            leads=second in self._leading,
        )

    def _lack(self, which: str, first: str, second: str) -> Array | None:
        """What the first arm's point lacks minus what the second arm's point lacks."""
        if self._draws is None or not {first, second} <= self._draws.lacks.keys():
            return None
        of_first = self._draws.below if which == "below" else self._draws.lacks
        return of_first[first] - self._draws.lacks[second]

    def _plain(self, first: str, second: str) -> Contrast:
        """First arm minus second arm as measured; nothing where best and analytic ε are one."""
        difference = (self._table[first] - self._table[second]).dropna()
        best_is_analytic = BEST in (first, second) and (
            _rule_of(first) is not None or _rule_of(second) is not None
        )
        same = best_is_analytic and have_same_epsilon(self._epsilon[first], self._epsilon[second])
        return Contrast(
            cell_id=self._cell.cell_id,
            dataset=self._cell.dataset,
            differences=difference[:0] if same else difference,
            examples=None if same else self._examples(first, second),
            same_epsilon=same,
        )

    def _examples(self, first: str, second: str) -> ExampleEffects | None:
        bits = self._bits
        return example_effects(bits[first], bits[second]) if {first, second} <= set(bits) else None


def _tuning(
    cell: StudyCell, confirm: pd.DataFrame, rules: list[str], correct: Mapping[Any, bytes]
) -> dict[str, Gain]:
    """{rule: tuned minus analytic choice}, by replicate; of the one search of an older study."""
    own = confirm[confirm["replicate"].notna()]
    rows = own if len(own) else confirm.assign(replicate=0)
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


def _arm_summaries(
    pooled: pd.DataFrame, plan: CellPlan | None, classes: int
) -> dict[str, ArmSummary]:
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


def _choices(confirm: pd.DataFrame) -> dict[str, list[ReplicateChoice]]:
    own = confirm[confirm["replicate"].notna()]
    choices: dict[str, list[ReplicateChoice]] = {}
    for (arm, replicate), rows in own.groupby(["arm", "replicate"]):
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
        rule = _rule_of(str(arm))
        if rule is not None:
            epsilon[rule] = float(group["epsilon"].iloc[-1])
    return {r: epsilon[r] for r in sorted(epsilon, key=lambda r: (r != PREFERRED_RULE, r))}


def _rule_of(arm_name: str) -> str | None:
    """The rule of an analytic arm; None for other arms."""
    arm = Arm.of_row(arm_name)
    return arm.rule if arm.is_analytic else None


def _reference(rows: pd.DataFrame) -> CrossEntropyReference | None:
    if rows.empty:
        return None
    clean, noisy = (
        None if pd.isna(mean := rows[metric].mean()) else float(mean)
        for metric in ("val_acc_clean", "val_acc_noisy")
    )
    return CrossEntropyReference(str(rows["cell_id"].iloc[0]), clean, noisy)
