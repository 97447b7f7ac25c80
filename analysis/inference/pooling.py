"""Over cells: pooled value, claims about many cells, agreement of values, trend with noise.

Cells of a study share seeds and test examples, so the error of their mean comes from their
covariance (`analysis.inference.means`). Cells of one data set share more than that, so conclusions
about other data sets treat data sets, not cells, as the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from analysis.data.completeness import Completeness
from analysis.formatting import count, listing, points
from analysis.inference.agreement import (
    NO_BEST,
    NO_PAIRS,
    NO_SURFACE,
    SAME_EPSILON_REASON,
    JudgedCell,
    conclude,
    is_evidence,
    judge,
)
from analysis.inference.cell_records import CellVerdict
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.inference.procedure import Gain, procedure
from analysis.inference.random_effects import between_datasets
from analysis.inference.records import Procedure, Recovered, Verdict
from analysis.inference.recovered import recovered
from analysis.inference.study_records import (
    NoiseSlope,
    PooledValue,
    PooledVerdict,
    Scope,
    ValueAgreement,
)
from analysis.inference.value import Contrast, estimate
from study.results.arms import BEST, ZERO

SLOPE_MARGIN = 1.0
"""ε per unit noise rate: 0.4 over a rate of 40 %."""

Array = NDArray[np.float64]
Cells = Sequence[CellVerdict]


def pool(judged: Sequence[JudgedCell], completeness: Completeness, margin: float) -> PooledVerdict:
    """The verdict over all cells, on the primary rule of each.

    The headline averages over the cells in which ε is shown to matter: ε = 0 or analytic ε costs
    more than the margin. In the other cells an agreement says nothing about the formula.

    Args:
        judged: from `agreement.judge_cell`.
        completeness: of the study.
        margin: δ.
    """
    cells = [cell.verdict for cell in judged]
    matter = [cell for cell in judged if cell.verdict.matters]
    counts = {v: sum(cell.verdict == v for cell in cells) for v in Verdict}
    contrasts = {cell.verdict.cell_id: contrast for cell in judged if (contrast := _value(cell))}
    every = pooled_value(list(contrasts.values()))
    averaged = [cell.verdict for cell in (matter or judged)]
    value = pooled_value([c for cell in averaged if (c := contrasts.get(cell.cell_id))])
    evidence = sum(cell.evidence for cell in cells)
    verdict, reason = _conclude(judged, value, every, evidence, margin)
    refused = _refusal(completeness)
    measured = [cell for cell in cells if cell.accuracy and cell.rule is not None]
    return PooledVerdict(
        cells=len(cells),
        counts=counts,
        evidence_cells=evidence,
        value=value,
        all_cells_value=every,
        procedure=_pooled_procedure(judged, margin),
        recovered=_pooled_recovered(matter),
        scope=_scope(
            [c for c in averaged if c.cell_id not in value.left_out], contrasts, bool(matter)
        ),
        confidence=CONFIDENCE,
        margin=margin,
        verdict=Verdict.UNDECIDED if refused else verdict,
        reason=refused or reason,
        refused=refused,
        completeness=completeness,
        # Intersection–union test: each cell at its own level, no correction.
        non_inferior_in_every_cell=bool(measured) and all(c.verdict.agrees for c in measured),
        # A list of the cells that passed is a selection, which Holm's method corrects for.
        non_inferior_cells_holm=holm(cells),
    )


def _conclude(
    judged: Sequence[JudgedCell],
    value: PooledValue,
    every: PooledValue,
    evidence: int,
    margin: float,
) -> tuple[Verdict, str]:
    """Verdict over cells and the reason in words, before completeness is looked at."""
    cells = [cell.verdict for cell in judged]
    if not cells:
        return Verdict.UNDECIDED, "no cell compares ε"
    if not any(cell.comparator == BEST for cell in cells):
        confirmed = any(cell.comparator is not None for cell in cells)
        return Verdict.UNDECIDED, NO_BEST if confirmed else NO_PAIRS
    verdict = conclude(value, margin)
    if verdict == Verdict.INFERIOR:
        return verdict, "the interval lies above the margin"
    if evidence == 0:
        if all(cell.verdict == Verdict.CANNOT_TELL for cell in cells):
            return (
                Verdict.CANNOT_TELL,
                "in every cell analytic ε, ε = 0 and the best ε are equivalent to each other",
            )
        return Verdict.UNDECIDED, "in no cell ε = 0 is shown to cost more than the margin"
    if value.high is None:
        measured = [v for cell in cells if (v := cell.primary_value) is not None]
        if measured and all(v.same_epsilon for v in measured):
            return Verdict.UNDECIDED, SAME_EPSILON_REASON
        return Verdict.UNDECIDED, "fewer than two paired seeds"
    if verdict.agrees and every.mean is not None and every.mean >= margin:
        return (
            Verdict.UNDECIDED,
            "over the cells in which ε is shown to matter the interval lies below the margin, but "
            "over all cells the mean does not",
        )
    if verdict == Verdict.UNDECIDED:
        return verdict, "the interval contains the margin"
    if any((c := _value(cell)) is not None and c.adjustment is None for cell in judged):
        return Verdict.UNDECIDED, NO_SURFACE
    inferior = {cell.cell_id for cell in cells if cell.verdict == Verdict.INFERIOR}
    if worse := [name for name in value.left_out if name in inferior]:
        return (
            Verdict.UNDECIDED,
            "the interval lies below the margin, but analytic ε is inferior in "
            f"{count(len(worse), 'cell')} with too few seeds for the mean: {listing(worse)}",
        )
    return verdict, "the interval lies below the margin"


def _refusal(completeness: Completeness) -> str | None:
    """Why a study that is not finished has no verdict."""
    missing, planned = completeness.missing_confirm, completeness.stages["confirm"].planned
    if planned is None or missing == 0:
        return None
    return f"not finished: {missing} of {planned} confirm networks are missing"


def _value(cell: JudgedCell) -> Contrast | None:
    """The contrast of best and analytic ε of a cell's primary rule."""
    rule = cell.verdict.rule
    return None if rule is None else cell.values.get(rule)


