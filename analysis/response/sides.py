"""Curves with two independent sides: a top, and a loss of its own on either side of it.

What happens on one side thus says nothing about the other. Given the ends of the top, the shapes of
the sides and κ, the model is linear in the level of the top and the heights of the two losses,
which are integrated in closed form. Coarse passes find where the top can be, and with what shapes;
the last pass resolves that stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from analysis.response.quadrature import (
    KEEP,
    FloatArray,
    IntArray,
    Points,
    cells,
    coefficients,
    likely_span,
    normalised,
    position_prior,
    positions,
)
from analysis.response.shapes import EXACT_SHAPES, SHAPES, TOP_SHAPES, Shape, finer, losses

LEVEL_LENGTH = 0.25  # mean length of a level top, exponentially distributed
_FEW_PAIRS = 100  # of shapes, which are resolved further
_NEGLIGIBLE = 14.0  # log of the share of a node that is left out
_LEVEL_PASS = 22  # positions of each end of a level top
_LEVEL_RANGE = (-0.2, 1.2)  # where the ends of a level top are sought


@dataclass(frozen=True)
class Misfit:
    """How far the shapes may fail.

    Attributes:
        kappas: standard deviations per depth below the highest point.
        prior: their prior probabilities.
    """

    kappas: tuple[float, ...]
    prior: tuple[float, ...]


@dataclass(frozen=True)
class Pass:
    """A pass that finds out which positions and shapes are worth a finer one.

    Attributes:
        count: positions.
        misfit: how far the shapes may fail.
        floor: see `Points.weights`.
    """

    count: int
    misfit: Misfit
    floor: float


LOOSE = Misfit((0.1, 0.2, 0.45), (0.4, 0.35, 0.25))
LEVEL = Misfit((0.03, 0.1, 0.3), (0.4, 0.3, 0.3))
EXACT = Misfit((0.01, 0.03, 0.08), (0.4, 0.35, 0.25))


@dataclass(frozen=True)
class Sides:
    """Posterior of curves with two independent sides; a `quadrature.Part`.

    Attributes:
        points: the points.
        misfit: how far the shapes may fail.
        first: where the top begins, shape (N,).
        last: where the top ends, shape (N,).
        width: of the cells around `first` and `last`, shape (N, 2).
        lefts: shapes of the left side.
        rights: shapes of the right side.
        log: log of prior times likelihood, shape (N, κ, left shapes, right shapes).
    """

    points: Points
    misfit: Misfit
    first: FloatArray
    last: FloatArray
    width: FloatArray
    lefts: list[Shape]
    rights: list[Shape]
    log: FloatArray

    def draw(
        self, chosen: IntArray, grid: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Curves of some nodes, see `quadrature.Part`."""
        at, kappa, left, right = np.unravel_index(chosen, self.log.shape)
        jitter = rng.uniform(-0.5, 0.5, len(at))
        first = (self.first[at] + jitter * self.width[at, 0])[:, None]
        last = (self.last[at] + jitter * self.width[at, 1])[:, None]
        lefts, rights = [self.lefts[k] for k in left], [self.rights[k] for k in right]
        x = self.points.x
        g_left = _own_losses(lefts, np.maximum(first - x, 0.0))
        g_right = _own_losses(rights, np.maximum(x - last, 0.0))
        design = np.stack([np.ones_like(g_left), -g_left, -g_right], axis=2)  # (n, P, 3)
        prior = np.zeros((len(at), 3))
        prior[:, 1] = np.array([s.scale for s in lefts]) ** -2.0
        prior[:, 2] = np.array([s.scale for s in rights]) ** -2.0
        weights = self.points.weights(self.misfit.kappas)[kappa]
        drawn = coefficients(self.points, weights, design, prior, rng)
        curves = (
            drawn[:, [0]]
            - np.abs(drawn[:, [1]]) * _own_losses(lefts, np.maximum(first - grid, 0.0))
            - np.abs(drawn[:, [2]]) * _own_losses(rights, np.maximum(grid - last, 0.0))
        )
        return curves, 0.5 * (np.clip(first, 0.0, 1.0) + np.clip(last, 0.0, 1.0))[:, 0]


