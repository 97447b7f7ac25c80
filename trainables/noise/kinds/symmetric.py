"""Noise without any structure of classes: uniform over classes, or to the next class."""

from __future__ import annotations

import numpy as np

from trainables.noise.base import Matrix
from trainables.noise.matrix_kind import MatrixKind, mixed_with_identity
from trainables.noise.registry import register


def symmetric(classes: int, rate: float) -> Matrix:
    """Flip to each of the other classes with probability rate / (C − 1).

    Args:
        classes: number of classes C.
        rate: share of wrong labels, in [0, 1].

    Returns:
        the transition matrix [C, C].
    """
    identity = np.eye(classes)
    return (1 - rate) * identity + rate / (classes - 1) * (1 - identity)


def symmetric_inclusive(classes: int, rate: float) -> Matrix:
    """A share `rate` is redrawn from all classes, so rate · (C − 1) / C is wrong.

    The convention of DivideMix (Li et al., ICLR 2020).

    Args:
        classes: number of classes C.
        rate: share of redrawn labels, in [0, 1].

    Returns:
        the transition matrix [C, C].
    """
    return (1 - rate) * np.eye(classes) + rate / classes


def pair(classes: int, rate: float) -> Matrix:
    """Flip class i to class i + 1, and the last class to the first.

    Args:
        classes: number of classes C.
        rate: share of wrong labels, in [0, 1].

    Returns:
        the transition matrix [C, C].
    """
    return mixed_with_identity(np.roll(np.eye(classes), 1, axis=1), rate)


register(
    MatrixKind(
        "symmetric", "to each of the other classes with probability rate / (C − 1)", symmetric
    )
)
register(
    MatrixKind(
        "symmetric-inclusive",
        "a share rate is redrawn from all classes: rate · (C − 1) / C is wrong",
        symmetric_inclusive,
    )
)
register(MatrixKind("pair", "class i to class i + 1, the last to the first", pair))
