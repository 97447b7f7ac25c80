"""Smooth tops: curves whose two sides belong together, with one height for both.

A dome is a loss g(u) of a warped distance u from the top. Without a skew, u = d / w. A skewed bell
or parabola has u = log(1 + k·d / w) / k, which grows faster on the side where 1 + k·d / w falls to
0; such a bell is a Gaussian in log(ε + c). A gamma shape is a power of x·exp(−x), shifted and
scaled. The width of a split bell changes by a factor exp(±k) either way, gradually over its top or
at once. That the sides belong together lets the flanks, which a sweep resolves, fix the top, which
it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from analysis.response.quadrature import (
    KEEP,
    FloatArray,
    IntArray,
    Points,
    coefficients,
    likely_span,
    normalised,
    position_prior,
    positions,
)

PARABOLA, BELL, SECH, LORENTZ, BROAD, SOFT_SPLIT, SPLIT, HARD_SPLIT, GAMMA = range(9)
_TRANSITION = {SOFT_SPLIT: 1.0, SPLIT: 0.4, HARD_SPLIT: 1e-6}  # of a split bell, in widths
HEIGHT = 1.5  # prior scale of the height (half normal), in standard deviations of the points
_WIDTHS = np.geomspace(0.05, 0.9, 16)
_SKEWS = (0.15, 0.3, 0.45)
_SPLITS = (0.2, 0.4, 0.6, 0.8)
_GAMMAS = (0.3, 0.5, 0.7, 1.0)
_SKEW_STEP = 0.15  # distance of neighbouring skews
_FINE_SHAPES, _MOST_PARTS = 180, 8  # wanted in the second pass, and at most for one of the first
KAPPAS = (0.02, 0.05, 0.1)  # standard deviation of the points per depth
KAPPA_PRIOR = (0.4, 0.35, 0.25)
# Positions, κ and floor (`Points.weights`) of passes that find positions and shapes.
_COARSE_PASSES = ((30, (0.1,), 0.08), (48, (0.05,), 0.015))
_LAST_PASS = 56  # positions
_STEEPEST = 1e-4  # least value of 1 + k·d / w
_LEAST_SPREAD = 0.02  # of the losses at the points, so that a dome between two points stays finite


@dataclass(frozen=True)
class Domes:
    """Smooth shapes of a whole curve.

    Attributes:
        kind: PARABOLA … GAMMA, shape (S,).
        width: w in units of the range, shape (S,).
        skew: k, shape (S,).
        weight: prior probabilities, shape (S,).
    """

    kind: IntArray
    width: FloatArray
    skew: FloatArray
    weight: FloatArray

    def take(self, which: IntArray) -> Domes:
        """Some of the shapes, in the order of `which`."""
        return Domes(self.kind[which], self.width[which], self.skew[which], self.weight[which])

    def finer(self) -> Domes:
        """Shapes between these and their neighbours, as many as are worth it."""
        parts = int(np.clip(_FINE_SHAPES // len(self.kind), 1, _MOST_PARTS))
        skews = min(parts, 3)
        step = np.log(_WIDTHS[1] / _WIDTHS[0]) * ((np.arange(parts) + 0.5) / parts - 0.5)
        shift = _SKEW_STEP * ((np.arange(skews) + 0.5) / skews - 0.5)
        of, width, skew = (
            v.ravel()
            for v in np.meshgrid(np.arange(len(self.kind)), np.exp(step), shift, indexing="ij")
        )
        domes, skewed = self.take(of), self.skew[of] != 0
        keep = skewed | (skew == shift[skews // 2])
        weight = domes.weight / parts / np.where(skewed, skews, 1)
        return Domes(
            domes.kind, domes.width * width, domes.skew + np.where(skewed, skew, 0.0), weight
        ).take(np.flatnonzero(keep))

    def losses(self, d: FloatArray) -> FloatArray:
        """Losses at signed distances.

        Args:
            d: position minus the top, in units of the range, shape (n, P).

        Returns:
            shape (n, S, P).
        """
        values = np.empty((d.shape[0], len(self.kind), d.shape[1]))
        for kind in np.unique(self.kind):
            for skewed in (False, True):
                rows = np.flatnonzero((self.kind == kind) & ((self.skew != 0) == skewed))
                if len(rows):
                    u = d[:, None, :] / self.width[rows, None]
                    if skewed:
                        u = _warp(int(kind), u, self.skew[rows, None])
                    values[:, rows] = _loss(int(kind), u)
        return values

    def own_losses(self, d: FloatArray) -> FloatArray:
        """Losses where row i of d belongs to shape i; shapes (S, P) of both."""
        u = d / self.width[:, None]
        values = np.empty_like(d)
        for kind in np.unique(self.kind):
            rows = self.kind == kind
            skewed = np.flatnonzero(rows & (self.skew != 0))
            u[skewed] = _warp(int(kind), u[skewed], self.skew[skewed, None])
            values[rows] = _loss(int(kind), u[rows])
        return values


def _warp(kind: int, u: FloatArray, skew: FloatArray) -> FloatArray:
    """Warped distances from those in widths, without their sign for a gamma shape."""
    if kind in _TRANSITION:
        return np.asarray(u * np.exp(-skew * np.tanh(u / _TRANSITION[kind])))
    x = np.maximum(1 + skew * u, _STEEPEST)
    if kind == GAMMA:  # the loss 1 − (x · exp(1 − x))^(1 / k²) as that of a bell
        return np.asarray(np.sqrt(np.maximum(2 * (x - 1 - np.log(x)), 0.0)) / skew)
    return np.asarray(np.log(x) / skew)


def _loss(kind: int, u: FloatArray) -> FloatArray:
    """Loss at warped distances of any shape."""
    if kind == PARABOLA:
        return np.asarray(u * u)
    if kind in (BELL, GAMMA) or kind in _TRANSITION:
        return np.asarray(-np.expm1(-0.5 * u * u))
    if kind == SECH:
        return np.asarray(1 - 1 / np.cosh(np.minimum(np.abs(u), 50.0)))
    if kind == LORENTZ:
        return np.asarray(1 - 1 / (1 + u * u))
    return np.asarray(-np.expm1(-((u * u) ** 2)))


def spread(losses: FloatArray) -> FloatArray:
    """Standard deviation over the points, the unit of the losses; the last axis is the points'."""
    return np.asarray(np.maximum(losses.std(axis=-1), _LEAST_SPREAD))


