"""The records of a verdict over all cells of a study, as `verdict.json` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.data.completeness import Completeness
from analysis.data.provenance import StudyProvenance
from analysis.exploratory.signatures import FailureSignatures
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Interval, Procedure, Recovered, VarianceShares, Verdict
from analysis.records import Record


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
        adjustment: what the surfaces add to the measured mean.
        standard_error: of `mean`; None without an interval.
        shares: of the variance; None without an interval.
    """

    cells: int
    left_out: list[str]
    adjustment: float
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
        failure_signatures: failures that the learning curves show; None where there are no curves.
    """

    schema_version: Literal[3]
    study: str
    cells: list[CellVerdict]
    pooled: PooledVerdict
    value_agreement: dict[str, ValueAgreement]
    noise_slopes: list[NoiseSlope]
    notes: list[str]
    provenance: StudyProvenance
    failure_signatures: FailureSignatures | None
