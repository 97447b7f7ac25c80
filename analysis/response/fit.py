"""The response of a cell's accuracy to ε: curve, best ε with an interval, indifference region.

The accuracy of seed s at grid point i is f(ε_i) + u_s + e_is. Seeds are paired over the grid (same
noise draw, order and initialisation), so least squares removes the seed effect u_s; only the
interaction e_is, with spread σ, blurs the position of the maximum. `analysis.response.curves` draws
curves f from the point means with noise σ² / seeds. The interval of the best ε is that of the
curves' maxima; docs/statistics.md has its measured coverage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.load import response_metric
from analysis.response.curves import draw_curves
from analysis.response.smc import FloatArray

CONFIDENCE = 0.95
FLAT_LEVEL = 0.05  # level of the test whether a curve is flat


@dataclass(frozen=True)
class BestEpsilon:
    """The ε at which the curve is highest.

    Attributes:
        value: median of the drawn maxima.
        low: lower end of the interval.
        high: upper end of the interval.
        on_edge: more than half of the maxima lie on an end of the range that was swept, so that
            `value` is a bound.
        confidence: of the interval, in (0, 1).
        flat: the sweep cannot tell the curve from a flat one. Then there is no best ε, and the
            interval is the whole range.
    """

    value: float
    low: float
    high: float
    on_edge: bool
    confidence: float
    flat: bool = False


@dataclass(frozen=True)
class Response:
    """A cell's response to ε.

    Attributes:
        metric: the column of `trials` that was used.
        points: one row per ε: epsilon, mean over seeds, n (seeds), lr.
        curve: one row per grid point: epsilon, middle, low, high (pointwise, seed effect removed).
        best: the best ε with its interval.
        indifference: (low, high) of the stretch around the best ε that is at most δ lower.
        peaks: ε of each drawn curve's maximum, shape (draws,).
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
    adjusted = remove_seed_effect(y)
    drawn = draw_curves(epsilon, adjusted.means, adjusted.variances, adjusted.dof, rng_seed)
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
        best=best_epsilon(peaks, float(grid[0]), float(grid[-1]), flat=is_flat(y)),
        indifference=indifference(grid, curve, margin),
        peaks=peaks,
        probes=dict(probes or {}),
        shortfall={k: draws.max(axis=1) - draws[:, i] for k, i in at.items()},
        noise=adjusted.noise,
        seeds=int(y.shape[1]),
    )


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
    """Whether an F test with seeds as blocks does not reject equal point means.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.
        level: of the test, in (0, 1).
    """
    means, variance, dof = _two_way(y)
    if dof < 1 or variance <= 0:
        return False
    between = float(np.isfinite(y).sum(axis=1).mean() * means.var(ddof=1))
    return bool(stats.f.sf(between / variance, len(y) - 1, dof) > level)


def best_epsilon(
    peaks: FloatArray, low: float, high: float, confidence: float = CONFIDENCE, flat: bool = False
) -> BestEpsilon:
    """The best ε from the maxima of drawn curves.

    Args:
        peaks: ε of each curve's maximum, shape (draws,).
        low: lower end of the range that was swept.
        high: upper end of that range.
        confidence: of the interval, in (0, 1).
        flat: whether the sweep is flat by `is_flat`.
    """
    ends = np.quantile(
        peaks, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2], method="closest_observation"
    )
    if flat:
        return BestEpsilon(float(ends[1]), float(low), float(high), False, confidence, True)
    edge = max(np.mean(peaks <= low), np.mean(peaks >= high)) > 0.5
    return BestEpsilon(float(ends[1]), float(ends[0]), float(ends[2]), bool(edge), confidence)


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