def pooled_value(contrasts: Sequence[Contrast]) -> PooledValue:
    """The mean cost over cells with its interval.

    Args:
        contrasts: of distinct cells.
    """
    result = estimate(contrasts)
    if result is None:
        return PooledValue(None, None, None, 0, 0, [], 0.0, None, None)
    low, high = result.ends() or (None, None)
    return PooledValue(
        mean=result.mean,
        low=low,
        high=high,
        n=result.measured.n,
        cells=result.cells,
        left_out=result.left_out,
        adjustment=result.mean_adjustment,
        standard_error=result.standard_error,
        shares=result.shares,
    )


def _pooled_procedure(judged: Sequence[JudgedCell], margin: float) -> Procedure | None:
    """The gain of tuning over all cells, by their primary rules."""
    gains: list[Gain] = []
    for cell in judged:
        rule = cell.verdict.rule
        if rule is not None and rule in cell.tuning:
            gains.append(cell.tuning[rule])
    return procedure(gains, margin)


def _pooled_recovered(cells: Sequence[JudgedCell]) -> Recovered | None:
    """The share of the mean gain that is recovered, over cells."""
    gains = [cell.gains[r] for cell in cells if (r := cell.verdict.rule) and r in cell.gains]
    return recovered(gains) if gains else None


def _scope(averaged: Cells, contrasts: Mapping[str, Contrast], matter: bool) -> Scope:
    measured = {name for name, c in contrasts.items() if c.differences.notna().any()}
    cells = [cell for cell in averaged if cell.cell_id in measured]
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    further = between_datasets(
        {name: [contrasts[c.cell_id] for c in cells if c.dataset == name] for name in datasets}
    )
    which = "in which ε is shown to matter" if matter else "of this study"
    these = "this cell" if len(cells) == 1 else f"these {count(len(cells), 'cell')}"
    sentence = f"{these} {which}, on {listing(datasets)}"
    if further is not None:
        sentence += (
            f"; on further data sets {points(further.mean)} points "
            f"({points(further.low)} to {points(further.high)})"
        )
    elif len(datasets) == 1:
        sentence += "; one data set says nothing about further ones"
    return Scope(sentence, len(cells), len(datasets), further)


