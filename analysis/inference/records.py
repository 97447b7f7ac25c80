"""The records of a verdict: what `agreement` and `pooling` conclude and `verdict.json` holds.

The order of the fields is the order of the keys in `verdict.json`. Accuracies, costs, gains and
margins are fractions; ε is a logit bias.

Two questions are kept apart. *Value*: what analytic ε costs against the best ε, each at its best
learning rate. *Procedure*: what a user gains by tuning ε as well, with the same number of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from analysis.data.completeness import Completeness
from analysis.data.provenance import StudyProvenance
from analysis.records import Record
from analysis.response.fit import BestEpsilon
from study.results.arms import analytic_arm


class Verdict(StrEnum):
    """The conclusion about a cell, or about all cells of a study."""

    EQUIVALENT = "equivalent"
    NON_INFERIOR = "non_inferior"
    INFERIOR = "inferior"
    UNDECIDED = "undecided"
    CANNOT_TELL = "cannot_tell"

    @property
    def sentence(self) -> str:
        """The conclusion in words."""
        return _SENTENCES[self]

    @property
    def word(self) -> str:
        """The name as prose writes it."""
        return _WORDS.get(self, self.value)

    @property
    def agrees(self) -> bool:
        """Whether analytic ε is shown to cost less than the margin."""
        return self in (Verdict.EQUIVALENT, Verdict.NON_INFERIOR)


_WORDS = {Verdict.NON_INFERIOR: "non-inferior", Verdict.CANNOT_TELL: "cannot tell"}
_SENTENCES = {
    Verdict.EQUIVALENT: "analytic ε and the best ε differ by less than the margin",
    Verdict.NON_INFERIOR: "analytic ε costs less than the margin",
    Verdict.INFERIOR: "analytic ε costs more than the margin",
    Verdict.UNDECIDED: "too few data to tell",
    Verdict.CANNOT_TELL: "analytic ε, ε = 0 and the best ε are equivalent: ε does not matter",
}


@dataclass(frozen=True)
class Interval(Record):
    """A mean with its interval.

    Attributes:
        mean: None without values.
        low: lower end; None without an interval.
        high: upper end; None without an interval.
        n: number of independent values.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high); None without an interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


NO_VALUES = Interval(None, None, None, 0)


@dataclass(frozen=True)
class VarianceShares(Record):
    """How the variance of a mean divides; the known shares add up to 1.

    Attributes:
        searches: share that replicates of the search cause; None where the mean is not over them.
        seeds: share of noise draw, initialisation and order.
        test_examples: share of the choice of test examples; None where the rows do not have what
            each network got right (column `test_correct`).
        surface: share of what the surface over ε and learning rate leaves open; None where the
            mean does not come from it.
    """

    searches: float | None
    seeds: float
    test_examples: float | None
    surface: float | None


@dataclass(frozen=True)
class Cost(Interval):
    """What an arm costs against the comparator: accuracy of the comparator minus that of the arm.

    Against `best`, the cost is a *value*: both arms at their best learning rate, by the surface
    over ε and learning rate given the measured difference. `low` and `high` have the level
    `confidence`.
    Against `tuned` (in a study without the arm `best`) it is the paired difference alone.

    Attributes:
        measured: paired difference over the confirm seeds alone, with its t interval.
        shortfall: `mean` minus the mean of `measured`: what the surface over ε and learning rate
            adds to the mean difference; 0 without a surface.
        standard_error: of `mean`; None below two seeds.
        shares: of the variance; None without an interval.
        same_epsilon: both arms have the same ε, so that nothing is measured.
        leads: the evidence of search and sweep ranks the point of this analytic arm above that of
            `best`, which is then the strongest challenger at another ε.
        non_inferiority_p: one-sided p value of cost < margin; None without an interval.
        equivalence_p: TOST p value of |cost| < margin; None without an interval.
    """

    measured: Interval
    shortfall: float
    standard_error: float | None
    shares: VarianceShares | None
    same_epsilon: bool
    leads: bool
    non_inferiority_p: float | None
    equivalence_p: float | None


@dataclass(frozen=True)
class ReplicateGain(Record):
    """What tuning ε gained in one replicate of the search.

    Attributes:
        replicate: its number, from 0.
        mean: accuracy of its tuned choice minus that of its analytic choice, over its seeds; None
            where no seed has both.
        seeds: number of paired seeds.
    """

    replicate: int
    mean: float | None
    seeds: int


