"""Over cells: pooled regret, claims about many cells, agreement of values, trend with noise.

Cells of a study share seeds, so the mean over cells is taken within each seed before its interval.
Cells of one data set share more than seeds, so conclusions about other data sets treat data sets,
not cells, as the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse.csgraph import connected_components
from statsmodels.stats.multitest import multipletests

from analysis.inference.agreement import conclude, judge
from analysis.inference.intervals import CONFIDENCE, mean_interval, squared_error
from analysis.inference.records import (
    NO_VALUES,
    BetweenDatasets,
    CellVerdict,
    Interval,
    NoiseSlope,
    PooledVerdict,
    ValueAgreement,
    Verdict,
)
from study.results.arms import ZERO, analytic_arm

SLOPE_MARGIN = 1.0
"""ε per unit noise rate: 0.4 over a rate of 40 %."""

_LEAST_VARIANCE = 1e-16  # of a data set whose seeds do not differ
_BISECTIONS = 200

Array = NDArray[np.float64]
Cells = Sequence[CellVerdict]


def pool(judged: Cells, pairs: pd.DataFrame, margin: float) -> PooledVerdict:
    """The verdict over all cells, on the primary rule of each.

    Args:
        judged: from `agreement.judge_cell`.
        pairs: columns cell_id, arm, seed, regret (of `agreement.regrets`, all cells).
        margin: δ.
    """
    sensitive = [cell for cell in judged if cell.is_sensitive]
    regret = seed_mean(sensitive, pairs)
    counts = {v: sum(cell.verdict == v for cell in judged) for v in Verdict}
    verdict = conclude(regret, margin) if sensitive else Verdict.INSENSITIVE
    return PooledVerdict(
        cells=len(judged),
        counts=counts,
        sensitive_cells=len(sensitive),
        regret=regret,
        all_cells_regret=seed_mean(judged, pairs),
        between_datasets=between_datasets(sensitive, pairs),
        confidence=CONFIDENCE,
        margin=margin,
        verdict=verdict if judged else Verdict.INCONCLUSIVE,
        # Intersection–union test: each cell at its own level, no correction.
        non_inferior_in_every_cell=bool(judged) and counts[Verdict.NON_INFERIOR] == len(judged),
        # A list of the cells that passed is a selection, which Holm's method corrects for.
        non_inferior_cells_holm=holm(judged),
    )


def seed_mean(cells: Cells, pairs: pd.DataFrame) -> Interval:
    """Mean regret over cells with its t interval.

    Cells that share seeds are averaged within seed first, over the seeds that all of them have.
    Cells that share fewer than two seeds (such as those of different studies) are independent; the
    degrees of freedom are then Satterthwaite's.

    Args:
        cells: the cells to average over, by their primary rule.
        pairs: columns cell_id, arm, seed, regret.

    Returns:
        a fraction of accuracy, with the number of independent values; empty without pairs.
    """
    arm_of = {cell.cell_id: analytic_arm(cell.rule) for cell in cells if cell.rule}
    primary = pairs[pairs["cell_id"].map(arm_of) == pairs["arm"]]
    table = primary.pivot_table(index="seed", columns="cell_id", values="regret")
    if table.empty:
        return NO_VALUES
    blocks = [b for cell_ids in _sharing_seeds(table) for b in _by_seed(table[cell_ids])]
    if len(blocks) == 1:
        return mean_interval(blocks[0][1])
    share = np.array([weight for weight, _ in blocks]) / table.shape[1]
    mean = float(share @ [values.mean() for _, values in blocks])
    n = min(len(values) for _, values in blocks)
    if n < 2:
        return Interval(mean, None, None, n)
    terms = share**2 * [values.var(ddof=1) / len(values) for _, values in blocks]
    variance, freedom = float(terms.sum()), np.array([len(values) - 1 for _, values in blocks])
    dof = variance**2 / float((terms**2 / freedom).sum()) if variance > 0 else float(freedom.sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, dof) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half, n)


def _sharing_seeds(table: pd.DataFrame) -> list[list[str]]:
    """The columns of a table (seeds, cells) in groups that share seeds, directly or indirectly."""
    has_seed = table.notna().to_numpy().astype(float)
    _, group = connected_components(has_seed.T @ has_seed, directed=False)
    return [list(table.columns[group == g]) for g in range(group.max() + 1)]


def _by_seed(table: pd.DataFrame) -> list[tuple[int, Array]]:
    """Independent blocks of cells that share seeds: (number of cells, mean over them per seed)."""
    shared = table.dropna()
    if len(shared) >= 2 or table.shape[1] == 1:
        return [(table.shape[1], shared.mean(axis=1).to_numpy())]
    return [(1, table[cell_id].dropna().to_numpy()) for cell_id in table]


def between_datasets(cells: Cells, pairs: pd.DataFrame) -> BetweenDatasets | None:
    """Random effects over data sets: what to expect on another one.

    Args:
        cells: the cells to average over, by their primary rule.
        pairs: columns cell_id, arm, seed, regret.

    Returns:
        None below two data sets with an interval.
    """
    intervals = [
        seed_mean([cell for cell in cells if cell.dataset == name], pairs)
        for name in dict.fromkeys(cell.dataset for cell in cells)
    ]
    means, variances = [], []
    for interval in intervals:
        if interval.mean is not None and interval.low is not None:
            means.append(interval.mean)
            variances.append(squared_error(interval))
    return random_effects(np.array(means), np.array(variances)) if len(means) > 1 else None


def random_effects(
    effects: Array, variances: Array, confidence: float = CONFIDENCE
) -> BetweenDatasets:
    """Random-effects mean with the Hartung–Knapp–Sidik–Jonkman interval.

    The variance between data sets is that of Paule & Mandel (1982). The HKSJ factor is at least 1
    (Röver, Knapp & Friede 2015): with two or three data sets that agree by chance, the plain factor
    gives an interval narrower than that of one data set. The prediction interval is that of
    Higgins, Thompson & Spiegelhalter (2009).

    This is not statsmodels' `combine_effects`, which has neither the bound on the factor nor the
    prediction interval, and whose Paule–Mandel iteration returns τ² = 0 for inputs that have a
    positive root. Where it converges, the results agree (tested).

    Args:
        effects: shape (k,), means of the data sets, k ≥ 2.
        variances: shape (k,), their squared standard errors.
        confidence: two-sided level in (0, 1).
    """
    y = np.asarray(effects, dtype=float)
    v = np.maximum(np.asarray(variances, dtype=float), _LEAST_VARIANCE)
    k = len(y)
    tau2 = _paule_mandel(y, v)
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    factor = max(1.0, float((w * (y - mean) ** 2).sum() / (k - 1)))
    error = float(np.sqrt(factor / w.sum()))
    half = float(stats.t.ppf((1 + confidence) / 2, k - 1)) * error
    prediction: tuple[float | None, float | None] = (None, None)
    if k > 2:
        wide = float(stats.t.ppf((1 + confidence) / 2, k - 2)) * float(np.sqrt(tau2 + error**2))
        prediction = (mean - wide, mean + wide)
    return BetweenDatasets(k, mean, mean - half, mean + half, float(np.sqrt(tau2)), *prediction)


def _paule_mandel(y: Array, v: Array) -> float:
    """The τ² at which Cochran's Q equals its expectation; 0 where Q is smaller at τ² = 0."""

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float((w * (y - (w * y).sum() / w.sum()) ** 2).sum() - (len(y) - 1))

    if excess(0.0) <= 0:
        return 0.0
    low, high, tau2 = 0.0, float(np.ptp(y) ** 2 + v.max()), 0.0
    while excess(high) > 0:
        high *= 2
    for _ in range(_BISECTIONS):
        tau2 = (low + high) / 2
        low, high = (tau2, high) if excess(tau2) > 0 else (low, tau2)
    return tau2


