"""The response of a cell's accuracy to ε: curve, best ε with an interval, indifference region.

The accuracy of seed s at grid point i is f(ε_i) + u_s + e_is. Seeds are paired over the grid (same
noise draw, order and initialisation), so least squares removes the seed effect u_s; only the
interaction e_is, with spread σ, blurs the position of the maximum. `analysis.response.curves` draws
curves f from the point means with noise σ² / seeds. The interval of the best ε holds the sets of
ε at which the drawn curves have their maxima; docs/statistics.md has its measured coverage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.load import response_metric
from analysis.response.curves import CurveDraws, draw_curves
from analysis.response.quadrature import FloatArray

CONFIDENCE = 0.95
FLAT_LEVEL = 0.1  # level of the two tests together whether a curve is flat
_EDGE = 4  # a top within so many of `CurveDraws.positions` of an end lies on it
_NULL_DRAWS = 4000  # of the statistic of the stretches under a flat curve


@dataclass(frozen=True)
class BestEpsilon:
    """The ε at which the curve is highest.

    Attributes:
        value: posterior median of the maximum; of a level top, between the medians of its ends.
        low: lower end of the interval, a quantile of where the top begins.
        high: upper end of the interval, a quantile of where the top ends.
        on_edge: with a probability above one half the top reaches an end of the range that was
            swept (within 1 % of the range), so that `value` is a bound.
        confidence: of the interval, in (0, 1).
        flat: the sweep cannot tell the curve from a flat one. Then there is no best ε, and the
            interval is the whole range.
        noise_unknown: the sweep has one seed, so that nothing says how far its networks scatter.
            Then `flat` is set as well: no difference between two ε can be told from noise.
    """

    value: float
    low: float
    high: float
    on_edge: bool
    confidence: float
    flat: bool = False
    noise_unknown: bool = False


@dataclass(frozen=True)
class Response:
    """A cell's response to ε.

    Attributes:
        metric: the column of `trials` that was used.
        points: one row per ε: epsilon, mean over seeds, n (seeds), lr.
        curve: one row per grid point: epsilon, middle, low, high (pointwise, seed effect removed).
        best: the best ε with its interval.
        indifference: (low, high) of the stretch around the best ε that is at most δ lower.
        peaks: ε of each drawn curve's maximum, shape (draws,); the middle of a level top.
        probes: {name: ε} as given to `fit_response`.
        shortfall: {name: best accuracy minus accuracy at the probed ε, for each drawn curve,
            shape (draws,)}.
        noise: spread σ of a single network around curve and seed effect, near the maximum.
        seeds: number of seeds.
    """

    metric: str
    points: pd.DataFrame
    curve: pd.DataFrame
    best: BestEpsilon
    indifference: tuple[float, float]
    peaks: FloatArray
    probes: dict[str, float]
    shortfall: dict[str, FloatArray]
    noise: float
    seeds: int


def sweep_points(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Accuracy per ε and seed of a cell's sweep, each ε at its best learning rate.

    For an ε that was trained at several learning rates (or with several losses, in a cell that
    searches them), the one with the best mean over seeds is kept. Repeats of a seed are averaged.

    Args:
        rows: `trials` of the cell's sweep stage.
        metric: the accuracy column.

    Returns:
        columns epsilon, seed, lr, accuracy; one row per ε and seed.
    """
    rows = rows.assign(accuracy=rows[metric]).dropna(subset=["accuracy"])
    varied = [c for c in ("lr", "loss", "loss_params") if c in rows and rows[c].nunique() > 1]
    keys = ["epsilon", *varied]
    means = rows.groupby(keys, dropna=False)["accuracy"].mean().reset_index()
    best = means.sort_values("accuracy").drop_duplicates("epsilon", keep="last")
    kept = rows.merge(best[keys], on=keys) if varied else rows
    grouped = kept.groupby(["epsilon", "seed"], dropna=False, as_index=False)
    return grouped.agg(lr=("lr", "first"), accuracy=("accuracy", "mean"))