def holm(judged: Cells, alpha: float = (1 - CONFIDENCE) / 2) -> list[str]:
    """Ids of the cells whose non-inferiority can be claimed at the same time, by Holm's method.

    Args:
        judged: the cells; those that are evidence for the formula count.
        alpha: one-sided level of all claims together.
    """
    tested = [
        (cell.cell_id, p)
        for cell in judged
        if cell.evidence
        and (value := cell.primary_value) is not None
        and (p := value.non_inferiority_p) is not None
    ]
    if not tested:
        return []
    passed = multipletests([p for _, p in tested], alpha=alpha, method="holm")[0]
    return [name for (name, _), ok in zip(tested, passed, strict=True) if ok]


def margin_curve(
    judged: Cells, pooled: PooledVerdict, margins: Array | None = None
) -> pd.DataFrame:
    """The conclusion against δ: verdict counts and pooled verdict for each margin.

    Args:
        judged: the cells.
        pooled: the verdict over them at the study's own margin.
        margins: shape (m,), fractions; by default 0.1 to 3 percentage points.

    Returns:
        columns margin; one count per verdict; evidence, the number of cells that are evidence at
        this margin; pooled, the verdict on the mean over the cells that count at the study's own
        margin, so that the mean stays the same.
    """
    margins = np.round(np.arange(0.001, 0.0305, 0.0005), 6) if margins is None else margins
    rows = []
    for margin in margins:
        delta = float(margin)
        verdicts, evidence = [], 0
        for cell in judged:
            zero = cell.controls.get(ZERO) if cell.comparator == BEST else None
            over_zero = None if cell.rule is None else cell.over_zero.get(cell.rule)
            verdicts.append(judge(cell.primary_value, zero, over_zero, delta)[0])
            evidence += is_evidence(zero, delta)
        verdict = Verdict.UNDECIDED if pooled.refused else conclude(pooled.value, delta)
        if verdict.agrees and pooled.evidence_cells == 0:
            verdict = Verdict.UNDECIDED
        counts = {v.value: verdicts.count(v) for v in Verdict}
        rows.append({"margin": margin, **counts, "evidence": evidence, "pooled": verdict.value})
    return pd.DataFrame(rows)


def value_agreement(judged: Cells) -> dict[str, ValueAgreement]:
    """Agreement of best and analytic ε over cells, by rule (Bland & Altman 1986).

    A best ε on the edge of the range is a bound: it is counted and stated, and not dropped without
    a word. Cells without a best ε (their curve is flat) are counted. Cells of one data set are not
    independent, so the intervals are too narrow; they describe these cells.

    Args:
        judged: the cells' verdicts.

    Returns:
        {rule: agreement}.
    """
    rules = dict.fromkeys(rule for cell in judged for rule in cell.epsilon_analytic)
    return {rule: _agreement_of(rule, judged) for rule in rules}