def _all_domes() -> Domes:
    """Every dome, with prior weights that add up to 1."""
    signed = [s * k for k in _SKEWS for s in (-1, 1)]
    rows: list[tuple[int, float, float, float]] = [(PARABOLA, 0.3, 0.0, 0.2)]
    rows += [(PARABOLA, w, k, 0.1 / 10) for w in (0.1, 0.2, 0.35, 0.6, 1.0) for k in (-0.4, 0.4)]
    n = len(_WIDTHS)
    rows += [(BELL, w, 0.0, 0.25 / n) for w in _WIDTHS]
    rows += [(BELL, w, k, 0.2 / n / len(signed)) for k in signed for w in _WIDTHS]
    splits = [s * k for k in _SPLITS for s in (-1, 1)]
    rows += [
        (kind, w, k, 0.3 / n / len(splits) / len(_TRANSITION))
        for kind in _TRANSITION
        for k in splits
        for w in _WIDTHS
    ]
    rows += [(GAMMA, w, s * k, 0.02 / n) for k in _GAMMAS for s in (-1, 1) for w in _WIDTHS]
    rows += [(SECH, w, 0.0, 0.1 / n) for w in _WIDTHS]
    rows += [(LORENTZ, w, 0.0, 0.1 / n) for w in _WIDTHS]
    rows += [(BROAD, w, 0.0, 0.05 / n) for w in _WIDTHS]
    kinds, width, skew, weight = (np.array(v) for v in zip(*rows, strict=True))
    return Domes(kinds, width, skew, weight / weight.sum())


DOMES = _all_domes()