def fit_response(
    rows: pd.DataFrame,
    margin: float,
    probes: Mapping[str, float] | None = None,
    rng_seed: int = 0,
) -> Response | None:
    """Fit one cell's sweep.

    Args:
        rows: `trials` of the cell's sweep stage.
        margin: δ of the indifference region, an accuracy in [0, 1].
        probes: {name: ε} at which the shortfall from the best is wanted.
        rng_seed: seed of the draws.

    Returns:
        None if fewer than four ε were trained, too few for a curve.
    """
    if rows.empty:
        return None
    metric = response_metric(rows)
    points = sweep_points(rows, metric)
    table = points.pivot(index="epsilon", columns="seed", values="accuracy")
    if len(table) < 4:
        return None
    epsilon = table.index.to_numpy(dtype=float)
    y = table.to_numpy(dtype=float)
    fit = fit_sweep(epsilon, y, rng_seed)
    drawn, adjusted = fit.drawn, fit.adjusted
    grid, draws, curve, peaks = drawn.grid, drawn.curves, drawn.middle, drawn.peaks
    at = {k: int(np.abs(grid - e).argmin()) for k, e in (probes or {}).items()}
    band = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    frame = pd.DataFrame({"epsilon": grid, "middle": curve, "low": band[0], "high": band[1]})
    summary = pd.DataFrame({"epsilon": epsilon, "mean": np.nanmean(y, axis=1)})
    summary["n"] = np.isfinite(y).sum(axis=1)
    summary["lr"] = points.groupby("epsilon")["lr"].first().to_numpy()
    return Response(
        metric=metric,
        points=summary,
        curve=frame,
        best=fit.best,
        indifference=indifference(grid, curve, margin),
        peaks=peaks,
        probes=dict(probes or {}),
        shortfall={k: draws.max(axis=1) - draws[:, i] for k, i in at.items()},
        noise=adjusted.noise,
        seeds=int(y.shape[1]),
    )


@dataclass(frozen=True)
class SweepFit:
    """Point means, drawn curves and best ε of one sweep."""

    adjusted: PointMeans
    drawn: CurveDraws
    best: BestEpsilon


def fit_sweep(epsilon: FloatArray, y: FloatArray, rng_seed: int = 0) -> SweepFit:
    """Fit accuracies of shape (points, seeds) at sorted ε of shape (points,)."""
    adjusted = remove_seed_effect(y)
    drawn = draw_curves(epsilon, adjusted.means, adjusted.variances, adjusted.dof, rng_seed)
    unknown = adjusted.dof < 1
    best = best_epsilon(drawn, flat=unknown or is_flat(y), noise_unknown=unknown)
    return SweepFit(adjusted, drawn, best)


@dataclass(frozen=True)
class PointMeans:
    """Seed-adjusted means of a sweep.

    Attributes:
        means: shape (points,).
        variances: squared standard errors of the means, for comparing points of one curve; shape
            (points,).
        noise: spread of a single network near the maximum.
        dof: residual degrees of freedom of `noise`.
    """

    means: FloatArray
    variances: FloatArray
    noise: float
    dof: int


def remove_seed_effect(y: FloatArray) -> PointMeans:
    """Point means and their errors with the seed effect removed.

    Where a loss fails (ε = 0), seeds differ far more than near the maximum, and a common spread
    would blur the maximum. Points above and below the middle of the range of means therefore have
    separate spreads and seed effects.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.
    """
    rough = np.nanmean(y, axis=1)
    upper = rough >= (rough.max() + rough.min()) / 2
    zones = [upper, ~upper] if min(upper.sum(), (~upper).sum()) >= 2 else [rough > -np.inf]
    means, variances = rough.copy(), np.zeros(len(y))
    noise, dof = 0.0, 0
    for k, zone in enumerate(zones):
        effects, variance, zone_dof = _two_way(y[zone])
        means[zone] = effects
        variances[zone] = variance / np.isfinite(y[zone]).sum(axis=1)
        if k == 0:
            noise, dof = float(np.sqrt(variance)), zone_dof
    return PointMeans(means, variances, noise, dof)


def _two_way(y: FloatArray) -> tuple[FloatArray, float, int]:
    """Least squares of y_is = m_i + u_s: point means, residual variance, degrees of freedom."""
    points, seeds = y.shape
    i, s = np.nonzero(np.isfinite(y))
    design = np.zeros((len(i), points + seeds))
    design[np.arange(len(i)), i] = 1.0
    design[np.arange(len(i)), points + s] = 1.0
    solution, _, rank, _ = np.linalg.lstsq(design, y[i, s], rcond=None)
    residual = y[i, s] - design @ solution
    dof = len(i) - int(rank)
    variance = float(residual @ residual / dof) if dof > 0 else 0.0
    return solution[:points] + solution[points:].mean(), variance, dof


