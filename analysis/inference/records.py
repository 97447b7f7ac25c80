"""The records of a verdict: what `agreement` and `pooling` conclude and `verdict.json` holds.

The order of the fields is the order of the keys in `verdict.json`. Accuracies, regrets and margins
are fractions; ε is a logit bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from analysis.data.provenance import StudyProvenance
from analysis.records import Record
from analysis.response.fit import BestEpsilon
from study.results.arms import analytic_arm


class Verdict(StrEnum):
    """The conclusion about a cell, or about all cells of a study."""

    NON_INFERIOR = "non_inferior"
    INFERIOR = "inferior"
    INCONCLUSIVE = "inconclusive"
    INSENSITIVE = "insensitive"

    @property
    def sentence(self) -> str:
        """The conclusion in words."""
        return _SENTENCES[self]

    @property
    def word(self) -> str:
        """The name as prose writes it, with a hyphen."""
        return self.value.replace("_", "-")


_SENTENCES = {
    Verdict.NON_INFERIOR: "analytic ε is as good as tuned ε",
    Verdict.INFERIOR: "analytic ε is worse than tuned ε",
    Verdict.INCONCLUSIVE: "too few data to tell",
    Verdict.INSENSITIVE: "even ε = 0 is as good, so the cell is not informative",
}


@dataclass(frozen=True)
class Interval(Record):
    """A mean with its t interval.

    Attributes:
        mean: None without values.
        low: lower end; None below two values.
        high: upper end; None below two values.
        n: number of independent values.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high); None below two values."""
        return None if self.low is None or self.high is None else (self.low, self.high)


NO_VALUES = Interval(None, None, None, 0)


@dataclass(frozen=True)
class RegretInterval(Interval):
    """A regret with its 90 % interval, and the 95 % interval that no verdict uses.

    Attributes:
        low_95: lower end at 95 %.
        high_95: upper end at 95 %.
    """

    low_95: float | None
    high_95: float | None


@dataclass(frozen=True)
class RuleVerdict(Record):
    """The verdict on one rule in one cell.

    Attributes:
        verdict: the conclusion.
        reason: why, in words.
        non_inferiority_p: one-sided p value of regret < margin; None below two seeds.
        equivalence_p: TOST p value of |regret| < margin; None below two seeds.
    """

    verdict: Verdict
    reason: str
    non_inferiority_p: float | None
    equivalence_p: float | None


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
            sweep beside the regret of the confirm stage.
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
        noise_rate: a factor of the cell: share of wrong labels, in [0, 1].
        model: a factor of the cell.
        loss: a factor of the cell.
        classes: number of classes.
        epsilon_analytic: {rule: ε}, the primary rule first.
        epsilon_tuned: the ε that tuning chose; None where nothing was tuned.
        rule: the primary rule; None without an analytic arm.
        regret: {rule: regret of its arm}.
        controls: {arm: regret} of the arms without a rule.
        accuracy: {arm: test accuracy}.
        reference: plain cross-entropy; None where it was not trained.
        confidence: two-sided level of the intervals.
        margin: non-inferiority margin δ.
        verdict: on the primary rule.
        reason: why, in words.
        by_rule: {rule: its verdict}.
        epsilon_best: from the sweep; None without a curve.
        indifference: from the sweep; None without a curve.
        response: from the sweep; None without a curve.
    """

    cell_id: str
    dataset: str
    noise_kind: str
    noise_rate: float
    model: str
    loss: str
    classes: int
    epsilon_analytic: dict[str, float]
    epsilon_tuned: float | None
    rule: str | None
    regret: dict[str, RegretInterval]
    controls: dict[str, Interval]
    accuracy: dict[str, Interval]
    reference: CrossEntropyReference | None
    confidence: float
    margin: float
    verdict: Verdict
    reason: str
    by_rule: dict[str, RuleVerdict]
    epsilon_best: BestEpsilon | None = None
    indifference: IndifferenceRegion | None = None
    response: ResponseSummary | None = None

    @property
    def primary_regret(self) -> RegretInterval | None:
        """The regret of the primary rule; None where there is no rule."""
        return None if self.rule is None else self.regret[self.rule]

    @property
    def primary_epsilon(self) -> float | None:
        """The ε of the primary rule; None where there is no rule."""
        return None if self.rule is None else self.epsilon_analytic[self.rule]

    @property
    def is_sensitive(self) -> bool:
        """Whether ε matters in the cell: its verdict is not `insensitive`."""
        return self.verdict != Verdict.INSENSITIVE

    @property
    def regret_by_arm(self) -> dict[str, Interval]:
        """{arm: regret against tuned ε}: the analytic arms, then the controls."""
        return {analytic_arm(rule): r for rule, r in self.regret.items()} | self.controls


