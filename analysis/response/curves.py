"""Which curves are plausible given a few noisy points? Their posterior, by quadrature.

A curve has a level top from m₁ to m₂, mostly a single point m₁ = m₂, and on either side of it a
loss that grows with the distance d: accuracy = T − a · g(d). The shapes g and the prior scales of
the heights a are those of `analysis.response.shapes`; the two sides are independent, so that a
collapse on one side says nothing about the other. No shape is exact: a point that lies d below the
highest one is fitted with a standard deviation of κ·d on top of its noise, for several κ. What
happens where the loss fails thus does not fix the maximum.

Given m₁, m₂, the shapes and κ, the model is linear in T and the two heights, which are integrated
in closed form, and so is the factor on the noise, whose estimate is uncertain. What remains is a
sum over a grid: no random numbers, and hence the same interval every time. A first pass over the
whole range finds where the maximum can be; a second pass resolves that stretch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from analysis.response.shapes import SHAPES, TOP_SHAPES, Shape, losses

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]

GRID = 241  # points of a drawn curve over the range
DRAWS = 1000  # curves

KAPPAS = (0.1, 0.2, 0.45)  # standard deviation of the points per depth
KAPPA_PRIOR = (0.4, 0.35, 0.25)
LEVEL_PROBABILITY = 0.15  # prior probability that the top is level over a stretch
LEVEL_LENGTH = 0.25  # mean length of that stretch, exponentially distributed
OUTSIDE_PROBABILITY = 0.08  # prior probability that the maximum lies beyond an end of the range
OUTSIDE_DISTANCE = 0.3  # mean distance from that end, exponentially distributed
_FIRST_PASS, _SECOND_PASS = 36, 72  # positions of the maximum
_LEVEL_PASS = 22  # positions of each end of a level top
_LEVEL_RANGE = (-0.2, 1.2)  # where the ends of a level top are sought
_BEYOND = np.array([0.02, 0.08, 0.2, 0.45, 0.9])  # distances beyond an end
_KEEP = 3e-4  # shapes, κ and positions with a smaller share are left out of the second pass
_MIN_NOISE = 1e-7  # of the points' variance, for numerical stability
_GUESSED_NOISE = 0.1  # without an estimate: standard deviation in that of the points


@dataclass(frozen=True)
class CurveDraws:
    """The posterior of a curve: draws of it, and where its maximum is.

    Attributes:
        grid: positions, shape (GRID,), in the unit of x.
        curves: shape (DRAWS, GRID), in the unit of the means.
        middle: pointwise median, shape (GRID,).
        peaks: middle of each drawn curve's top, inside the range, shape (DRAWS,).
        positions: positions from one end of the range to the other, shape (Q,).
        first: probability that the top begins at or before each position, shape (Q,).
        last: probability that the top ends at or before each position, shape (Q,).
    """

    grid: FloatArray
    curves: FloatArray
    middle: FloatArray
    peaks: FloatArray
    positions: FloatArray
    first: FloatArray
    last: FloatArray


def draw_curves(
    x: FloatArray, means: FloatArray, variances: FloatArray, dof: int, rng_seed: int = 0
) -> CurveDraws:
    """Posterior of the curve given point means.

    Args:
        x: sorted positions, shape (P,), in any unit.
        means: values at x, shape (P,).
        variances: estimated squared standard errors of the means, shape (P,).
        dof: degrees of freedom of these estimates; 0 if there are none.
        rng_seed: seed of the drawn curves; the maximum's probabilities do not depend on it.
    """
    top, spread = float(means.max()), max(float(means.std()), 1e-9)
    noise = np.full(len(x), _GUESSED_NOISE**2) if dof == 0 else variances / spread**2
    unit = (x - x[0]) / np.ptp(x)
    model = CurveModel(unit, (means - top) / spread, np.maximum(noise, _MIN_NOISE), dof)
    nodes = model.posterior()
    positions = np.linspace(0.0, 1.0, 2 * (GRID - 1) + 1)
    first, last = nodes.distributions(positions)
    curves, peaks = model.draw(nodes, np.random.default_rng(rng_seed))
    return CurveDraws(
        grid=np.linspace(x[0], x[-1], GRID),
        curves=top + spread * curves,
        middle=top + spread * np.median(curves, axis=0),
        peaks=x[0] + np.ptp(x) * peaks,
        positions=x[0] + np.ptp(x) * positions,
        first=first,
        last=last,
    )


@dataclass(frozen=True)
class Block:
    """Nodes that share their shapes: single maxima, or level tops.

    Attributes:
        start: index of the first node.
        probability: posterior, shape (n, κ, left shapes, right shapes).
        lefts: shapes of the left side.
        rights: shapes of the right side.
        kappas: indices into `KAPPAS`.
    """

    start: int
    probability: FloatArray
    lefts: list[Shape]
    rights: list[Shape]
    kappas: IntArray


@dataclass(frozen=True)
class Nodes:
    """Nodes of the quadrature with their posterior probabilities.

    Attributes:
        first: where the top begins, shape (N,).
        last: where the top ends, shape (N,).
        width: of the cells around `first` and `last`, shape (N, 2).
        blocks: probabilities by shapes and κ.
    """

    first: FloatArray
    last: FloatArray
    width: FloatArray
    blocks: list[Block]

    def distributions(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Distribution functions of both ends of the top, each node uniform over its cell."""
        weights = np.concatenate([b.probability.sum(axis=(1, 2, 3)) for b in self.blocks])
        return (
            _distribution(self.first, self.width[:, 0], weights, positions),
            _distribution(self.last, self.width[:, 1], weights, positions),
        )