def holm(judged: Cells, alpha: float = (1 - CONFIDENCE) / 2) -> list[str]:
    """Ids of the cells whose non-inferiority can be claimed at the same time, by Holm's method.

    Args:
        judged: the cells.
        alpha: one-sided level of all claims together.
    """
    tested = [
        (cell.cell_id, p)
        for cell in judged
        if cell.rule
        and cell.is_sensitive
        and (p := cell.by_rule[cell.rule].non_inferiority_p) is not None
    ]
    if not tested:
        return []
    passed = multipletests([p for _, p in tested], alpha=alpha, method="holm")[0]
    return [name for (name, _), ok in zip(tested, passed, strict=True) if ok]


def margin_curve(judged: Cells, pairs: pd.DataFrame, margins: Array | None = None) -> pd.DataFrame:
    """The conclusion against δ: verdict counts and pooled verdict for each margin.

    Args:
        judged: the cells.
        pairs: columns cell_id, arm, seed, regret.
        margins: shape (m,), fractions; by default 0.1 to 3 percentage points.

    Returns:
        columns margin; one count per verdict; pooled, the verdict on the mean over the cells that
        are sensitive at the study's own margin, so that the mean stays the same.
    """
    margins = np.round(np.arange(0.001, 0.0305, 0.0005), 6) if margins is None else margins
    sensitive = [cell for cell in judged if cell.is_sensitive]
    mean_regret = seed_mean(sensitive, pairs)
    rows = []
    for margin in margins:
        verdicts = [
            judge(cell.primary_regret or NO_VALUES, cell.controls.get(ZERO), float(margin))[0]
            for cell in judged
        ]
        pooled = conclude(mean_regret, float(margin)) if sensitive else Verdict.INSENSITIVE
        counts = {v.value: verdicts.count(v) for v in Verdict}
        rows.append({"margin": margin, **counts, "pooled": pooled.value})
    return pd.DataFrame(rows)


