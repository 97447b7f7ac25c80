"""How may accuracy be lost beside the best ε? Shapes of the loss on one side of the maximum.

A shape g(d) gives the loss at distance d ≥ 0 from the top, both in units of the range that was
swept, up to a height. Powers fit pointed, smooth and broad maxima; saturating shapes the flanks of
bells and a collapse to a floor; growing shapes a shoulder (logistic collapse, a rise that
saturates), where the loss grows exponentially before it reaches its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
LossFunction = Callable[[FloatArray], FloatArray]

_UNIT = 0.25  # distance at which a power is 1


@dataclass(frozen=True)
class Shape:
    """A shape of the loss on one side, with the prior of its height.

    Attributes:
        weight: prior probability; those of a side add up to 1.
        loss: g(d) for d ≥ 0; g(0) = 0, and g does not decrease.
        scale: of the half-normal prior of the height, in standard deviations of the points.
        parts: narrower and wider shapes that this one stands for.
    """

    weight: float
    loss: LossFunction
    scale: float
    parts: tuple[Shape, ...] = ()


def power(d: FloatArray, exponent: float) -> FloatArray:
    """(d / unit)^p."""
    return np.asarray((d / _UNIT) ** exponent)


def saturating(d: FloatArray, width: float, exponent: float) -> FloatArray:
    """1 − exp(−(d / w)^p): half a bell for p = 2."""
    return np.asarray(-np.expm1(-((d / width) ** exponent)))


def straight(d: FloatArray, width: float) -> FloatArray:
    """A straight line to a floor."""
    return np.asarray(np.minimum(d / width, 1.0))


def growing(d: FloatArray, width: float, shoulder: float) -> FloatArray:
    """Exponential growth from the fraction `shoulder` of the floor on, then saturation."""
    growth = shoulder * np.expm1(np.minimum(d / width, 50.0))
    return np.asarray(growth / (1 + growth))


_POWERS = (1.0, 1.5, 2.0, 3.0, 5.0)
_WIDTHS = (0.05, 0.11, 0.24, 0.5)
_TOP_WIDTHS = (0.05, 0.085, 0.14, 0.22, 0.35)
_EXACT_STEP = 1.35  # ratio of neighbouring widths
_EXACT_WIDTHS = 0.08 * _EXACT_STEP ** np.arange(7)
_Form = tuple[float, LossFunction, tuple[float, ...]]


def _shapes(forms: Sequence[_Form], share: float = 1.0) -> tuple[Shape, ...]:
    """One shape for each scale of the height, with weights that add up to `share`."""
    total = sum(weight for weight, _, _ in forms) / share
    return tuple(
        Shape(weight / total / len(scales), loss, scale)
        for weight, loss, scales in forms
        for scale in scales
    )


SHAPES = _shapes(
    [
        *((0.10, partial(power, exponent=p), (1.5, 0.2, 0.03)) for p in _POWERS),
        *((0.03, partial(saturating, width=w, exponent=1.0), (2.5, 0.3)) for w in _WIDTHS[:3]),
        *((0.04, partial(saturating, width=w, exponent=2.0), (2.5, 0.3)) for w in _WIDTHS),
        *((0.04, partial(saturating, width=w, exponent=4.0), (2.5,)) for w in _WIDTHS[1:3]),
        *((0.03, partial(straight, width=w), (2.5,)) for w in (0.05, 0.12, 0.25)),
        *((0.03, partial(growing, width=w, shoulder=0.03), (2.5,)) for w in (0.01, 0.03, 0.08)),
    ]
)


def _exact(weight: float, width: float, exponent: float) -> Shape:
    """A saturating shape and its parts."""
    parts = tuple(
        Shape(weight / 3, partial(saturating, width=w, exponent=exponent), 2.5)
        for w in width * _EXACT_STEP ** np.array([-1 / 3, 0, 1 / 3])
    )
    return Shape(weight, partial(saturating, width=width, exponent=exponent), 2.5, parts)


# Shapes that may fit almost exactly. None is so narrow that it fits any collapse that a sweep does
# not resolve.
EXACT_SHAPES = (
    *_shapes([(0.2, partial(power, exponent=p), (1.5, 0.2, 0.03)) for p in (1.0, 1.5, 2.0)], 0.6),
    *(_exact(0.4 / 2 / len(_EXACT_WIDTHS), w, p) for p in (1.0, 2.0) for w in _EXACT_WIDTHS),
)
# The sides of a level top: fewer, because its two ends are sought as well.
TOP_SHAPES = _shapes(
    [
        *((0.2, partial(power, exponent=p), (1.5, 0.1)) for p in (1.0, 2.0)),
        (0.1, partial(saturating, width=0.15, exponent=1.0), (2.5,)),
        *((0.06, partial(saturating, width=w, exponent=2.0), (2.5,)) for w in _TOP_WIDTHS),
        *((0.06, partial(straight, width=1.4 * w), (2.5,)) for w in _TOP_WIDTHS),
    ]
)


def losses(shapes: Sequence[Shape], d: FloatArray) -> FloatArray:
    """Losses of every shape at distances d of shape (n, P); shape (n, len(shapes), P)."""
    values = np.empty((d.shape[0], len(shapes), d.shape[1]))
    last: LossFunction | None = None
    for k, shape in enumerate(shapes):
        if shape.loss is last:
            values[:, k] = values[:, k - 1]
        else:
            values[:, k] = shape.loss(d)
        last = shape.loss
    return values


def finer(shapes: Sequence[Shape]) -> list[Shape]:
    """The parts of shapes that have them, the others as they are."""
    return [part for shape in shapes for part in (shape.parts or (shape,))]
