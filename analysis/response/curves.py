"""Which curves are plausible given a few noisy points? Their posterior, by quadrature.

A curve is of one of five kinds, each with a prior probability:

- a smooth top, with one height for both sides (`analysis.response.domes`);
- a collapse on one side and a slow loss over the whole range (`analysis.response.collapses`);
- two sides of simple shapes with a kink or a jump of the curvature at the top, and two sides of
  many shapes that need not fit (`analysis.response.sides`);
- a top that is level over a stretch, likewise.

No shape is exact: a point that lies d below the highest one is fitted with a standard deviation of
κ·d on top of its noise, for several κ. What happens where the loss fails thus does not fix the
maximum, unless the points do follow a shape: then the small κ have most of the probability.

Given positions, shapes and κ, the model is linear in level and heights, which are integrated in
closed form, and so is the factor on the noise, whose estimate is uncertain. What remains is a sum
over a grid: no random numbers, and hence the same interval every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.response.collapses import collapses
from analysis.response.domes import smooth_tops
from analysis.response.quadrature import FloatArray, Part, Points, normalised
from analysis.response.sides import exact_sides, level_tops, loose_sides

GRID = 241  # points of a drawn curve over the range
DRAWS = 1000  # curves

# Kinds of curves with their prior probabilities.
KINDS: tuple[tuple[float, Callable[[Points], Part]], ...] = (
    (0.30, smooth_tops),
    (0.25, collapses),
    (0.15, exact_sides),
    (0.10, loose_sides),
    (0.20, level_tops),
)
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
    points = Points(unit, (means - top) / spread, np.maximum(noise, _MIN_NOISE), max(dof, 1))
    posterior = Posterior(points)
    positions = np.linspace(0.0, 1.0, 2 * (GRID - 1) + 1)
    first, last = posterior.distributions(positions)
    curves, peaks = posterior.draw(np.random.default_rng(rng_seed))
    return CurveDraws(
        grid=np.linspace(x[0], x[-1], GRID),
        curves=top + spread * curves,
        middle=top + spread * np.median(curves, axis=0),
        peaks=x[0] + np.ptp(x) * peaks,
        positions=x[0] + np.ptp(x) * positions,
        first=first,
        last=last,
    )


class Posterior:
    """Posterior of a curve over all kinds.

    Args:
        points: the points.
    """

    def __init__(self, points: Points) -> None:
        self.parts = [kind(points) for _, kind in KINDS]
        logs = [p.log + np.log(k) for p, (k, _) in zip(self.parts, KINDS, strict=True)]
        self.probabilities = normalised(*logs)

    def distributions(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Distribution functions of both ends of the top, each node uniform over its cell."""
        weights = np.concatenate([p.reshape(len(p), -1).sum(axis=1) for p in self.probabilities])
        width = np.concatenate([p.width for p in self.parts])
        return (
            _distribution(
                np.concatenate([p.first for p in self.parts]), width[:, 0], weights, positions
            ),
            _distribution(
                np.concatenate([p.last for p in self.parts]), width[:, 1], weights, positions
            ),
        )

    def draw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw curves.

        Returns:
            curves of shape (DRAWS, GRID) and the middles of their tops, shape (DRAWS,), in [0, 1].
        """
        sizes = np.array([p.size for p in self.probabilities])
        flat = np.concatenate([p.ravel() for p in self.probabilities])
        wanted = (np.arange(DRAWS) + rng.uniform()) / DRAWS * flat.sum()
        chosen = np.minimum(np.searchsorted(np.cumsum(flat), wanted), len(flat) - 1)
        starts = np.r_[0, np.cumsum(sizes)]
        grid = np.linspace(0.0, 1.0, GRID)
        curves, peaks = np.empty((DRAWS, GRID)), np.empty(DRAWS)
        for k, part in enumerate(self.parts):
            rows = np.flatnonzero((chosen >= starts[k]) & (chosen < starts[k + 1]))
            if len(rows):
                curves[rows], peaks[rows] = part.draw(chosen[rows] - starts[k], grid, rng)
        return curves, peaks


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
