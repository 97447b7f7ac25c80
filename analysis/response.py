"""Response of accuracy to ε: a curve per cell, the best ε with an interval, what is near best.

Model. Accuracy of seed s at grid point i is f(ε_i) + u_s + e_is. Seeds are paired over the grid
(same noise draw, order and initialisation), so the seed effect u_s is removed by least squares and
only the interaction e_is, with spread σ, blurs the place of the maximum. On the P point means lies
a Gaussian process with scikit-learn's kernels and white noise σ² / seeds.

Interval. One fitted kernel would understate how little a few points say about the curve between
them, so amplitude, length scale, smoothness, noise and a warp of the ε axis (domes are steep on the
left) are drawn from their posterior on a grid, a curve is drawn for each (Matheron's rule), and the
interval is read from the curves' maxima. Its coverage is measured in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import chi2
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern

from analysis.load import response_metric

CONFIDENCE = 0.95
GRID = 241  # points of the drawn curves over the range of ε
DRAWS = 2000

_WARPS = (0.0, 3.0, 15.0)  # u = log(1 + k x) / log(1 + k) with x in [0, 1]; 0 is linear
_LENGTHS = np.geomspace(0.06, 2.5, 12)  # of the warped range
_AMPLITUDES = np.geomspace(0.1, 10.0, 9)  # of the standard deviation of the point means
_NOISE_NODES = 5
_LEVEL = 25.0  # variance of the curve's level, in units of the amplitude's

Array = np.ndarray


@dataclass(frozen=True)
class BestEpsilon:
    """Where the curve is highest.

    `value` is the median of the drawn maxima. `on_edge`: more than half of them lie on an end of
    the range that was swept, so the value is a bound and not a number.
    """

    value: float
    low: float
    high: float
    on_edge: bool
    confidence: float


@dataclass(frozen=True)
class Response:
    """A cell's response to ε.

    Attributes:
        metric: the column of `trials` that was used.
        points: one row an ε: epsilon, mean over seeds, n (seeds), lr.
        curve: one row a grid point: epsilon, mean, low, high (pointwise, seed effect removed).
        best: the best ε with its interval.
        indifference: (low, high) of the stretch around the best ε that is at most δ lower.
        draws: drawn curves, shape (DRAWS, GRID), for further questions.
        noise: spread σ of a single network around curve and seed effect, in accuracy.
        seeds: number of seeds.
    """

    metric: str
    points: pd.DataFrame
    curve: pd.DataFrame
    best: BestEpsilon
    indifference: tuple[float, float]
    draws: Array
    noise: float
    seeds: int

    def shortfall(self, epsilon: float) -> Array:
        """Drawn best accuracy − accuracy at `epsilon` (clipped to the range), (DRAWS,)."""
        grid = self.curve["epsilon"].to_numpy()
        at = int(np.abs(grid - np.clip(epsilon, grid[0], grid[-1])).argmin())
        return self.draws.max(axis=1) - self.draws[:, at]


def sweep_points(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row an ε and seed of a cell's sweep, with the learning rate tuned out.

    Where an ε was trained at several learning rates, the one with the best mean over seeds is kept;
    repeats of a seed are averaged.

    Returns:
        columns epsilon, seed, lr, accuracy.
    """
    rows = rows.assign(accuracy=rows[metric]).dropna(subset=["accuracy"])
    by_lr = rows.groupby(["epsilon", "lr"], dropna=False)["accuracy"].mean().reset_index()
    best = by_lr.sort_values("accuracy").drop_duplicates("epsilon", keep="last")
    kept = rows.merge(best[["epsilon", "lr"]], on=["epsilon", "lr"])
    out = kept.groupby(["epsilon", "seed"], dropna=False, as_index=False)
    return out.agg(lr=("lr", "first"), accuracy=("accuracy", "mean"))


