"""A smooth surface of accuracy over ε and learning rate: a Gaussian process after a warp.

Accuracy is a smooth function of the two settings plus, for every seed (one noise draw, one
initialisation), an offset and a small smooth deviation, plus noise of each network. The smooth
function is a Gaussian process after a warp: a collapse of 70 points is worth a few units, so that
one length scale serves the top and the slope. Networks are weighted at their own slope of the warp
(iterated, as in a generalised linear model), hence noise is averaged in points of accuracy.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

Array = NDArray[np.float64]

FLAT = 25.0  # prior variance of the level: as good as unknown
PRIOR: Array = np.array(  # centre and sd of the log parameters
    [
        [0.7, 1.0],  # s: size of the surface in warped points
        [-0.9, 0.8],  # length of ε, in widths of its range
        [-0.9, 0.8],  # length of log learning rate
        [-0.3, 1.2],  # noise of one network, points
        [-0.3, 0.6],  # offset of a replicate, points
        [-2.0, 0.8],  # a replicate's own deviation from the surface
        [-1.0, 1.0],  # extra noise where networks collapse, warped
    ]
)
BOUNDS: Array = np.array(
    [(-3, 4), (-3.5, 1.5), (-3.5, 1.5), (-3.5, 2.5), (-4, 2.5), (-4.5, 1.0), (-4, 1.5)]
)
ROUGH_LENGTH: Array = np.array([0.12, 0.12])  # of features that the networks may not have seen
_LEAST_VARIANCE = 1e-12
_JITTER = 1e-6  # added to variances, so that a covariance can be factorised


@dataclass(frozen=True)
class Rows:
    """Evidence: one row per network, or per mean over seeds that its group has in common.

    Attributes:
        x: ε and log learning rate, each as a share of its range, shape (n, 2).
        y: accuracy in percentage points, shape (n,).
        group: number of the seed, or of the set of seeds, shape (n,).
        seeds: how many networks a row is the mean of, shape (n,).
    """

    x: Array
    y: Array
    group: Array
    seeds: Array


def _squares(a: Array, b: Array) -> Array:
    """Squared differences of every pair, shape (2, len(a), len(b))."""
    squares: Array = (a.T[:, :, None] - b.T[:, None, :]) ** 2
    return squares


def _matern(squares: Array, length: Array) -> tuple[Array, Array]:
    """Matérn 5/2, and what its derivatives by the log lengths have in common.

    Args:
        squares: squared differences by dimension, shape (2, …).
        length: shape (2,).
    """
    r = np.sqrt(5 * (squares[0] / length[0] ** 2 + squares[1] / length[1] ** 2))
    e = np.exp(-r)
    return (1 + r + r * r / 3) * e, (5 / 3) * (1 + r) * e


def root_of(covariance: Array) -> Array:
    """Lower triangular root of a covariance, shape (n, n)."""
    return np.asarray(np.linalg.cholesky(covariance + _JITTER * np.eye(len(covariance))))


def normal_draws(mean: Array, root: Array, count: int, rng: np.random.Generator) -> Array:
    """Draws of a normal vector, shape (n, count), from its mean and the root of its covariance."""
    draws: Array = mean[:, None] + root @ rng.standard_normal((len(mean), count))
    return draws


class Surface:
    """The posterior of one cell's surface."""

    def __init__(
        self, rows: Rows, rounds: int = 4, prior: Array = PRIOR, rough: float = 0.0
    ) -> None:
        self._rows, self._prior = rows, prior
        # Symmetric matrices are kept as their lower triangle: half of the work.
        self._pairs = one, other = np.tril_indices(len(rows.y))
        self._diagonal = np.flatnonzero(one == other)
        shared = rows.group[one] == rows.group[other]
        self._same = shared / np.sqrt(rows.seeds[one] * rows.seeds[other])
        self._squares = (rows.x[one] - rows.x[other]).T ** 2
        self.rough = rough
        self._ripple = _matern(self._squares, ROUGH_LENGTH)[0]
        self.top = float(np.quantile(rows.y, 0.9))
        self.scale = 3.0
        self.theta = prior[:, 0].copy()
        self._at = self.warp(rows.y)
        for step in range(rounds):
            self._linearise(first=step == 0)
            self._fit(40 if step == 0 else 15)
            self._solve(self.theta)
            self._at = self._warped_mean(rows.x)
            self.scale = max(3.0, 4 * self.sd)
        self._linearise()
        self._solve(self.theta)

    @property
    def sd(self) -> float:
        """Noise of one network, points."""
        return float(np.exp(self.theta[3]))

    def warp(self, y: Array) -> Array:
        """Accuracy in points as warped values."""
        below = np.maximum(self.top - y, 0)
        return np.where(y < self.top, -self.scale * np.log1p(below / self.scale), y - self.top)

    def points(self, g: Array) -> Array:
        """Warped values as accuracy in points, from 0 to 100."""
        return np.clip(self._unwarp(g), 0, 100)

    def _unwarp(self, g: Array) -> Array:
        """The inverse of `warp`."""
        low = np.minimum(g, 0)
        return self.top + np.where(g < 0, -self.scale * np.expm1(-low / self.scale), g)

    def _linearise(self, first: bool = False) -> None:
        """Pseudo-observations of the warped surface, and what a point of accuracy weighs there."""
        y, sd = self._rows.y, float(np.exp(self.theta[3])) / np.sqrt(self._rows.seeds)
        w = self.warp(y)
        at = w if first else np.clip(self._at, w - 2 * sd, w + 2 * sd)
        self._slope = np.exp(np.minimum(at, 0) / self.scale)  # warped points per point
        self._z = at + (y - self._unwarp(at)) * self._slope

    def _kernel(self, t: Array) -> tuple[Array, list[tuple[Array, bool]]]:
        """Covariance of the pseudo-observations, lower triangle by rows, and its derivatives.

        Returns:
            shape (pairs,); and for every parameter its derivative, on all pairs (True) or on the
            diagonal (False).
        """
        m, slope = _matern(self._squares, np.exp(t[1:3]))
        s2, n2, a2, b2, c2 = np.exp(2 * t[[0, 3, 4, 5, 6]])
        noise = n2 * self._slope**2 / self._rows.seeds
        extra = c2 * (1 - self._slope) ** 2
        off = a2 * self._same
        size = s2 + b2 * self._same
        k = FLAT + size * m + off + self.rough**2 * self._ripple
        k[self._diagonal] += noise + extra + 1e-8
        size *= slope
        near, far = (size * q * np.exp(-2 * t[1 + i]) for i, q in enumerate(self._squares))
        parts = [
            (2 * s2 * m, True),
            (near, True),
            (far, True),
            (2 * noise, False),
            (2 * off, True),
            (2 * b2 * self._same * m, True),
            (2 * extra, False),
        ]
        return k, parts

    def _objective(self, t: Array) -> tuple[float, Array]:
        """Negative log posterior of the parameters, and its gradient."""
        k, parts = self._kernel(t)
        # LAPACK directly: SciPy's wrappers cost as much as the factorisation of so small a matrix.
        factor, failed = dpotrf(self._square(k), lower=1, overwrite_a=1)
        if failed:
            return 1e10, np.zeros(len(t))
        alpha = dpotrs(factor, self._z, lower=1)[0]
        off = (t - self._prior[:, 0]) / self._prior[:, 1]
        value = 0.5 * self._z @ alpha + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        rows, columns = self._pairs
        weight = dpotri(factor, lower=1, overwrite_c=1)[0][rows, columns]
        weight -= alpha[rows] * alpha[columns]
        diagonal = 0.5 * weight[self._diagonal]
        weight[self._diagonal] = diagonal  # every other pair stands for two
        slope = np.array([p @ weight if everywhere else p @ diagonal for p, everywhere in parts])
        return float(value), slope + off / self._prior[:, 1]

    def _square(self, pairs: Array) -> Array:
        """A matrix in LAPACK's order whose lower triangle has the values; the rest is empty."""
        n = len(self._rows.y)
        square = np.empty((n, n), order="F")
        square[self._pairs] = pairs
        return square

    def _fit(self, iterations: int) -> None:
        starts = [self.theta]
        if iterations > 15:
            starts.append(self.theta + np.array([0, -1, -0.6, -0.7, 0, 0, 0]))
        fits = [
            minimize(
                self._objective,
                np.clip(t, BOUNDS[:, 0], BOUNDS[:, 1]),
                jac=True,
                method="L-BFGS-B",
                bounds=BOUNDS,
                options={"maxiter": iterations},
            )
            for t in starts
        ]
        self.theta = min(fits, key=lambda f: f.fun).x

    def _solve(self, t: Array) -> None:
        k, _ = self._kernel(t)
        self._factor = np.linalg.cholesky(self._square(k))
        self._alpha = cho_solve((self._factor, True), self._z)
        self._t = t

    def _smooth(self, a: Array, b: Array) -> Array:
        squares = _squares(a, b)
        k: Array = FLAT + np.exp(2 * self._t[0]) * _matern(squares, np.exp(self._t[1:3]))[0]
        if self.rough:
            k = k + self.rough**2 * _matern(squares, ROUGH_LENGTH)[0]
        return k

    def _cross(self, x: Array) -> Array:
        return self._smooth(x, self._rows.x)

    def _warped_mean(self, x: Array) -> Array:
        mean: Array = self._cross(x) @ self._alpha
        return mean

    def mean(self, x: Array) -> Array:
        """Expected accuracy at x, points."""
        return self.points(self._warped_mean(x))

    def spread(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the warped surface at x."""
        cross = self._cross(x)
        v = solve_triangular(self._factor, cross.T, lower=True)
        var = FLAT + np.exp(2 * self._t[0]) + self.rough**2 - (v**2).sum(0)
        return cross @ self._alpha, np.sqrt(np.maximum(var, _LEAST_VARIANCE))

    def joint(self, x: Array) -> tuple[Array, Array]:
        """Mean, shape (n,), and covariance, shape (n, n), of the warped surface at x."""
        cross = self._cross(x)
        v = solve_triangular(self._factor, cross.T, lower=True)
        return cross @ self._alpha, self._smooth(x, x) - v.T @ v

    def gain(self, x: Array, first: Array, second: Array) -> Array:
        """How far the surface at x follows a difference that is measured between two points.

        Gaussian conditioning on an exact difference, by the smooth part of the surface: features
        that the networks may not have seen have no part in what points have in common. Nothing
        follows further than the two points themselves.

        Args:
            x: shape (n, 2).
            first: a point, shape (2,).
            second: another point, shape (2,).

        Returns:
            shape (n,); 1 larger at the first than at the second point.
        """
        pair = np.vstack([first, second])
        smooth = self.at(self._t, 0.0, solve=False)
        crosses = [smooth._cross(points) for points in (x, pair)]
        v = [solve_triangular(self._factor, cross.T, lower=True) for cross in crosses]
        with_both = smooth._smooth(np.vstack([x, pair]), pair) - np.hstack(v).T @ v[1]
        with_difference = with_both[:, 0] - with_both[:, 1]
        at_first, at_second = with_difference[-2:]
        gain = with_difference[:-2] / max(at_first - at_second, _LEAST_VARIANCE)
        low = at_second / max(at_first - at_second, _LEAST_VARIANCE)
        followed: Array = np.clip(gain, low, low + 1)
        return followed

    def draw(self, x: Array, count: int, rng: np.random.Generator) -> Array:
        """Drawn surfaces at x, points, shape (len(x), count)."""
        mean, covariance = self.joint(x)
        return self.points(normal_draws(mean, root_of(covariance), count, rng))

    def hyperparameters(self, count: int, rng: np.random.Generator) -> Array:
        """Draws of the log parameters from their normal approximation at the mode."""
        n, step = len(self.theta), 0.02
        hessian = np.array(
            [
                (
                    self._objective(self.theta + step * e)[1]
                    - self._objective(self.theta - step * e)[1]
                )
                / (2 * step)
                for e in np.eye(n)
            ]
        )
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        root = vectors / np.sqrt(np.maximum(values, 1.0 / self._prior[:, 1].max() ** 2))
        draws = self.theta + rng.standard_normal((count, n)) @ root.T
        drawn: Array = np.clip(draws, BOUNDS[:, 0], BOUNDS[:, 1])
        return drawn

    def at(self, theta: Array, rough: float, solve: bool = True) -> Surface:
        """The same surface under other parameters.

        Args:
            theta: log parameters.
            rough: size of the features that the networks may not have seen.
            solve: whether the networks are looked at again under these parameters.
        """
        other = copy(self)
        other.rough = rough
        if solve:
            other._solve(theta)
        return other