def value_agreement(judged: Cells) -> dict[str, ValueAgreement]:
    """Agreement of best and analytic ε over cells, by rule (Bland & Altman 1986).

    Cells whose best ε lies on the edge of the range, or that have none because their curve is flat,
    are counted and left out. Cells of one data set are not independent, so the intervals are too
    narrow; they describe these cells.

    Args:
        judged: the cells' verdicts.

    Returns:
        {rule: agreement}.
    """
    rules = dict.fromkeys(rule for cell in judged for rule in cell.epsilon_analytic)
    return {rule: _agreement_of(rule, judged) for rule in rules}


def _agreement_of(rule: str, judged: Cells) -> ValueAgreement:
    cells, on_edge, flat = 0, 0, 0
    differences, inside, regrets = [], [], []
    for cell in judged:
        best, analytic = cell.epsilon_best, cell.epsilon_analytic.get(rule)
        if rule in cell.regret and (mean := cell.regret[rule].mean) is not None:
            regrets.append(mean)
        if best is None or analytic is None or cell.response is None:
            continue
        cells += 1
        on_edge += best.on_edge
        flat += best.flat
        inside.append(cell.response.analytic_inside[rule])
        if not best.on_edge and not best.flat:
            differences.append(best.value - analytic)
    d = np.array(differences)
    bias = mean_interval(d, 0.95)
    limits: tuple[float | None, float | None] = (None, None)
    if len(d) > 1 and bias.mean is not None:
        sd = float(d.std(ddof=1))
        limits = (bias.mean - 1.96 * sd, bias.mean + 1.96 * sd)
    return ValueAgreement(
        cells=cells,
        on_edge=on_edge,
        flat=flat,
        bias=bias.mean,
        bias_low=bias.low,
        bias_high=bias.high,
        limit_low=limits[0],
        limit_high=limits[1],
        inside=float(np.mean(inside)) if inside else None,
        regret=float(np.mean(regrets)) if regrets else None,
    )


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
        noisy = [cell for cell in cells if cell.noise_rate > 0]
        for kind in dict.fromkeys(cell.noise_kind for cell in noisy):
            series = clean + [cell for cell in noisy if cell.noise_kind == kind]
            if len({cell.noise_rate for cell in series}) > 1:
                slopes.append(_noise_slope(kind, series, peaks))
    return slopes


def _noise_slope(kind: str, cells: Cells, peaks: Mapping[str, Array]) -> NoiseSlope:
    rate = np.array([cell.noise_rate for cell in cells])
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