def single_tops(
    points: Points, shapes: Sequence[Shape], misfit: Misfit, coarse: Sequence[Pass], last: int
) -> Sides:
    """Posterior of curves with a single maximum, by passes over ever fewer positions and shapes.

    Args:
        points: the points.
        shapes: of either side.
        misfit: how far they may fail.
        coarse: passes that find positions and shapes.
        last: positions of the last pass.
    """
    lefts = rights = list(shapes)
    span = 0.0, 1.0
    for a in coarse:
        at, width = positions(*span, a.count)
        log = log_posterior(points, at, at, lefts, rights, a.misfit, a.floor)
        (share,) = normalised(log + np.log(position_prior(at) * width)[:, None, None, None])
        lefts = [lefts[k] for k in np.flatnonzero(share.sum(axis=(0, 1, 3)) > KEEP)]
        rights = [rights[k] for k in np.flatnonzero(share.sum(axis=(0, 1, 2)) > KEEP)]
        span = likely_span(at, width, share.sum(axis=(1, 2, 3)))
    if len(lefts) * len(rights) <= _FEW_PAIRS:  # else the points do not tell a shape from its parts
        lefts, rights = finer(lefts), finer(rights)
    at, width = positions(*span, last)
    log = log_posterior(points, at, at, lefts, rights, misfit)
    log += np.log(position_prior(at) * width)[:, None, None, None]
    return Sides(points, misfit, at, at, np.column_stack([width, width]), lefts, rights, log)


def loose_sides(points: Points) -> Sides:
    """A single maximum, any shapes, none of which is exact."""
    return single_tops(points, SHAPES, LOOSE, [Pass(30, LOOSE, 0.03)], 56)


def exact_sides(points: Points) -> Sides:
    """A single maximum with a kink or a jump of the curvature, between sides of simple shapes."""
    coarse = Pass(30, Misfit((0.15,), (1.0,)), 0.05), Pass(48, Misfit((0.06,), (1.0,)), 0.01)
    return single_tops(points, EXACT_SHAPES, EXACT, coarse, 56)


def level_tops(points: Points) -> Sides:
    """Posterior of curves whose top is level over a stretch, by two passes."""
    lefts = rights = list(TOP_SHAPES)
    ends_low = ends_high = cells(*_LEVEL_RANGE, _LEVEL_PASS)
    for last in (False, True):
        low, high = (k.ravel() for k in np.meshgrid(ends_low[0], ends_high[0], indexing="ij"))
        keep = (high > low) & (high > 0) & (low < 1)
        low, high = low[keep], high[keep]
        widths = ends_low[1][0], ends_high[1][0]
        density = widths[0] * widths[1] / LEVEL_LENGTH / np.ptp(_LEVEL_RANGE)
        prior = np.log(density) - (high - low) / LEVEL_LENGTH
        log = log_posterior(points, low, high, lefts, rights, LEVEL) + prior[:, None, None, None]
        if last:
            break
        (share,) = normalised(log)
        lefts = [lefts[k] for k in np.flatnonzero(share.sum(axis=(0, 1, 3)) > KEEP)]
        rights = [rights[k] for k in np.flatnonzero(share.sum(axis=(0, 1, 2)) > KEEP)]
        likely = share.sum(axis=(1, 2, 3)) > KEEP
        ends_low, ends_high = (
            cells(
                float(v[likely].min()) - widths[0] / 2,
                float(v[likely].max()) + widths[0] / 2,
                _LEVEL_PASS,
            )
            for v in (low, high)
        )
    return Sides(points, LEVEL, low, high, np.tile(widths, (len(low), 1)), lefts, rights, log)


