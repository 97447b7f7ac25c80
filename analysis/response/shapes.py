"""Shapes that the response of accuracy to ε may have: domes, with one top and no other.

A shape is a function g(x) on [0, 1], the swept range, up to level and height. Its parameters are
written as z, each standard normal a priori, so that every family has the same prior and moves of
`analysis.response.smc` need no bounds. What a z means is in the family's function.

The families are what theory and experience know of such curves: bells and parabolas with one or two
widths (a bounded loss that fails on the left falls off faster there), tails of Gauss or Lorentz,
tops that are pointed or broad, bells in log ε, x·exp(−x), a logistic or exponential rise with a
slow fall. Real curves are none of them; `analysis.response.curves` therefore adds a deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

Array = np.ndarray
Shape = Callable[[Array, Array], Array]  # z (n, dim), x (P,) or (n, P) -> (n, P)

_OUTSIDE = 0.1  # prior probability of a top beyond either end of the range …
_BEYOND = 0.4  # … there at an exponentially distributed distance of this mean
MIRRORED = 0.15  # share of the skew families whose steep side is the right one


@dataclass(frozen=True)
class Family:
    """A family of domes.

    Attributes:
        weight: prior weight, relative to the others'.
        dim: number of parameters.
        shape: values for parameters z (n, dim) at places x.
        peaked: whether `place(z[:, 0])` is the top; there may be a kink.
        skew: whether it is steeper on the left by nature, so that its mirror image is one too.
    """

    weight: float
    dim: int
    shape: Shape
    peaked: bool = False
    skew: bool = False


def place(z: Array) -> Array:
    """Place of the top: uniform over the range, or beyond an end of it (below 0, above 1)."""
    u = ndtr(z)
    v = ndtr(-z)  # 1 − u without cancellation
    inside = (u - _OUTSIDE) / (1 - 2 * _OUTSIDE)
    left = _BEYOND * np.log(np.maximum(u, 1e-300) / _OUTSIDE)
    right = 1 - _BEYOND * np.log(np.maximum(v, 1e-300) / _OUTSIDE)
    return np.asarray(np.where(u < _OUTSIDE, left, np.where(v < _OUTSIDE, right, inside)))


def _positive(z: Array, median: float, log_sd: float) -> Array:
    """A log-normal parameter, as a column."""
    return np.asarray(np.exp(np.log(median) + log_sd * z)[:, None])


def _distance(z: Array, x: Array) -> Array:
    return np.asarray(x - place(z[:, 0])[:, None])


def _left_width(z: Array) -> Array:
    return _positive(z, 0.3, 0.7)


def _right_to_left(z: Array) -> Array:
    """Right width over left: the left is the steeper one more often than not."""
    return _positive(z, 1.5, 0.8)


def _two_widths(z: Array, x: Array) -> tuple[Array, Array]:
    """Distance from the top, and its square in units of the side's own width."""
    d = _distance(z, x)
    left = _left_width(z[:, 1])
    width = np.where(d < 0, left, left * _right_to_left(z[:, 2]))
    return d, (d / width) ** 2


def parabola(z: Array, x: Array) -> Array:
    """One curvature: top."""
    return -(_distance(z, x) ** 2)


def half_parabolas(z: Array, x: Array) -> Array:
    """A curvature a side: top, widths' ratio."""
    d = _distance(z, x)
    return -(d**2) * np.where(d < 0, _right_to_left(z[:, 1]) ** 2, 1.0)


def powers(z: Array, x: Array) -> Array:
    """|d|^p with a factor a side, from tents to flat tops: top, ratio, power."""
    d = _distance(z, x)
    power = _positive(z[:, 2], 1.7, 0.42)
    return -((np.abs(d) + 1e-12) ** power) * np.where(d < 0, _positive(z[:, 1], 1.8, 1.2), 1.0)


def bell(z: Array, x: Array) -> Array:
    """Gaussian: top, width."""
    return np.asarray(np.exp(-0.5 * (_distance(z, x) / _left_width(z[:, 1])) ** 2))


def half_bells(z: Array, x: Array) -> Array:
    """A Gaussian a side: top, left width, widths' ratio."""
    return np.asarray(np.exp(-0.5 * _two_widths(z, x)[1]))


def half_bells_two_feet(z: Array, x: Array) -> Array:
    """The same, falling to another level on the right: + ratio of the drops."""
    d, t2 = _two_widths(z, x)
    return np.asarray(np.expm1(-0.5 * t2) * np.where(d < 0, 1.0, _positive(z[:, 3], 1.0, 0.6)))


def broad_bells(z: Array, x: Array) -> Array:
    """exp(−|d|^p / 2), a width a side: top, left width, widths' ratio, power."""
    half_power = 0.5 * _positive(z[:, 3], 2.2, 0.4)
    return np.asarray(np.exp(-0.5 * (_two_widths(z, x)[1] + 1e-12) ** half_power))