@dataclass(frozen=True)
class SmoothTops:
    """Posterior of domes; a `quadrature.Part`.

    Attributes:
        points: the points.
        first: the maximum, shape (N,).
        width: of the cells around it, twice, shape (N, 2).
        domes: shapes.
        log: log of prior times likelihood, shape (N, κ, shapes).
    """

    points: Points
    first: FloatArray
    width: FloatArray
    domes: Domes
    log: FloatArray

    @property
    def last(self) -> FloatArray:
        """The maximum, shape (N,)."""
        return self.first

    def draw(
        self, chosen: IntArray, grid: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Curves of some nodes, see `quadrature.Part`."""
        at, kappa, shape = np.unravel_index(chosen, self.log.shape)
        top = self.first[at] + rng.uniform(-0.5, 0.5, len(at)) * self.width[at, 0]
        dome = self.domes.take(shape)
        g = dome.own_losses(self.points.x - top[:, None])
        unit = spread(g)[:, None]
        design = np.stack([np.ones_like(g), -g / unit], axis=2)
        prior = np.tile([0.0, HEIGHT**-2], (len(at), 1))
        weights = self.points.weights(KAPPAS)[kappa]
        drawn = coefficients(self.points, weights, design, prior, rng)
        curves = drawn[:, [0]] - np.abs(drawn[:, [1]]) * dome.own_losses(grid - top[:, None]) / unit
        return curves, np.clip(top, 0.0, 1.0)


def smooth_tops(points: Points) -> SmoothTops:
    """Posterior of domes, by passes over ever fewer positions and shapes."""
    domes, span = DOMES, (0.0, 1.0)
    for count, kappas, floor in _COARSE_PASSES:
        at, width = positions(*span, count)
        prior = (1 / len(kappas),) * len(kappas)
        (share,) = normalised(_log_posterior(points, at, width, domes, kappas, prior, floor))
        domes = domes.take(np.flatnonzero(share.sum(axis=(0, 1)) > KEEP))
        span = likely_span(at, width, share.sum(axis=(1, 2)))
    domes = domes.finer()
    at, width = positions(*span, _LAST_PASS)
    log = _log_posterior(points, at, width, domes, KAPPAS, KAPPA_PRIOR)
    return SmoothTops(points, at, np.column_stack([width, width]), domes, log)


def _log_posterior(
    points: Points,
    at: FloatArray,
    width: FloatArray,
    domes: Domes,
    kappas: tuple[float, ...],
    prior: tuple[float, ...],
    floor: float = 0.0,
) -> FloatArray:
    """Log of prior times likelihood with level and height integrated out, (n, κ, shapes)."""
    w = points.weights(kappas, floor)
    g = domes.losses(points.x - at[:, None])
    g /= spread(g)[..., None]
    n, s, p = g.shape
    flat = g.reshape(n * s, p)
    total, total_y, total_yy = (
        v[:, None] for v in (w.sum(axis=1), w @ points.y, w @ (points.y**2))
    )
    g_sum, yg_sum, gg_sum = (
        np.swapaxes((a @ b.T).reshape(n, s, len(w)), 1, 2)
        for a, b in ((flat, w), (flat, w * points.y), (flat * flat, w))
    )
    gg_sum = gg_sum + HEIGHT**-2
    alpha = np.maximum(total - g_sum**2 / gg_sum, 1e-9 * total)
    top = (total_y - g_sum * yg_sum / gg_sum) / alpha
    misfit = np.maximum(total_yy - yg_sum**2 / gg_sum - alpha * top**2, 0.0)
    spread2 = (points.dof + misfit) / points.degrees
    sd = np.sqrt(spread2 * (1 / gg_sum + (g_sum / gg_sum) ** 2 / alpha))
    value = np.log(np.maximum(ndtr((top * g_sum - yg_sum) / gg_sum / sd), 1e-300))
    value -= 0.5 * (points.degrees * np.log(spread2) + np.log(alpha) + np.log(gg_sum))
    value += np.log(2 * domes.weight / HEIGHT)
    value += np.log(position_prior(at) * width)[:, None, None]
    return np.asarray(value + (0.5 * np.log(w).sum(axis=1) + np.log(prior))[:, None])
