"""18 families of shapes for the response of accuracy to ε, each with a single maximum.

A shape is a function g(x) on [0, 1], the range of ε that was swept, up to level and height. Its
parameters are functions of z, whose entries are standard normal a priori. Every family thus has
the same prior, and the moves of `analysis.response.smc` need no bounds. The docstring of each
family lists the meaning of its columns of z; arguments and result are those of `ShapeFunction`.

The families come from theory and from measured curves: bells and parabolas with one or two widths
(a bounded loss that fails at small ε falls off faster on that side), Gaussian and Lorentzian
tails, pointed and broad maxima, bells in log ε, x·exp(−x), and a logistic or exponential rise with
a slow fall. A real curve matches none of them exactly; `analysis.response.curves` therefore adds a
deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.float64]
ShapeFunction = Callable[[FloatArray, FloatArray], FloatArray]
"""Maps z of shape (n, dim) and positions of shape (P,) or (n, P) to values of shape (n, P)."""

# Prior probability that the maximum lies outside the range, for either end.
_OUTSIDE_PROBABILITY = 0.1
# Mean distance from that end, exponentially distributed, in units of the range.
_OUTSIDE_DISTANCE = 0.4
# Prior probability that a skewed shape is mirrored, so that its steep side is the right one.
MIRROR_PROBABILITY = 0.15


@dataclass(frozen=True)
class ShapeFamily:
    """A family of response shapes with a single maximum.

    Attributes:
        weight: prior weight, relative to the other families.
        dim: number of parameters, the columns of z that the family uses.
        shape: values at given positions for given parameters.
        peaked: the maximum is at `peak_position(z[:, 0])`, and the shape may have a kink there.
        skewed: the left side is the steeper one, so that the mirror image is a shape too.
    """

    weight: float
    dim: int
    shape: ShapeFunction
    peaked: bool = False
    skewed: bool = False


def peak_position(z: FloatArray) -> FloatArray:
    """Position of the maximum: uniform over the range, or outside of it.

    Args:
        z: standard normal a priori, any shape.

    Returns:
        positions in units of the range; below 0 or above 1 outside of it.
    """
    u = ndtr(z)
    v = ndtr(-z)  # 1 − u without cancellation
    inside = (u - _OUTSIDE_PROBABILITY) / (1 - 2 * _OUTSIDE_PROBABILITY)
    left = _OUTSIDE_DISTANCE * np.log(np.maximum(u, 1e-300) / _OUTSIDE_PROBABILITY)
    right = 1 - _OUTSIDE_DISTANCE * np.log(np.maximum(v, 1e-300) / _OUTSIDE_PROBABILITY)
    outer = np.where(v < _OUTSIDE_PROBABILITY, right, inside)
    return np.asarray(np.where(u < _OUTSIDE_PROBABILITY, left, outer))


def _positive(z: FloatArray, median: float, log_sd: float) -> FloatArray:
    """A log-normal parameter, as a column of shape (n, 1)."""
    return np.asarray(np.exp(np.log(median) + log_sd * z)[:, None])


def _distance(z: FloatArray, x: FloatArray) -> FloatArray:
    """Signed distance from the maximum, negative on its left."""
    return np.asarray(x - peak_position(z[:, 0])[:, None])


def _left_width(z: FloatArray) -> FloatArray:
    return _positive(z, 0.3, 0.7)


def _width_ratio(z: FloatArray) -> FloatArray:
    """Right width over left width; its median exceeds 1 because the left side is mostly steeper."""
    return _positive(z, 1.5, 0.8)


def _two_widths(z: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distance from the maximum, and its square in units of that side's width."""
    d = _distance(z, x)
    left = _left_width(z[:, 1])
    width = np.where(d < 0, left, left * _width_ratio(z[:, 2]))
    return d, (d / width) ** 2


def parabola(z: FloatArray, x: FloatArray) -> FloatArray:
    """Parabola with one curvature. z: maximum."""
    return np.asarray(-(_distance(z, x) ** 2))


