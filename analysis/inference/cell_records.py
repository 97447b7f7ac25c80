"""The records of one cell's verdict, as `verdict.json` holds them."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.data.completeness import Completeness
from analysis.inference.records import Cost, Interval, Procedure, Recovered, Verdict
from analysis.records import Record
from analysis.response.fit import BestEpsilon
from study.results.arms import analytic_arm


@dataclass(frozen=True)
class ArmSummary(Record):
    """One arm in the confirm stage of a cell, on the common seeds.

    Attributes:
        loss: the loss that was trained.
        epsilon: its ε.
        lr: its learning rate.
        accuracy: test accuracy.
        planned: number of networks according to `plan.json`; None where unknown.
        seeds: number of networks with a test accuracy.
        missing: planned networks without a row.
        diverged: networks that diverged; they count with the accuracy of guessing.
        not_finite: rows without a test accuracy.
        failed: networks that diverged, or whose accuracy is closer to guessing than to the median
            of the arm.
        failure_rate: `failed` / `seeds`; None without seeds.
        failure_bound: failure rates up to this one cannot be excluded (95 %); with no failure in n
            seeds it is 1 − 0.05^(1/n). None without seeds.
    """

    loss: str
    epsilon: float
    lr: float | None
    accuracy: Interval
    planned: int | None
    seeds: int
    missing: int
    diverged: int
    not_finite: int
    failed: int
    failure_rate: float | None
    failure_bound: float | None


@dataclass(frozen=True)
class ReplicateChoice(Record):
    """What one replicate of the search chose for an arm, and its accuracy on fresh seeds.

    Attributes:
        replicate: its number, from 0.
        loss: the loss that was chosen.
        epsilon: the ε that was chosen, or that the rule gives.
        lr: the learning rate that was chosen.
        accuracy: test accuracy.
    """

    replicate: int
    loss: str
    epsilon: float
    lr: float | None
    accuracy: Interval


@dataclass(frozen=True)
class RuleVerdict(Record):
    """The verdict on the value of one rule in one cell.

    Attributes:
        verdict: the conclusion.
        reason: why, in words.
    """

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class CrossEntropyReference(Record):
    """Plain cross-entropy beside a cell: the cell of its rows, and its mean accuracies.

    Attributes:
        cell_id: the cell that holds the rows.
        val_acc_clean: mean validation accuracy on clean labels; None where unknown.
        val_acc_noisy: mean validation accuracy on noisy labels; None where unknown.
    """

    cell_id: str
    val_acc_clean: float | None
    val_acc_noisy: float | None

    def accuracy(self, metric: str) -> float | None:
        """The mean of the column `metric`, `val_acc_clean` or `val_acc_noisy`."""
        return self.val_acc_clean if metric == "val_acc_clean" else self.val_acc_noisy


@dataclass(frozen=True)
class IndifferenceRegion(Record):
    """The range of ε around the best one whose fitted accuracy is at most the margin lower.

    Attributes:
        low: its lower end.
        high: its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True)
class ResponseSummary(Record):
    """What the fitted response of a cell says about the rules.

    Attributes:
        metric: the accuracy column that was fitted.
        noise_sd: standard deviation of one network around curve and seed effect.
        seeds: number of seeds of the sweep.
        analytic_inside: {rule: whether its ε lies in the indifference region}; evidence from the
            sweep beside the value of the confirm stage.
        probability_within_margin: {rule: posterior probability that its shortfall is ≤ margin}.
        importance: {factor: share of the variance over the grid}; None without a full grid.
    """

    metric: str
    noise_sd: float
    seeds: int
    analytic_inside: dict[str, bool]
    probability_within_margin: dict[str, float]
    importance: dict[str, float] | None


@dataclass(frozen=True)
class CellVerdict(Record):
    """All that the analysis says about one cell.

    Attributes:
        cell_id: as in `trials`.
        dataset: a factor of the cell.
        noise_kind: a factor of the cell.
        noise_rate: a factor of the cell: share of wrong labels, in [0, 1]; None where it is unknown
            (labels as they are).
        model: a factor of the cell.
        loss: a factor of the cell.
        classes: number of classes.
        epsilon_analytic: {rule: ε}, the primary rule first.
        epsilon_tuned: the ε that tuning chose, the median over replicates; None where nothing was
            tuned.
        epsilon_tuned_by_replicate: the ε that each replicate chose.
        rule: the primary rule; None without an analytic arm.
        comparator: the arm that `value`, `controls` and paired differences compare with: `best`,
            or `tuned` in a study without it; None without either.
        value: {rule: cost of analytic ε against the best ε}; empty without the arm `best`.
        over_zero: {rule: accuracy at analytic ε minus accuracy at ε = 0}; empty without the arms
            `best` and `zero`.
        controls: {arm: cost against the comparator} of the arms without a rule.
        procedure: {rule: gain of tuning ε as well}.
        recovered: {rule: share of the gain from ε = 0 that it recovers}; empty without the arms
            `best` and `zero`.
        accuracy: {arm: test accuracy}.
        arms: {arm: its point, its networks, its failures}, on the common seeds.
        choices: {arm: what each replicate chose}.
        reference: plain cross-entropy; None where it was not trained.
        confidence: two-sided level of the intervals.
        margin: non-inferiority margin δ.
        evidence: ε = 0 is shown to cost more than the margin, so the cell can speak for the
            formula.
        verdict: on the value of the primary rule.
        reason: why, in words.
        verdicts: {rule: its verdict}.
        completeness: what is missing.
        epsilon_best: from the sweep; None without a curve.
        indifference: from the sweep; None without a curve.
        response: from the sweep; None without a curve.
    """

    cell_id: str
    dataset: str
    noise_kind: str
    noise_rate: float | None
    model: str
    loss: str
    classes: int
    epsilon_analytic: dict[str, float]
    epsilon_tuned: float | None
    epsilon_tuned_by_replicate: list[float]
    rule: str | None
    comparator: str | None
    value: dict[str, Cost]
    over_zero: dict[str, Cost]
    controls: dict[str, Cost]
    procedure: dict[str, Procedure]
    recovered: dict[str, Recovered]
    accuracy: dict[str, Interval]
    arms: dict[str, ArmSummary]
    choices: dict[str, list[ReplicateChoice]]
    reference: CrossEntropyReference | None
    confidence: float
    margin: float
    evidence: bool
    verdict: Verdict
    reason: str
    verdicts: dict[str, RuleVerdict]
    completeness: Completeness
    epsilon_best: BestEpsilon | None = None
    indifference: IndifferenceRegion | None = None
    response: ResponseSummary | None = None

    @property
    def primary_value(self) -> Cost | None:
        """The value of the primary rule; None where it was not measured."""
        return None if self.rule is None else self.value.get(self.rule)

    @property
    def primary_procedure(self) -> Procedure | None:
        """The procedure of the primary rule; None where it was not measured."""
        return None if self.rule is None else self.procedure.get(self.rule)

    @property
    def primary_epsilon(self) -> float | None:
        """The ε of the primary rule; None where there is no rule."""
        return None if self.rule is None else self.epsilon_analytic[self.rule]

    @property
    def matters(self) -> bool:
        """Whether ε is shown to matter: ε = 0 or analytic ε costs more than the margin."""
        return self.evidence or self.verdict == Verdict.INFERIOR

    @property
    def cost_by_arm(self) -> dict[str, Cost]:
        """{arm: cost against the best ε}: the analytic arms, then the controls."""
        return {analytic_arm(rule): cost for rule, cost in self.value.items()} | self.controls
