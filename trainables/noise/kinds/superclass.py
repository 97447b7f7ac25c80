"""Noise inside groups of classes: true superclasses, or blocks of consecutive labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainables.noise.base import Matrix, NoiseError
from trainables.noise.matrix_kind import MatrixKind, mixed_with_identity
from trainables.noise.registry import register

# CIFAR-100's superclass of each class, in the order of its labels (Krizhevsky, 2009).
CIFAR100_SUPERCLASSES = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)


def superclass(
    classes: int, rate: float, dataset: str = "", groups: Sequence[Any] | None = None
) -> Matrix:
    """Flip to the next class of the same superclass, from the last to the first.

    Args:
        classes: number of classes C.
        rate: share of wrong labels.
        dataset: `cifar100`, whose superclasses are known; read where `groups` is None.
        groups: the superclass of each class [C].

    Returns:
        the transition matrix [C, C].

    Raises:
        NoiseError: no superclasses are known, they do not fit the classes, or one of them has a
            single class.
    """
    if groups is None:
        if dataset != "cifar100":
            raise NoiseError("noise kind 'superclass': give groups, or use data set cifar100")
        groups = CIFAR100_SUPERCLASSES
    if not isinstance(groups, Sequence):
        raise NoiseError(f"groups = {groups!r}: a list of each class's superclass is needed")
    if len(groups) != classes:
        raise NoiseError(
            f"noise kind 'superclass': groups of {len(groups)} classes, the data set has {classes}"
        )
    target = np.empty(classes, dtype=np.int64)
    for group in dict.fromkeys(groups):
        members = np.array([label for label in range(classes) if groups[label] == group])
        if len(members) < 2:
            raise NoiseError(f"noise kind 'superclass': superclass {group!r} has one class only")
        target[members] = np.roll(members, -1)
    return mixed_with_identity(np.eye(classes)[target], rate)


def block_rotation(classes: int, rate: float, block: int = 5) -> Matrix:
    """Flip to the next class of the same block of consecutive labels, from the last to the first.

    Published tables call this asymmetric noise on CIFAR-100 (code of Ma et al., ICML 2020). The
    labels of CIFAR-100 are in alphabetical order, so these blocks are not its superclasses.

    Args:
        classes: number of classes C.
        rate: share of wrong labels.
        block: number of classes per block, from 2; divides `classes`.

    Returns:
        the transition matrix [C, C].

    Raises:
        NoiseError: `block` does not divide `classes`.
    """
    if not (isinstance(block, int) and block >= 2 and classes % block == 0):
        raise NoiseError(
            f"noise kind 'block-rotation': block = {block}; allowed: a divisor of {classes}, from 2"
        )
    label = np.arange(classes)
    return mixed_with_identity(np.eye(classes)[label // block * block + (label + 1) % block], rate)


register(
    MatrixKind(
        "superclass", "to the next class of the true superclass (CIFAR-100, or groups)", superclass
    )
)
register(
    MatrixKind(
        "block-rotation",
        "to the next of block = 5 consecutive classes, as published for CIFAR-100",
        block_rotation,
    )
)