def half_parabolas(z: FloatArray, x: FloatArray) -> FloatArray:
    """Parabola with one curvature per side. z: maximum, ratio of the widths."""
    d = _distance(z, x)
    return np.asarray(-(d**2) * np.where(d < 0, _width_ratio(z[:, 1]) ** 2, 1.0))


def powers(z: FloatArray, x: FloatArray) -> FloatArray:
    """|d|^p with one factor per side, from tents to flat tops. z: maximum, ratio, power."""
    d = _distance(z, x)
    power = _positive(z[:, 2], 1.7, 0.42)
    side = np.where(d < 0, _positive(z[:, 1], 1.8, 1.2), 1.0)
    return np.asarray(-((np.abs(d) + 1e-12) ** power) * side)


def bell(z: FloatArray, x: FloatArray) -> FloatArray:
    """Gaussian. z: maximum, width."""
    return np.asarray(np.exp(-0.5 * (_distance(z, x) / _left_width(z[:, 1])) ** 2))


def half_bells(z: FloatArray, x: FloatArray) -> FloatArray:
    """Gaussian with one width per side. z: maximum, left width, ratio of the widths."""
    return np.asarray(np.exp(-0.5 * _two_widths(z, x)[1]))


def half_bells_two_levels(z: FloatArray, x: FloatArray) -> FloatArray:
    """`half_bells` that fall to another level on the right. z: as there, ratio of the drops."""
    d, t2 = _two_widths(z, x)
    return np.asarray(np.expm1(-0.5 * t2) * np.where(d < 0, 1.0, _positive(z[:, 3], 1.0, 0.6)))


def broad_bells(z: FloatArray, x: FloatArray) -> FloatArray:
    """exp(−|d|^p / 2), one width per side. z: maximum, left width, ratio of the widths, power."""
    half_power = 0.5 * _positive(z[:, 3], 2.2, 0.4)
    return np.asarray(np.exp(-0.5 * (_two_widths(z, x)[1] + 1e-12) ** half_power))


def parabola_and_bell(z: FloatArray, x: FloatArray) -> FloatArray:
    """Parabola on the left, Gaussian on the right. z: maximum, left width, ratio of the widths."""
    d, t2 = _two_widths(z, x)
    return np.asarray(np.where(d < 0, -0.5 * t2, np.expm1(-0.5 * t2)))


def bell_and_parabola(z: FloatArray, x: FloatArray) -> FloatArray:
    """Gaussian on the left, parabola on the right. z: maximum, left width, ratio of the widths."""
    d, t2 = _two_widths(z, x)
    return np.asarray(np.where(d < 0, np.expm1(-0.5 * t2), -0.5 * t2))


def half_lorentzians(z: FloatArray, x: FloatArray) -> FloatArray:
    """1 / (1 + d²) with one width per side. z: maximum, left width, ratio of the widths."""
    return np.asarray(1 / (1 + _two_widths(z, x)[1]))


def _log_ratio(z: FloatArray, x: FloatArray, shift: FloatArray | float) -> FloatArray:
    """log((x + shift) / (maximum + shift))."""
    top = np.maximum(peak_position(z[:, 0])[:, None] + shift, 1e-3)
    return np.asarray(np.log(np.maximum(x + shift, 1e-6) / top))


def _shift(z: FloatArray) -> FloatArray:
    return _positive(z, 0.1, 1.3)


def log_bell(z: FloatArray, x: FloatArray) -> FloatArray:
    """Gaussian in log x. z: maximum, width."""
    return np.asarray(np.exp(-0.5 * (_log_ratio(z, x, 0.0) / _positive(z[:, 1], 0.6, 0.6)) ** 2))


def shifted_log_bell(z: FloatArray, x: FloatArray) -> FloatArray:
    """Gaussian in log(x + shift). z: maximum, shift, width."""
    u = _log_ratio(z, x, _shift(z[:, 1])) / _positive(z[:, 2], 0.6, 0.6)
    return np.asarray(np.exp(-0.5 * u**2))