def is_flat(y: FloatArray, level: float = FLAT_LEVEL) -> bool:
    """Whether neither of two tests with seeds as blocks rejects equal point means.

    The F test is sensitive to many points that differ a little, the largest stretch of neighbours
    above the others to a narrow maximum, on which the F test has little power. Each has half the
    level.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.
        level: of both tests together, in (0, 1).
    """
    means, variance, dof = _two_way(y)
    if dof < 1 or variance <= 0:
        return False
    networks = np.isfinite(y).sum(axis=1)
    between = float(networks.mean() * means.var(ddof=1))
    if stats.f.sf(between / variance, len(y) - 1, dof) <= level / 2:
        return False
    contrasts = _stretches(len(y))
    scale = np.sqrt(variance * (contrasts**2 @ (1 / networks)))
    return bool((contrasts @ means / scale).max() <= _stretch_limit(len(y), dof, level / 2))


def _stretches(points: int) -> FloatArray:
    """Contrasts of each stretch of neighbouring points with the other points."""
    inside = np.array(
        [
            [first <= k < last for k in range(points)]
            for first in range(points)
            for last in range(first + 1, points + 1)
            if last - first < points
        ],
        dtype=float,
    )
    size = inside.sum(axis=1, keepdims=True)
    return np.asarray(inside / size - (1 - inside) / (points - size))


@lru_cache(maxsize=256)
def _stretch_limit(points: int, dof: int, level: float) -> float:
    """The limit that the largest stretch of a flat curve exceeds with probability `level`."""
    rng = np.random.default_rng([points, dof])
    contrasts = _stretches(points)
    contrasts /= np.sqrt((contrasts**2).sum(axis=1, keepdims=True))
    largest = (rng.standard_normal((_NULL_DRAWS, points)) @ contrasts.T).max(axis=1)
    largest /= np.sqrt(rng.chisquare(dof, _NULL_DRAWS) / dof)
    return float(np.quantile(largest, 1 - level))


def best_epsilon(
    drawn: CurveDraws,
    confidence: float = CONFIDENCE,
    flat: bool = False,
    noise_unknown: bool = False,
) -> BestEpsilon:
    """The best ε from the posterior of the curve's top.

    A curve with a level top has a set of best ε. The interval therefore reaches from a quantile of
    the top's lower end to one of its upper end.

    Args:
        drawn: the posterior.
        confidence: of the interval, in (0, 1).
        flat: whether the sweep is flat by `is_flat`.
        noise_unknown: whether there is no estimate of the noise.
    """
    low, high = float(drawn.positions[0]), float(drawn.positions[-1])
    value = 0.5 * (_quantile(drawn, drawn.first, 0.5) + _quantile(drawn, drawn.last, 0.5))
    if flat:
        return BestEpsilon(value, low, high, False, confidence, True, noise_unknown)
    first = _quantile(drawn, drawn.first, (1 - confidence) / 2)
    last = _quantile(drawn, drawn.last, (1 + confidence) / 2)
    edge = max(drawn.first[_EDGE], 1 - drawn.last[-1 - _EDGE]) > 0.5
    return BestEpsilon(value, first, last, bool(edge), confidence)


def _quantile(drawn: CurveDraws, distribution: FloatArray, share: float) -> float:
    """Position at which a distribution function of the top reaches `share`, within the range."""
    return float(np.interp(share, distribution, drawn.positions))


def indifference(grid: FloatArray, curve: FloatArray, margin: float) -> tuple[float, float]:
    """Ends of the stretch around the maximum where the curve is at most `margin` lower.

    Args:
        grid: ε, shape (P,).
        curve: accuracies, shape (P,).
        margin: δ, an accuracy in [0, 1].
    """
    top = int(curve.argmax())
    below = np.nonzero(curve < curve[top] - margin)[0]
    left, right = below[below < top], below[below > top]
    first = int(left[-1]) + 1 if len(left) else 0
    last = int(right[0]) - 1 if len(right) else len(grid) - 1
    return float(grid[first]), float(grid[last])
