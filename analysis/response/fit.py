"""Response of accuracy to ε: a curve per cell, the best ε with an interval, what is near best.

Accuracy of seed s at grid point i is f(ε_i) + u_s + e_is. Seeds are paired over the grid (same
noise draw, order and initialisation), so the seed effect u_s is removed by least squares and only
the interaction e_is, with spread σ, blurs the place of the maximum. Curves f are drawn by
`analysis.response.curves` from the point means with noise σ² / seeds, and the interval of the best ε is read
from the curves' maxima. Its coverage is measured in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.load import response_metric
from analysis.response.curves import draw_curves

CONFIDENCE = 0.95
FLAT_LEVEL = 0.05  # of the test that a curve is flat

Array = np.ndarray


@dataclass(frozen=True)
class BestEpsilon:
    """Where the curve is highest.

    `value` is the median of the drawn maxima. `on_edge`: more than half of them lie on an end of
    the range that was swept, so the value is a bound and not a number. `flat`: the sweep cannot
    tell the curve from a flat one, so there is no best ε, and the interval is the whole range.
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
        points: one row an ε: epsilon, mean over seeds, n (seeds), lr.
        curve: one row a grid point: epsilon, middle, low, high (pointwise, seed effect removed).
        best: the best ε with its interval.
        indifference: (low, high) of the stretch around the best ε that is at most δ lower.
        places: drawn best ε, shape (draws,).
        probes: {name: ε} that were asked for.
        shortfall: {name: drawn best accuracy − accuracy at a probed ε, (draws,)}.
        noise: spread σ of a single network around curve and seed effect, near the top.
        seeds: number of seeds.
    """

    metric: str
    points: pd.DataFrame
    curve: pd.DataFrame
    best: BestEpsilon
    indifference: tuple[float, float]
    places: Array
    probes: dict[str, float]
    shortfall: dict[str, Array]
    noise: float
    seeds: int


def sweep_points(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row an ε and seed of a cell's sweep, with the learning rate tuned out.

    Where an ε was trained at several learning rates (or with several losses, in a cell that
    searches them), the one with the best mean over seeds is kept; repeats of a seed are averaged.

    Returns:
        columns epsilon, seed, lr, accuracy.
    """
    rows = rows.assign(accuracy=rows[metric]).dropna(subset=["accuracy"])
    others = [c for c in ("lr", "loss", "loss_params") if c in rows and rows[c].nunique() > 1]
    ways = ["epsilon", *others]
    by_way = rows.groupby(ways, dropna=False)["accuracy"].mean().reset_index()
    best = by_way.sort_values("accuracy").drop_duplicates("epsilon", keep="last")
    kept = rows.merge(best[ways], on=ways) if others else rows
    out = kept.groupby(["epsilon", "seed"], dropna=False, as_index=False)
    return out.agg(lr=("lr", "first"), accuracy=("accuracy", "mean"))


def fit_response(
    rows: pd.DataFrame,
    margin: float,
    probes: Mapping[str, float] | None = None,
    rng_seed: int = 0,
) -> Response | None:
    """Fit one cell's sweep.

    Args:
        rows: `trials` of the cell's sweep stage.
        margin: δ of the indifference region, in accuracy.
        probes: named ε at which the shortfall from the best is wanted.
        rng_seed: of the draws.

    Returns:
        None where fewer than four ε were trained: there is no curve then.
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
    found = remove_seed_effect(y)
    drawn = draw_curves(epsilon, found.means, found.variances, found.dof, rng_seed)
    grid, draws, curve, places = drawn.grid, drawn.curves, drawn.middle, drawn.places
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
        best=best_epsilon(places, grid[0], grid[-1], flat=is_flat(y)),
        indifference=indifference(grid, curve, margin),
        places=places,
        probes=dict(probes or {}),
        shortfall={k: draws.max(axis=1) - draws[:, i] for k, i in at.items()},
        noise=found.noise,
        seeds=int(y.shape[1]),
    )


@dataclass(frozen=True)
class PointMeans:
    """Seed-adjusted means of a sweep: arrays (points,), and the residual degrees of freedom.

    `variances` are squared standard errors of the means, for comparing points of one curve.
    """

    means: Array
    variances: Array
    noise: float  # spread of a single network near the top
    dof: int


def remove_seed_effect(y: Array) -> PointMeans:
    """Point means and their errors with the seed effect removed.

    Where a loss fails (ε = 0), seeds differ far more than near the top, and one common spread would
    blur the top; so points above and below the middle of the range of means have their own spread
    and their own seed effects.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.
    """
    rough = np.nanmean(y, axis=1)
    upper = rough >= (rough.max() + rough.min()) / 2
    zones = [upper, ~upper] if min(upper.sum(), (~upper).sum()) >= 2 else [rough > -np.inf]
    means, variances = rough.copy(), np.zeros(len(y))
    noise, dof = 0.0, 0
    for k, zone in enumerate(zones):
        effects, variance, freedom = _two_way(y[zone])
        means[zone] = effects
        variances[zone] = variance / np.isfinite(y[zone]).sum(axis=1)
        if k == 0:
            noise, dof = float(np.sqrt(variance)), freedom
    return PointMeans(means, variances, noise, dof)


def _two_way(y: Array) -> tuple[Array, float, int]:
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


def is_flat(y: Array, level: float = FLAT_LEVEL) -> bool:
    """Whether an F test of equal point means, seeds as blocks, keeps them equal at `level`.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.
    """
    means, variance, dof = _two_way(y)
    if dof < 1 or variance <= 0:
        return False
    between = float(np.isfinite(y).sum(axis=1).mean() * means.var(ddof=1))
    return bool(stats.f.sf(between / variance, len(y) - 1, dof) > level)


def best_epsilon(
    places: Array, low: float, high: float, confidence: float = CONFIDENCE, flat: bool = False
) -> BestEpsilon:
    """The best ε from drawn maxima (draws,) on a range from `low` to `high`."""
    ends = np.quantile(
        places, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2], method="closest_observation"
    )
    if flat:
        return BestEpsilon(float(ends[1]), float(low), float(high), False, confidence, True)
    edge = max(np.mean(places <= low), np.mean(places >= high)) > 0.5
    return BestEpsilon(float(ends[1]), float(ends[0]), float(ends[2]), bool(edge), confidence)


def indifference(grid: Array, curve: Array, margin: float) -> tuple[float, float]:
    """Ends of the stretch around the curve's maximum where it is at most `margin` lower."""
    top = int(curve.argmax())
    below = np.nonzero(curve < curve[top] - margin)[0]
    left, right = below[below < top], below[below > top]
    first = int(left[-1]) + 1 if len(left) else 0
    last = int(right[0]) - 1 if len(right) else len(grid) - 1
    return float(grid[first]), float(grid[last])