def gamma(z: FloatArray, x: FloatArray) -> FloatArray:
    """(x·exp(−x))^k with x in units of the maximum's position. z: maximum, k."""
    u = _log_ratio(z, x, 0.0)
    return np.asarray(np.exp(np.maximum(-_positive(z[:, 1], 1.5, 0.8) * (np.expm1(u) - u), -700.0)))


def shifted_gamma(z: FloatArray, x: FloatArray) -> FloatArray:
    """`gamma` in x + shift. z: maximum, shift, k."""
    u = _log_ratio(z, x, _shift(z[:, 1]))
    return np.asarray(np.exp(np.maximum(-_positive(z[:, 2], 1.5, 0.8) * (np.expm1(u) - u), -700.0)))


def beta(z: FloatArray, x: FloatArray) -> FloatArray:
    """x^a (1 − x)^b over the range. z: maximum, concentration."""
    top = np.clip(peak_position(z[:, 0]), 0.02, 0.98)[:, None]
    y = np.clip(x, 1e-12, 1 - 1e-12)
    log = top * np.log(y / top) + (1 - top) * np.log((1 - y) / (1 - top))
    return np.asarray(np.exp(_positive(z[:, 1], 2.0, 0.7) * log))


def skew_normal(z: FloatArray, x: FloatArray) -> FloatArray:
    """Density of the skew normal distribution. z: location, width, skewness."""
    t = (x - (0.35 + 0.3 * z[:, 0])[:, None]) / _positive(z[:, 1], 0.28, 0.5)
    return np.asarray(np.exp(-0.5 * t * t) * ndtr(_positive(z[:, 2], 2.0, 0.8) * t))


def logistic_rise(z: FloatArray, x: FloatArray) -> FloatArray:
    """Logistic rise minus a straight line. z: location and width of the rise, slope of the line."""
    t = (x - (0.25 + 0.2 * z[:, 0])[:, None]) / _positive(z[:, 1], 0.06, 0.6)
    return np.asarray(1 / (1 + np.exp(np.clip(-t, -500, 500))) - _positive(z[:, 2], 0.15, 1.2) * x)


def exponential_rise(z: FloatArray, x: FloatArray) -> FloatArray:
    """Exponential rise minus a straight line. z: width of the rise, slope of the line."""
    return np.asarray(
        -np.exp(-x / _positive(z[:, 0], 0.15, 0.8)) - _positive(z[:, 1], 0.15, 1.2) * x
    )


FAMILIES = (
    ShapeFamily(0.14, 1, parabola, peaked=True),
    ShapeFamily(0.18, 2, half_parabolas, peaked=True),
    ShapeFamily(0.05, 3, powers, peaked=True),
    ShapeFamily(0.10, 2, bell, peaked=True),
    ShapeFamily(0.16, 3, half_bells, peaked=True),
    ShapeFamily(0.05, 4, half_bells_two_levels, peaked=True),
    ShapeFamily(0.04, 4, broad_bells, peaked=True),
    ShapeFamily(0.04, 3, parabola_and_bell, peaked=True),
    ShapeFamily(0.04, 3, bell_and_parabola, peaked=True),
    ShapeFamily(0.03, 3, half_lorentzians, peaked=True),
    ShapeFamily(0.04, 2, log_bell, skewed=True),
    ShapeFamily(0.05, 3, shifted_log_bell, skewed=True),
    ShapeFamily(0.05, 2, gamma, skewed=True),
    ShapeFamily(0.04, 3, shifted_gamma, skewed=True),
    ShapeFamily(0.03, 2, beta),
    ShapeFamily(0.04, 3, skew_normal, skewed=True),
    ShapeFamily(0.06, 3, logistic_rise, skewed=True),
    ShapeFamily(0.04, 2, exponential_rise, skewed=True),
)
MAX_DIM = max(family.dim for family in FAMILIES)
