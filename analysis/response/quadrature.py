"""What the parts of a curve's posterior share: points, positions and their prior, draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]

KEEP = 3e-4  # what has a smaller share in a first pass is left out of the second one
OUTSIDE_PROBABILITY = 0.2  # prior probability that the maximum lies beyond an end of the range
OUTSIDE_DISTANCE = 0.3  # mean distance from that end, exponentially distributed
_BEYOND = np.array([0.02, 0.08, 0.2, 0.45, 0.9])  # distances beyond an end
_BEYOND_END = 1.3
_EXACT_POINTS = 10  # points up to which each one has a misfit of its own


@dataclass(frozen=True)
class Points:
    """Noisy points of a curve.

    Attributes:
        x: positions from 0 to 1, shape (P,).
        y: means minus the highest, in standard deviations of the means, shape (P,).
        noise: their estimated variances, shape (P,).
        dof: degrees of freedom of these estimates, at least 1.
    """

    x: FloatArray
    y: FloatArray
    noise: FloatArray
    dof: int

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the factor on noise and misfit, with the level integrated out."""
        return self.dof + len(self.x) - 1

    def weights(self, kappas: tuple[float, ...], floor: float = 0.0) -> FloatArray:
        """Precisions of the points.

        Args:
            kappas: standard deviations per depth by which a shape fails.
            floor: another standard deviation, so that a coarse grid does not miss a maximum.

        Returns:
            shape (κ, P).
        """
        # Neighbouring points miss a shape in the same way, so that more of them say no more.
        depth = (self.y.max() - self.y) * np.sqrt((len(self.x) - 1) / (_EXACT_POINTS - 1))
        return np.asarray(1 / (self.noise + floor**2 + (np.array(kappas)[:, None] * depth) ** 2))


class Part(Protocol):
    """Nodes of a quadrature over one kind of curve.

    Attributes:
        log: log of prior times likelihood; the first axis, of length N, goes over positions.
        first: where the top begins, shape (N,).
        last: where the top ends, shape (N,).
        width: of the cells around `first` and `last`, shape (N, 2).
    """

    @property
    def log(self) -> FloatArray:
        """Log of prior times likelihood."""

    @property
    def first(self) -> FloatArray:
        """Where the top begins."""

    @property
    def last(self) -> FloatArray:
        """Where the top ends."""

    @property
    def width(self) -> FloatArray:
        """Widths of the cells around both."""

    def draw(
        self, chosen: IntArray, grid: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Curves of some nodes.

        Args:
            chosen: indices into the flattened `log`, shape (n,).
            grid: positions, shape (G,).
            rng: source of the draws.

        Returns:
            curves of shape (n, G), middles of their tops inside the range, shape (n,).
        """


def normalised(*logs: FloatArray) -> list[FloatArray]:
    """Probabilities that add up to 1 over all arrays."""
    highest = max(float(log.max(initial=-np.inf)) for log in logs)
    values = [np.exp(log - highest) for log in logs]
    total = sum(float(v.sum()) for v in values)
    return [v / total for v in values]


def cells(low: float, high: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Middles and widths of equal cells."""
    edges = np.linspace(low, high, count + 1)
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)


def positions(low: float, high: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Cells for a single maximum: between `low` and `high`, and beyond either end of the range."""
    inner, inner_width = cells(low, high, count)
    edges = np.r_[0.0, 0.5 * (_BEYOND[1:] + _BEYOND[:-1]), _BEYOND_END]
    outer = np.tile(np.diff(edges), 2)
    return np.r_[-_BEYOND, 1 + _BEYOND, inner], np.r_[outer, inner_width]


def likely_span(at: FloatArray, width: FloatArray, share: FloatArray) -> tuple[float, float]:
    """The stretch inside the range where a first pass has found maxima; all of it for none.

    Args:
        at: of `positions`, shape (N,).
        width: of their cells, shape (N,).
        share: of the probability, shape (N,).
    """
    likely = at[(share > KEEP) & (at > 0) & (at < 1)]
    if len(likely) == 0:
        return 0.0, 1.0
    margin = 1.5 * float(width[-1])
    return max(float(likely.min()) - margin, 0.0), min(float(likely.max()) + margin, 1.0)


def position_prior(at: FloatArray) -> FloatArray:
    """Prior density of a single maximum: uniform inside the range, exponential beyond."""
    beyond = np.maximum(np.maximum(-at, at - 1), 0.0)
    outer = OUTSIDE_PROBABILITY * np.exp(-beyond / OUTSIDE_DISTANCE) / OUTSIDE_DISTANCE
    return np.asarray(np.where(beyond > 0, outer, 1 - 2 * OUTSIDE_PROBABILITY))


def coefficients(
    points: Points,
    weights: FloatArray,
    design: FloatArray,
    prior: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Draws of the coefficients of linear models, one for each.

    Args:
        points: P of them.
        weights: of the points, shape (n, P).
        design: shape (n, P, c).
        prior: prior precisions, shape (n, c).
        rng: source of the draws.

    Returns:
        shape (n, c).
    """
    precision = np.einsum("npi,np,npj->nij", design, weights, design, optimize=True)
    precision += prior[:, :, None] * np.eye(design.shape[2])
    covariance = np.linalg.inv(precision)
    mean = np.einsum("nij,npj,np->ni", covariance, design, weights * points.y, optimize=True)
    residual = points.y - np.einsum("npi,ni->np", design, mean)
    misfit = points.dof + (weights * residual**2).sum(axis=1)
    s = np.sqrt(misfit / rng.chisquare(points.degrees, len(mean)))
    root = np.linalg.cholesky(covariance)
    normal = rng.standard_normal(mean.shape)
    return np.asarray(mean + s[:, None] * np.einsum("nij,nj->ni", root, normal))