@dataclass(frozen=True)
class Procedure(Interval):
    """What a user gains by tuning ε and learning rate over analytic ε and tuning the latter alone.

    The interval (level `confidence`) is over replicates of the search; `n` is their number.

    Attributes:
        replicates: gain of each replicate.
        over_seeds: interval over all paired seeds. It holds for these searches only: it leaves out
            that another search would have chosen otherwise.
        sd_search: standard deviation between searches of the expected gain; None where it cannot be
            estimated.
        sd_seed: standard deviation of one paired difference within a search; None likewise.
        shares: of the variance of `mean`; None below two replicates.
        missed_failures: a failure of the search that happens with this probability or less may be
            missed by all replicates (95 %); None without replicates.
        verdict: `inferior`: tuning gains more than the margin; `equivalent`, `non_inferior`: less.
        reason: why, in words.
    """

    replicates: list[ReplicateGain]
    over_seeds: Interval
    sd_search: float | None
    sd_seed: float | None
    shares: VarianceShares | None
    missed_failures: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Recovered(Record):
    """The share of the gain from ε = 0 to the best ε that analytic ε recovers.

    Attributes:
        value: the share; 1 if analytic ε is as good as the best ε; None where the gain is unknown.
        low: lower end of Fieller's interval, level `confidence`; None where it is unbounded.
        high: upper end; None where it is unbounded.
        gain: from ε = 0 to the best ε, a fraction of accuracy; None where unknown.
        reason: why there is no interval; empty where there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    gain: float | None
    reason: str


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
        noise_rate: a factor of the cell: share of wrong labels, in [0, 1].
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
    noise_rate: float
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
class PooledValue(Interval):
    """A cost averaged over cells; `n` is the number of seeds, of the cell that has fewest.

    Attributes:
        cells: number of cells in the mean.
        left_out: ids of cells that have fewer than half as many seeds as the others.
        shortfall: what the surfaces add to the measured mean.
        standard_error: of `mean`; None without an interval.
        shares: of the variance; None without an interval.
    """

    cells: int
    left_out: list[str]
    shortfall: float
    standard_error: float | None
    shares: VarianceShares | None


@dataclass(frozen=True)
class Scope(Record):
    """What the pooled verdict speaks about.

    Attributes:
        sentence: in words.
        cells: number of cells that the headline averages over.
        datasets: number of their data sets.
        further_datasets: random effects: what to expect on further data sets; None below two data
            sets with an interval.
    """

    sentence: str
    cells: int
    datasets: int
    further_datasets: BetweenDatasets | None


@dataclass(frozen=True)
class PooledVerdict(Record):
    """The verdict over all cells, on the primary rule of each.

    Attributes:
        cells: number of cells.
        counts: {verdict: number of cells}.
        evidence_cells: number of cells in which ε = 0 is shown to cost more than the margin.
        value: mean cost of analytic ε over the cells in which ε is shown to matter (ε = 0 or
            analytic ε costs more than the margin); over all cells where there is no such cell.
        all_cells_value: the same over all cells.
        procedure: mean gain of tuning ε as well, over all cells; None where it was not measured.
        recovered: of the means over the cells of `value`; None where it was not measured.
        scope: which cells the verdict speaks about, and the interval for further data sets.
        confidence: two-sided level of the intervals.
        margin: non-inferiority margin δ.
        verdict: of `value`.
        reason: why, in words.
        refused: why there is no verdict, in one line; None where there is one. `verdict` is then
            `undecided`.
        completeness: what is missing of the study.
        non_inferior_in_every_cell: the intersection–union claim, each cell at its own level, over
            the cells that have a confirm stage.
        non_inferior_cells_holm: ids of the cells that can be claimed at the same time.
    """

    cells: int
    counts: dict[Verdict, int]
    evidence_cells: int
    value: PooledValue
    all_cells_value: PooledValue
    procedure: Procedure | None
    recovered: Recovered | None
    scope: Scope
    confidence: float
    margin: float
    verdict: Verdict
    reason: str
    refused: str | None
    completeness: Completeness
    non_inferior_in_every_cell: bool
    non_inferior_cells_holm: list[str]


@dataclass(frozen=True)
class ValueAgreement(Record):
    """Bland & Altman (1986) agreement of best and analytic ε of one rule, over cells.

    Attributes:
        cells: number of cells that have both.
        on_edge: number of them whose best ε lies on the edge of the range: it is a bound.
        bounds: those cells in words, such as `best ε ≥ 8 in 4 cells (analytic ε 3.03)`.
        flat: number of them whose curve is flat.
        bias: mean of best ε − analytic ε over the other cells; None without any.
        bias_at_edge: the same with the cells on the edge at their bounds, so that the mean over all
            cells is at least this far from zero where all bounds lie on one side; None without any.
        bias_low: lower end of its 95 % interval; None below two cells.
        bias_high: upper end of its 95 % interval; None below two cells.
        limit_low: lower 95 % limit of agreement; None below two cells.
        limit_high: upper 95 % limit of agreement; None below two cells.
        inside: share of the cells whose analytic ε lies in the indifference region.
        value: mean cost against the best ε over cells; None where it was not measured.
    """

    cells: int
    on_edge: int
    bounds: list[str]
    flat: int
    bias: float | None
    bias_at_edge: float | None
    bias_low: float | None
    bias_high: float | None
    limit_low: float | None
    limit_high: float | None
    inside: float | None
    value: float | None


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

    schema_version: Literal[2]
    study: str
    cells: list[CellVerdict]
    pooled: PooledVerdict
    value_agreement: dict[str, ValueAgreement]
    noise_slopes: list[NoiseSlope]
    notes: list[str]
    provenance: StudyProvenance