def fit_response(rows: pd.DataFrame, margin: float, rng_seed: int = 0) -> Response | None:
    """Fit one cell's sweep.

    Args:
        rows: `trials` of the cell's sweep stage.
        margin: δ of the indifference region, in accuracy.
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
    means, counts, variance, dof = remove_seed_effect(y)
    grid, draws, curve = draw_curves(epsilon, means, counts, variance, dof, rng_seed)
    best = best_epsilon(grid, draws, CONFIDENCE)
    band = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    frame = pd.DataFrame({"epsilon": grid, "mean": curve, "low": band[0], "high": band[1]})
    summary = pd.DataFrame({"epsilon": epsilon, "mean": np.nanmean(y, axis=1), "n": counts})
    summary["lr"] = points.groupby("epsilon")["lr"].first().to_numpy()
    return Response(
        metric=metric,
        points=summary,
        curve=frame,
        best=best,
        indifference=indifference(grid, curve, margin),
        draws=draws,
        noise=float(np.sqrt(variance)),
        seeds=int(y.shape[1]),
    )


def remove_seed_effect(y: Array) -> tuple[Array, Array, float, int]:
    """Point means with the seed effect removed, by least squares of y_is = m_i + u_s.

    Args:
        y: accuracies, shape (points, seeds), NaN where a network is missing.

    Returns:
        means (points,), counts (points,), residual variance, its degrees of freedom (0 with one
        seed).
    """
    points, seeds = y.shape
    i, s = np.nonzero(np.isfinite(y))
    design = np.zeros((len(i), points + seeds))
    design[np.arange(len(i)), i] = 1.0
    design[np.arange(len(i)), points + s] = 1.0
    solution, _, rank, _ = np.linalg.lstsq(design, y[i, s], rcond=None)
    residual = y[i, s] - design @ solution
    dof = len(i) - int(rank)
    variance = float(residual @ residual / dof) if dof > 0 else 0.0
    means = solution[:points] + solution[points:].mean()
    return means, np.bincount(i, minlength=points), variance, dof


def draw_curves(
    epsilon: Array, means: Array, counts: Array, variance: float, dof: int, rng_seed: int = 0
) -> tuple[Array, Array, Array]:
    """Curves from the Gaussian process posterior, its hyperparameters drawn too.

    Args:
        epsilon: (P,) sorted grid.
        means: (P,) seed-adjusted mean accuracies.
        counts: (P,) seeds of each.
        variance: of a single network, from `remove_seed_effect`.
        dof: degrees of freedom of the variance.
        rng_seed: of the draws.

    Returns:
        grid (GRID,), curves (DRAWS, GRID), posterior mean (GRID,).
    """
    rng = np.random.default_rng(rng_seed)
    priors = _priors(tuple(np.round((epsilon - epsilon[0]) / np.ptp(epsilon), 12)))
    centre = means.mean()
    spread = max(float(means.std()), 1e-9)
    y = (means - centre) / spread
    noise = _noise_nodes(variance, dof, spread)  # (N,) variances of one network
    weight = np.sqrt(counts)

    # log marginal likelihood of every (prior, amplitude, noise); whitening by √n makes the noise
    # equal over points, so one eigendecomposition serves all amplitudes and noises of a prior.
    amplitude2 = _AMPLITUDES**2
    scores, spectra = [], []
    for prior in priors:
        values, vectors = np.linalg.eigh(weight[:, None] * prior.points * weight)
        z = vectors.T @ (weight * y)
        scale = amplitude2[:, None, None] * values + noise[None, :, None]  # (A, N, P)
        scores.append(-0.5 * (z**2 / scale + np.log(scale)).sum(axis=-1))
        spectra.append((values, vectors))
    score = np.array(scores)
    probability = np.exp(score - score.max()).ravel()
    cumulative = np.cumsum(probability / probability.sum())
    picks = np.searchsorted(cumulative, (np.arange(DRAWS) + rng.uniform()) / DRAWS)
    which, a_index, n_index = np.unravel_index(np.minimum(picks, score.size - 1), score.shape)

    grid_u = np.linspace(0.0, 1.0, GRID)
    curves = np.empty((DRAWS, GRID))
    mean = np.zeros(GRID)
    for r in np.unique(which):
        mine = np.nonzero(which == r)[0]
        prior, (values, vectors) = priors[r], spectra[r]
        a2, s2 = amplitude2[a_index[mine]], noise[n_index[mine]]
        path = np.sqrt(a2) * (prior.root @ rng.standard_normal((prior.root.shape[1], len(mine))))
        at_grid, at_points = path[:GRID], path[GRID:]
        error = rng.standard_normal(at_points.shape) * np.sqrt(s2) / weight[:, None]
        scale = a2 * values[:, None] + s2
        # Matheron: prior path + gain · (data − prior path at the points − noise)
        gap = vectors @ ((vectors.T @ (weight[:, None] * (y[:, None] - at_points - error))) / scale)
        fit = vectors @ ((vectors.T @ (weight * y))[:, None] / scale)
        curves[mine] = (at_grid + a2 * (prior.cross @ (weight[:, None] * gap))).T
        mean += (a2 * (prior.cross @ (weight[:, None] * fit))).sum(axis=1)
    grid = epsilon[0] + np.ptp(epsilon) * grid_u
    return grid, centre + spread * curves, centre + spread * mean / DRAWS


def best_epsilon(grid: Array, curves: Array, confidence: float = CONFIDENCE) -> BestEpsilon:
    """The best ε from drawn curves, shape (draws, grid)."""
    top = curves.argmax(axis=1)
    place = grid[top].astype(float)
    inner = (top > 0) & (top < len(grid) - 1)
    rows = np.nonzero(inner)[0]
    left, mid, right = (curves[rows, top[rows] + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    place[rows] += shift * (grid[1] - grid[0])
    low, value, high = np.quantile(
        place, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2], method="closest_observation"
    )
    edge = max(np.mean(top == 0), np.mean(top == len(grid) - 1)) > 0.5
    return BestEpsilon(float(value), float(low), float(high), bool(edge), confidence)


def indifference(grid: Array, curve: Array, margin: float) -> tuple[float, float]:
    """Ends of the stretch around the curve's maximum where it is at most `margin` lower."""
    top = int(curve.argmax())
    below = np.nonzero(curve < curve[top] - margin)[0]
    left, right = below[below < top], below[below > top]
    first = int(left[-1]) + 1 if len(left) else 0
    last = int(right[0]) - 1 if len(right) else len(grid) - 1
    return float(grid[first]), float(grid[last])