def parabola_and_bell(z: Array, x: Array) -> Array:
    """Parabola on the left, Gaussian on the right: top, left width, widths' ratio."""
    d, t2 = _two_widths(z, x)
    return np.where(d < 0, -0.5 * t2, np.expm1(-0.5 * t2))


def bell_and_parabola(z: Array, x: Array) -> Array:
    """Gaussian on the left, parabola on the right: top, left width, widths' ratio."""
    d, t2 = _two_widths(z, x)
    return np.where(d < 0, np.expm1(-0.5 * t2), -0.5 * t2)


def half_lorentz(z: Array, x: Array) -> Array:
    """1 / (1 + d²), a width a side: top, left width, widths' ratio."""
    return np.asarray(1 / (1 + _two_widths(z, x)[1]))


def _log_ratio(z: Array, x: Array, shift: Array | float) -> Array:
    """log((x + shift) / (top + shift))."""
    top = np.maximum(place(z[:, 0])[:, None] + shift, 1e-3)
    return np.asarray(np.log(np.maximum(x + shift, 1e-6) / top))


def _shift(z: Array) -> Array:
    return _positive(z, 0.1, 1.3)


def log_bell(z: Array, x: Array) -> Array:
    """Gaussian in log x: top, width."""
    return np.asarray(np.exp(-0.5 * (_log_ratio(z, x, 0.0) / _positive(z[:, 1], 0.6, 0.6)) ** 2))


def shifted_log_bell(z: Array, x: Array) -> Array:
    """Gaussian in log(x + shift): top, shift, width."""
    u = _log_ratio(z, x, _shift(z[:, 1])) / _positive(z[:, 2], 0.6, 0.6)
    return np.asarray(np.exp(-0.5 * u**2))


def gamma(z: Array, x: Array) -> Array:
    """(x·exp(−x))^k with x in units of the top: top, k."""
    u = _log_ratio(z, x, 0.0)
    return np.asarray(np.exp(np.maximum(-_positive(z[:, 1], 1.5, 0.8) * (np.expm1(u) - u), -700.0)))


def shifted_gamma(z: Array, x: Array) -> Array:
    """The same in x + shift: top, shift, k."""
    u = _log_ratio(z, x, _shift(z[:, 1]))
    return np.asarray(np.exp(np.maximum(-_positive(z[:, 2], 1.5, 0.8) * (np.expm1(u) - u), -700.0)))


def beta(z: Array, x: Array) -> Array:
    """x^a (1 − x)^b over the range: top, concentration."""
    top = np.clip(place(z[:, 0]), 0.02, 0.98)[:, None]
    y = np.clip(x, 1e-12, 1 - 1e-12)
    log = top * np.log(y / top) + (1 - top) * np.log((1 - y) / (1 - top))
    return np.asarray(np.exp(_positive(z[:, 1], 2.0, 0.7) * log))


def skew_normal(z: Array, x: Array) -> Array:
    """Density of the skew normal distribution: place, width, skewness."""
    t = (x - (0.35 + 0.3 * z[:, 0])[:, None]) / _positive(z[:, 1], 0.28, 0.5)
    return np.asarray(np.exp(-0.5 * t * t) * ndtr(_positive(z[:, 2], 2.0, 0.8) * t))


def logistic_rise(z: Array, x: Array) -> Array:
    """Logistic rise and straight fall, before the rise too: its place and width, the slope."""
    t = (x - (0.25 + 0.2 * z[:, 0])[:, None]) / _positive(z[:, 1], 0.06, 0.6)
    return np.asarray(1 / (1 + np.exp(np.clip(-t, -500, 500))) - _positive(z[:, 2], 0.15, 1.2) * x)


def exponential_rise(z: Array, x: Array) -> Array:
    """Exponential rise and straight fall: width of the rise, slope of the fall."""
    return np.asarray(
        -np.exp(-x / _positive(z[:, 0], 0.15, 0.8)) - _positive(z[:, 1], 0.15, 1.2) * x
    )


FAMILIES = (
    Family(0.14, 1, parabola, peaked=True),
    Family(0.18, 2, half_parabolas, peaked=True),
    Family(0.05, 3, powers, peaked=True),
    Family(0.10, 2, bell, peaked=True),
    Family(0.16, 3, half_bells, peaked=True),
    Family(0.05, 4, half_bells_two_feet, peaked=True),
    Family(0.04, 4, broad_bells, peaked=True),
    Family(0.04, 3, parabola_and_bell, peaked=True),
    Family(0.04, 3, bell_and_parabola, peaked=True),
    Family(0.03, 3, half_lorentz, peaked=True),
    Family(0.04, 2, log_bell, skew=True),
    Family(0.05, 3, shifted_log_bell, skew=True),
    Family(0.05, 2, gamma, skew=True),
    Family(0.04, 3, shifted_gamma, skew=True),
    Family(0.03, 2, beta),
    Family(0.04, 3, skew_normal, skew=True),
    Family(0.06, 3, logistic_rise, skew=True),
    Family(0.04, 2, exponential_rise, skew=True),
)
MOST_PARAMETERS = max(family.dim for family in FAMILIES)