def log_posterior(
    points: Points,
    first: FloatArray,
    last: FloatArray,
    lefts: Sequence[Shape],
    rights: Sequence[Shape],
    misfit: Misfit,
    floor: float = 0.0,
) -> FloatArray:
    """Log of likelihood times prior of shapes and κ, given the ends of the top.

    Args:
        points: the points.
        first: where the top begins, shape (n,).
        last: where the top ends, shape (n,).
        lefts: shapes of the left side.
        rights: shapes of the right side.
        misfit: how far they may fail.
        floor: see `Points.weights`.

    Returns:
        shape (n, κ, left shapes, right shapes), −∞ where it is negligible.
    """
    w = points.weights(misfit.kappas, floor)
    total, total_y, total_yy = w.sum(axis=1), w @ points.y, w @ (points.y**2)
    left_d, right_d = first[:, None] - points.x, points.x - last[:, None]
    gl, yl, dl = (k[:, :, :, None] for k in _sums(points, w, lefts, left_d))
    gr, yr, dr = (k[:, :, None, :] for k in _sums(points, w, rights, right_d))
    four = (slice(None), None, None)
    alpha = (total[four] - gl**2 / dl) - gr**2 / dr
    beta = (total_y[four] - gl * yl / dl) - gr * yr / dr
    gamma = (total_yy[four] - yl**2 / dl) - yr**2 / dr
    alpha = np.maximum(alpha, 1e-9 * total[four])
    top = beta / alpha
    spread2 = (points.dof + np.maximum(gamma - beta * top, 0.0)) / points.degrees
    value = -0.5 * (points.degrees * np.log(spread2) + np.log(alpha))
    log_left = np.array([np.log(2 * s.weight / s.scale) for s in lefts])
    log_right = np.array([np.log(2 * s.weight / s.scale) for s in rights])
    value += (log_left - 0.5 * np.log(dl[..., 0]))[..., None]
    value += (log_right - 0.5 * np.log(dr[..., 0, :]))[..., None, :]
    value += (0.5 * np.log(w).sum(axis=1) + np.log(np.array(misfit.prior)))[four]
    # Both heights are positive. That costs most of the time, and most nodes do not need it.
    n, k, a, b = keep = np.nonzero(value > value.max() - _NEGLIGIBLE)
    inverse, level, sd = 1 / alpha[keep], top[keep], np.sqrt(spread2[keep])
    positive = np.ones(len(n))
    for gs, ys, ds in (
        (v[n, k, a, 0] for v in (gl, yl, dl)),
        (v[n, k, 0, b] for v in (gr, yr, dr)),
    ):
        ratio = gs / ds
        positive *= ndtr((level * ratio - ys / ds) / (sd * np.sqrt(1 / ds + ratio**2 * inverse)))
    log = np.full(value.shape, -np.inf)
    log[keep] = value[keep] + np.log(np.maximum(positive, 1e-300))
    return log


def _sums(
    points: Points, w: FloatArray, shapes: Sequence[Shape], d: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums of w·g, w·y·g and w·g² + 1 / scale² over the points, each of shape (n, κ, shapes)."""
    g = losses(shapes, np.maximum(d, 0.0))  # (n, shapes, P)
    n, s, p = g.shape
    flat = g.reshape(n * s, p)
    g_sum, yg_sum, gg_sum = (
        np.swapaxes((a @ b.T).reshape(n, s, len(w)), 1, 2)
        for a, b in ((flat, w), (flat, w * points.y), (flat * flat, w))
    )
    return g_sum, yg_sum, gg_sum + np.array([k.scale for k in shapes]) ** -2.0


def _own_losses(shapes: list[Shape], d: FloatArray) -> FloatArray:
    """Losses of one shape per row; d of shape (n, P)."""
    values = np.empty_like(d)
    kinds = {id(s): s for s in shapes}
    which = np.array([id(s) for s in shapes])
    for key, shape in kinds.items():
        rows = np.flatnonzero(which == key)
        values[rows] = losses([shape], d[rows])[:, 0]
    return values
