"""Accuracy over the learning rate at one ε, far below the top.

The surface over ε and learning rate is made for its top. Where a loss fails, accuracy changes by
tens of points within a fraction of an ε, and a surface that follows this leaves the learning rate
open. Networks that were trained at the same ε say more about each other.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from analysis.response.gaussian_surface import Array, normal_draws, root_of

LEAST_RATES = 3
"""Fewer learning rates make no curve."""

_LENGTH = 0.35  # of the learning rate's effect, in widths of its log range
_LEAST_SIZE, _LEAST_NOISE = 5.0, 1.0  # points: of the effect, and of one network


class RateCurve:
    """Gaussian process of accuracy over log learning rate (Matérn 5/2), with a known length.

    Args:
        rates: log learning rates as shares of the range, shape (n,), at least `LEAST_RATES`
            distinct ones.
        accuracy: percentage points, shape (n,).
        networks: how many networks each is the mean of, shape (n,).
    """

    def __init__(self, rates: Array, accuracy: Array, networks: Array) -> None:
        distinct, inverse = np.unique(rates, return_inverse=True)
        means = np.bincount(inverse, accuracy) / np.bincount(inverse)
        degrees = len(rates) - len(distinct)
        residual = float(((accuracy - means[inverse]) ** 2).sum()) / degrees if degrees else 0.0
        self._rates, self._level = rates, float(means.mean())
        self._variance = max(float(means.var()), _LEAST_SIZE**2)
        noise = max(residual, _LEAST_NOISE**2) / networks
        self._factor = cho_factor(self._kernel(rates, rates) + np.diag(noise), lower=True)
        self._weights = cho_solve(self._factor, accuracy - self._level)

    def draw(self, rates: Array, count: int, rng: np.random.Generator) -> Array:
        """Drawn curves at the rates, percentage points, shape (len(rates), count)."""
        cross = self._kernel(rates, self._rates)
        mean = self._level + cross @ self._weights
        covariance = self._kernel(rates, rates) - cross @ cho_solve(self._factor, cross.T)
        return normal_draws(mean, root_of(covariance), count, rng)

    def _kernel(self, one: Array, other: Array) -> Array:
        r = np.sqrt(5) * np.abs(one[:, None] - other[None]) / _LENGTH
        kernel: Array = self._variance * (1 + r + r * r / 3) * np.exp(-r)
        return kernel