class CurveModel:
    """Posterior of a curve given point means.

    Args:
        x: positions from 0 to 1, shape (P,).
        y: means minus the highest, in standard deviations of the means, shape (P,).
        noise: their estimated variances, shape (P,).
        dof: degrees of freedom of these estimates; 0 for a guess.
    """

    def __init__(self, x: FloatArray, y: FloatArray, noise: FloatArray, dof: int) -> None:
        self.x, self.y, self.dof = x, y, max(dof, 1)
        # Neighbouring points miss a shape in the same way, so that more of them say no more.
        depth = (y.max() - y) * np.sqrt((len(x) - 1) / 9)
        self.weight = 1 / (noise + (np.array(KAPPAS)[:, None] * depth) ** 2)  # (κ, P)

    def posterior(self) -> Nodes:
        """Nodes with their posterior probabilities, by two passes."""
        shapes, kappas = list(SHAPES), np.arange(len(KAPPAS))
        inner, inner_width = _cells(0.0, 1.0, _FIRST_PASS)
        outer, outer_width = _beyond_cells()
        at, width = np.r_[outer, inner], np.r_[outer_width, inner_width]
        single = self._single(at, width, shapes, shapes, kappas)
        ends = _cells(*_LEVEL_RANGE, _LEVEL_PASS)
        low, high, level = self._level(ends, ends, kappas)
        single, level = _normalised(single, level)

        by_kappa = single.sum(axis=(0, 2, 3)) + level.sum(axis=(0, 2, 3))
        kappas = np.flatnonzero(by_kappa > _KEEP)
        least = _KEEP * single.sum()
        lefts = [shapes[k] for k in np.flatnonzero(single.sum(axis=(0, 1, 3)) > least)]
        rights = [shapes[k] for k in np.flatnonzero(single.sum(axis=(0, 1, 2)) > least)]
        likely = inner[single.sum(axis=(1, 2, 3))[len(outer) :] > least]
        if len(likely):
            margin = 1.5 * inner_width[0]
            span = max(likely[0] - margin, 0.0), min(likely[-1] + margin, 1.0)
            inner, inner_width = _cells(*span, _SECOND_PASS)
        at, width = np.r_[outer, inner], np.r_[outer_width, inner_width]
        single = self._single(at, width, lefts, rights, kappas)
        pairs = level.sum(axis=(1, 2, 3)) > _KEEP * level.sum()
        half = ends[1][0] / 2
        lows, highs = (
            _cells(v[pairs].min() - half, v[pairs].max() + half, _LEVEL_PASS) for v in (low, high)
        )
        low, high, level = self._level(lows, highs, kappas)
        single, level = _normalised(single, level)
        tops = list(TOP_SHAPES)
        n, m = len(at), len(low)
        return Nodes(
            first=np.r_[at, low],
            last=np.r_[at, high],
            width=np.r_[
                np.column_stack([width, width]), np.tile([lows[1][0], highs[1][0]], (m, 1))
            ],
            blocks=[
                Block(0, single, lefts, rights, kappas),
                Block(n, level, tops, tops, kappas),
            ],
        )

    def _single(
        self,
        at: FloatArray,
        width: FloatArray,
        lefts: list[Shape],
        rights: list[Shape],
        kappas: IntArray,
    ) -> FloatArray:
        """Log probability of single maxima in cells, shape (n, κ, left, right)."""
        prior = np.log(_single_prior(at) * width)
        return prior[:, None, None, None] + self._log_posterior(at, at, lefts, rights, kappas)

    def _level(
        self,
        lows: tuple[FloatArray, FloatArray],
        highs: tuple[FloatArray, FloatArray],
        kappas: IntArray,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Ends of level tops, from cells for either end, and their log probabilities."""
        low, high = (k.ravel() for k in np.meshgrid(lows[0], highs[0], indexing="ij"))
        keep = (high > low) & (high > 0) & (low < 1)
        low, high = low[keep], high[keep]
        prior = np.log(_level_prior(low, high) * lows[1][0] * highs[1][0])
        tops = list(TOP_SHAPES)
        level = self._log_posterior(low, high, tops, tops, kappas)
        return low, high, prior[:, None, None, None] + level

    def _sides(
        self, at: FloatArray, shapes: list[Shape], kappas: IntArray, left: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of w·g and w·y·g, and of w·g² + 1 / scale², over the points of one side.

        Returns:
            three arrays of shape (positions, κ, shapes).
        """
        d = at[:, None] - self.x if left else self.x - at[:, None]
        g = losses(shapes, np.maximum(d, 0.0))  # (n, shapes, P)
        w = self.weight[kappas]
        g_sum = np.einsum("nkp,cp->nck", g, w, optimize=True)
        yg_sum = np.einsum("nkp,cp->nck", g, w * self.y, optimize=True)
        gg_sum = np.einsum("nkp,cp->nck", g * g, w, optimize=True)
        scale = np.array([s.scale for s in shapes])
        return g_sum, yg_sum, gg_sum + scale**-2.0

    def _log_posterior(
        self,
        first: FloatArray,
        last: FloatArray,
        lefts: list[Shape],
        rights: list[Shape],
        kappas: IntArray,
    ) -> FloatArray:
        """Log of likelihood times prior of shapes and κ, shape (n, κ, left, right)."""
        w = self.weight[kappas]
        total, total_y, total_yy = w.sum(axis=1), w @ self.y, w @ (self.y**2)
        gl, yl, dl = (k[:, :, :, None] for k in self._sides(first, lefts, kappas, True))
        gr, yr, dr = (k[:, :, None, :] for k in self._sides(last, rights, kappas, False))
        four = (slice(None), None, None)
        alpha = (total[four] - gl**2 / dl) - gr**2 / dr
        beta = (total_y[four] - gl * yl / dl) - gr * yr / dr
        gamma = (total_yy[four] - yl**2 / dl) - yr**2 / dr
        alpha = np.maximum(alpha, 1e-9 * total[four])
        top = beta / alpha
        misfit = np.maximum(gamma - beta * top, 0.0)
        degrees = self.dof + len(self.x) - 1
        spread2 = (self.dof + misfit) / degrees
        left_sd = np.sqrt(spread2 * (1 / dl + (gl / dl) ** 2 / alpha))
        right_sd = np.sqrt(spread2 * (1 / dr + (gr / dr) ** 2 / alpha))
        positive = ndtr((top * gl - yl) / dl / left_sd) * ndtr((top * gr - yr) / dr / right_sd)
        log_left = np.array([np.log(2 * s.weight / s.scale) for s in lefts])
        log_right = np.array([np.log(2 * s.weight / s.scale) for s in rights])
        constant = 0.5 * np.log(w).sum(axis=1) + np.log(np.array(KAPPA_PRIOR)[kappas])
        value = np.log(np.maximum(positive, 1e-300))
        value -= 0.5 * degrees * np.log(spread2) + 0.5 * np.log(alpha)
        value += (log_left - 0.5 * np.log(dl[..., 0]))[..., None]
        value += (log_right - 0.5 * np.log(dr[..., 0, :]))[..., None, :]
        return np.asarray(value + constant[four])

    def draw(self, nodes: Nodes, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw curves.

        Returns:
            curves of shape (DRAWS, GRID) and the middles of their tops, shape (DRAWS,), in [0, 1].
        """
        flat = np.concatenate([b.probability.ravel() for b in nodes.blocks])
        wanted = (np.arange(DRAWS) + rng.uniform()) / DRAWS * flat.sum()
        chosen = np.minimum(np.searchsorted(np.cumsum(flat), wanted), len(flat) - 1)
        grid = np.linspace(0.0, 1.0, GRID)
        curves, peaks = np.empty((DRAWS, GRID)), np.empty(DRAWS)
        offset = 0
        for block in nodes.blocks:
            size, shape = block.probability.size, block.probability.shape
            rows = np.flatnonzero((chosen >= offset) & (chosen < offset + size))
            at, kappa, left, right = np.unravel_index(chosen[rows] - offset, shape)
            offset, at = offset + size, block.start + at
            jitter = rng.uniform(-0.5, 0.5, len(rows))
            first = nodes.first[at] + jitter * nodes.width[at, 0]
            last = nodes.last[at] + jitter * nodes.width[at, 1]
            lefts, rights = [block.lefts[k] for k in left], [block.rights[k] for k in right]
            drawn = self._heights(first, last, lefts, rights, block.kappas[kappa], rng)
            top, a, b = (v[:, None] for v in drawn)
            curves[rows] = (
                top
                - a * _own_losses(lefts, np.maximum(first[:, None] - grid, 0.0))
                - b * _own_losses(rights, np.maximum(grid - last[:, None], 0.0))
            )
            peaks[rows] = 0.5 * (np.clip(first, 0.0, 1.0) + np.clip(last, 0.0, 1.0))
        return curves, peaks

    def _heights(
        self, first: FloatArray, last: FloatArray, lefts: list[Shape], rights: list[Shape],
        kappas: IntArray, rng: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
        """Draws of the top and of the two heights, each of shape (n,)."""
        g_left = _own_losses(lefts, np.maximum(first[:, None] - self.x, 0.0))
        g_right = _own_losses(rights, np.maximum(self.x - last[:, None], 0.0))
        design = np.stack([np.ones_like(g_left), -g_left, -g_right], axis=2)  # (n, P, 3)
        w = self.weight[kappas]
        precision = np.einsum("npi,np,npj->nij", design, w, design, optimize=True)
        precision[:, 1, 1] += np.array([s.scale for s in lefts]) ** -2.0
        precision[:, 2, 2] += np.array([s.scale for s in rights]) ** -2.0
        covariance = np.linalg.inv(precision)
        mean = np.einsum("nij,npj,np->ni", covariance, design, w * self.y, optimize=True)
        residual = self.y - np.einsum("npi,ni->np", design, mean)
        degrees = self.dof + len(self.x) - 1
        misfit = self.dof + (w * residual**2).sum(axis=1)
        s = np.sqrt(misfit / rng.chisquare(degrees, len(mean)))
        root = np.linalg.cholesky(covariance)
        drawn = mean + s[:, None] * np.einsum("nij,nj->ni", root, rng.standard_normal(mean.shape))
        return drawn[:, 0], np.abs(drawn[:, 1]), np.abs(drawn[:, 2])


def _own_losses(shapes: list[Shape], d: FloatArray) -> FloatArray:
    """Losses of one shape per row; d of shape (n, P)."""
    values = np.empty_like(d)
    kinds = {id(s): s for s in shapes}
    which = np.array([id(s) for s in shapes])
    for key, shape in kinds.items():
        rows = np.flatnonzero(which == key)
        values[rows] = losses([shape], d[rows])[:, 0]
    return values


def _distribution(
    at: FloatArray, width: FloatArray, weights: FloatArray, positions: FloatArray
) -> FloatArray:
    """Share of the weights at or before each position."""
    order = np.r_[at - width / 2, at + width / 2]
    density = np.r_[weights / width, -weights / width]
    # The integral of a sum of boxes, from the ramps that begin and end at their edges.
    rank = np.argsort(order, kind="stable")
    edges, steps = order[rank], np.cumsum(density[rank])
    integral = np.r_[0.0, np.cumsum(steps[:-1] * np.diff(edges))]
    share = np.interp(positions, edges, np.maximum.accumulate(integral))  # rounding
    return np.asarray(np.clip(share, 0.0, 1.0))


def _normalised(*logs: FloatArray) -> list[FloatArray]:
    """Probabilities that add up to 1 over all arrays."""
    highest = max(float(log.max()) for log in logs)
    values = [np.exp(log - highest) for log in logs]
    total = sum(float(v.sum()) for v in values)
    return [v / total for v in values]


def _cells(low: float, high: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Middles and widths of equal cells."""
    edges = np.linspace(low, high, count + 1)
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)


def _beyond_cells() -> tuple[FloatArray, FloatArray]:
    """Positions beyond either end of the range, and the widths of their cells."""
    edges = np.r_[0.0, 0.5 * (_BEYOND[1:] + _BEYOND[:-1]), 1.3]
    return np.r_[-_BEYOND, 1 + _BEYOND], np.tile(np.diff(edges), 2)


def _single_prior(at: FloatArray) -> FloatArray:
    """Prior density of a single maximum: uniform inside the range, exponential beyond."""
    beyond = np.maximum(np.maximum(-at, at - 1), 0.0)
    outer = OUTSIDE_PROBABILITY * np.exp(-beyond / OUTSIDE_DISTANCE) / OUTSIDE_DISTANCE
    density = np.where(beyond > 0, outer, 1 - 2 * OUTSIDE_PROBABILITY)
    return np.asarray((1 - LEVEL_PROBABILITY) * density)


def _level_prior(low: FloatArray, high: FloatArray) -> FloatArray:
    """Prior density of the ends of a level top: uniform middle, exponential length."""
    return np.asarray(
        LEVEL_PROBABILITY
        / np.ptp(_LEVEL_RANGE)
        * np.exp(-(high - low) / LEVEL_LENGTH)
        / LEVEL_LENGTH
    )