def _agreement_of(rule: str, judged: Cells) -> ValueAgreement:
    cells, flat = 0, 0
    differences, at_edge, inside, values = [], [], [], []
    bounds: dict[str, list[float]] = {}
    for cell in judged:
        best, analytic = cell.epsilon_best, cell.epsilon_analytic.get(rule)
        if rule in cell.value and (mean := cell.value[rule].mean) is not None:
            values.append(mean)
        if best is None or analytic is None or cell.response is None:
            continue
        cells += 1
        flat += best.flat
        inside.append(cell.response.analytic_inside[rule])
        if best.flat:
            continue
        if best.on_edge:
            at_high = abs(best.value - best.high) <= abs(best.value - best.low)
            bound = f"best ε {'≥' if at_high else '≤'} {best.high if at_high else best.low:g}"
            bounds.setdefault(bound, []).append(analytic)
            at_edge.append((best.high if at_high else best.low) - analytic)
        else:
            differences.append(best.value - analytic)
    d = np.array(differences)
    bias = mean_interval(d, 0.95)
    limits: tuple[float | None, float | None] = (None, None)
    if len(d) > 1 and bias.mean is not None:
        sd = float(d.std(ddof=1))
        limits = (bias.mean - 1.96 * sd, bias.mean + 1.96 * sd)
    return ValueAgreement(
        cells=cells,
        on_edge=len(at_edge),
        bounds=[_bound(text, analytics) for text, analytics in bounds.items()],
        flat=flat,
        bias=bias.mean,
        bias_at_edge=mean_interval([*differences, *at_edge]).mean,
        bias_low=bias.low,
        bias_high=bias.high,
        limit_low=limits[0],
        limit_high=limits[1],
        inside=float(np.mean(inside)) if inside else None,
        value=float(np.mean(values)) if values else None,
    )


def _bound(text: str, analytic: Sequence[float]) -> str:
    """A bound with the analytic ε beside it: `best ε ≥ 8 in 4 cells (analytic ε 3.03)`."""
    low, high = min(analytic), max(analytic)
    beside = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    return f"{text} in {count(len(analytic), 'cell')} (analytic ε {beside})"


def noise_slopes(judged: Cells, peaks: Mapping[str, Array]) -> list[NoiseSlope]:
    """Whether the best ε moves with the noise rate: least-squares slopes.

    There is one slope per data set, model, loss and noise kind; clean cells belong to every kind.
    The interval comes from the drawn maxima, so it describes the sweeps of these cells.

    Args:
        judged: the cells.
        peaks: {cell_id: drawn best ε, shape (draws,)}, from `response.fit.Response.peaks`.
    """
    groups: dict[tuple[str, str, str], list[CellVerdict]] = {}
    for cell in judged:
        if cell.cell_id in peaks:
            groups.setdefault((cell.dataset, cell.model, cell.loss), []).append(cell)
    slopes = []
    for cells in groups.values():
        clean = [cell for cell in cells if cell.noise_rate == 0][:1]
        noisy = [cell for cell in cells if cell.noise_rate]
        for kind in dict.fromkeys(cell.noise_kind for cell in noisy):
            series = clean + [cell for cell in noisy if cell.noise_kind == kind]
            if len({cell.noise_rate for cell in series}) > 1:
                slopes.append(_noise_slope(kind, series, peaks))
    return slopes


def _noise_slope(kind: str, cells: Cells, peaks: Mapping[str, Array]) -> NoiseSlope:
    rate = np.array([cell.noise_rate for cell in cells], dtype=float)
    drawn = np.stack([peaks[cell.cell_id] for cell in cells])  # (cells, draws)
    # The draws of different cells are independent: shuffling removes a pairing by index.
    drawn = np.random.default_rng(0).permuted(drawn, axis=1)
    centred = rate - rate.mean()
    slope = centred @ drawn / (centred @ centred)
    q = np.quantile(slope, [0.025, 0.05, 0.5, 0.95, 0.975])
    best = [cell.epsilon_best for cell in cells if cell.epsilon_best is not None]
    return NoiseSlope(
        dataset=cells[0].dataset,
        model=cells[0].model,
        loss=cells[0].loss,
        noise_kind=kind,
        rates=[float(r) for r in rate],
        slope=float(q[2]),
        low=float(q[0]),
        high=float(q[4]),
        equivalent=bool(q[1] > -SLOPE_MARGIN and q[3] < SLOPE_MARGIN),
        on_edge=any(b.on_edge for b in best),
        flat=any(b.flat for b in best),
    )