@dataclass(frozen=True)
class _Prior:
    """A unit-amplitude prior on given points: their covariance, and a root over grid and points."""

    points: Array  # (P, P)
    cross: Array  # (GRID, P)
    root: Array  # (GRID + P, k)


@lru_cache(maxsize=8)
def _priors(x: tuple[float, ...]) -> list[_Prior]:
    """Priors of every warp, smoothness and length scale for points x in [0, 1]."""
    everywhere = np.concatenate([np.linspace(0.0, 1.0, GRID), np.array(x)])
    found = []
    for warp in _WARPS:
        u = np.log1p(warp * everywhere) / np.log1p(warp) if warp else everywhere
        for length in _LENGTHS:
            shapes: list[Kernel] = [Matern(length, nu=2.5), Matern(length, nu=1.5)]
            for shape in shapes:
                covariance = (ConstantKernel(_LEVEL) + shape)(u[:, None])
                values, vectors = np.linalg.eigh(covariance)
                keep = values > 1e-10 * values[-1]
                root = vectors[:, keep] * np.sqrt(values[keep])
                found.append(_Prior(covariance[GRID:, GRID:], covariance[:GRID, GRID:], root))
    return found


def _noise_nodes(variance: float, dof: int, spread: float) -> Array:
    """Equally likely values of the noise variance, in units of spread²; a guess with one seed."""
    tiny = 1e-6
    if dof == 0:
        return np.geomspace(1e-3, 1.0, _NOISE_NODES)
    at = (np.arange(_NOISE_NODES) + 0.5) / _NOISE_NODES
    return np.maximum(dof * variance / chi2.ppf(at, dof) / spread**2, tiny)