@dataclass(frozen=True)
class BetweenDatasets(Record):
    """Random-effects mean over data sets.

    Attributes:
        datasets: number of data sets, at least 2.
        mean: expected effect on another data set.
        low: lower end of its interval.
        high: upper end of its interval.
        tau: standard deviation between data sets.
        prediction_low: lower end of the prediction interval; None below three data sets.
        prediction_high: upper end of the prediction interval; None below three data sets.
    """

    datasets: int
    mean: float
    low: float
    high: float
    tau: float
    prediction_low: float | None
    prediction_high: float | None


@dataclass(frozen=True)
class PooledVerdict(Record):
    """The verdict over all cells, on the primary rule of each.

    Attributes:
        cells: number of cells.
        counts: {verdict: number of cells}.
        sensitive_cells: number of cells that are not insensitive.
        regret: mean over the sensitive cells.
        all_cells_regret: mean over all cells.
        between_datasets: random effects; None below two data sets with an interval.
        confidence: two-sided level of the intervals.
        margin: non-inferiority margin δ.
        verdict: of the mean over the sensitive cells.
        non_inferior_in_every_cell: the intersection–union claim, each cell at its own level.
        non_inferior_cells_holm: ids of the cells that can be claimed at the same time.
    """

    cells: int
    counts: dict[Verdict, int]
    sensitive_cells: int
    regret: Interval
    all_cells_regret: Interval
    between_datasets: BetweenDatasets | None
    confidence: float
    margin: float
    verdict: Verdict
    non_inferior_in_every_cell: bool
    non_inferior_cells_holm: list[str]


@dataclass(frozen=True)
class ValueAgreement(Record):
    """Bland & Altman (1986) agreement of best and analytic ε of one rule, over cells.

    Attributes:
        cells: number of cells that have both.
        on_edge: number of them whose best ε lies on the edge of the range.
        flat: number of them whose curve is flat.
        bias: mean of best ε − analytic ε over the other cells; None without any.
        bias_low: lower end of its 95 % interval; None below two cells.
        bias_high: upper end of its 95 % interval; None below two cells.
        limit_low: lower 95 % limit of agreement; None below two cells.
        limit_high: upper 95 % limit of agreement; None below two cells.
        inside: share of the cells whose analytic ε lies in the indifference region.
        regret: mean regret over cells; None without confirm stage.
    """

    cells: int
    on_edge: int
    flat: int
    bias: float | None
    bias_low: float | None
    bias_high: float | None
    limit_low: float | None
    limit_high: float | None
    inside: float | None
    regret: float | None


@dataclass(frozen=True)
class NoiseSlope(Record):
    """Slope of the best ε against the noise rate, for one data set, model, loss and noise kind.

    Attributes:
        dataset: what the cells share.
        model: what the cells share.
        loss: what the cells share.
        noise_kind: what the cells share, except a clean one.
        rates: the noise rates.
        slope: median slope, ε per unit noise rate.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        equivalent: whether the 90 % interval lies within ± `pooling.SLOPE_MARGIN`.
        on_edge: whether the best ε of a cell lies on the edge of the range.
        flat: whether the curve of a cell is flat.
    """

    dataset: str
    model: str
    loss: str
    noise_kind: str
    rates: list[float]
    slope: float
    low: float
    high: float
    equivalent: bool
    on_edge: bool
    flat: bool


@dataclass(frozen=True)
class StudyVerdict(Record):
    """The content of `verdict.json`.

    Attributes:
        schema_version: of this content.
        study: the study's name.
        cells: the judged cells, in the order of the tables and figures.
        pooled: the verdict over all cells.
        value_agreement: {rule: agreement of best and analytic ε}.
        noise_slopes: trends of the best ε with the noise rate.
        notes: sentences about rows that were left out or filled in.
        provenance: where the rows come from.
    """

    schema_version: Literal[1]
    study: str
    cells: list[CellVerdict]
    pooled: PooledVerdict
    value_agreement: dict[str, ValueAgreement]
    noise_slopes: list[NoiseSlope]
    notes: list[str]
    provenance: StudyProvenance
