"""Errors, results and input checks that all kinds of label noise share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import did_you_mean

Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]


class NoiseError(ValueError):
    """Label noise that cannot be applied; the message is one line for the user."""


class UnknownNoiseError(NoiseError):
    """No noise kind of that name; the message lists the names that exist.

    Args:
        kind: the name that was requested.
        allowed: the names that exist.
    """

    def __init__(self, kind: str, allowed: Iterable[str]) -> None:
        super().__init__(f"unknown noise kind {kind!r}{did_you_mean(kind, allowed)}")


@dataclass(frozen=True)
class NoisyLabels:
    """Noisy labels and the noise that was realised.

    Attributes:
        labels: int64 [N].
        transition: float64 [C, C], share of the examples of class i that are now labelled j. Rows
            sum to 1; the row of a class without examples is NaN.
        rate: share of wrong labels.
        per_class_rate: float64 [C], share of wrong labels per class; NaN without examples.
    """

    labels: Labels
    transition: Matrix
    rate: float
    per_class_rate: NDArray[np.float64]


@dataclass(frozen=True)
class NoisySplits:
    """Noisy labels of one data set under one noise.

    Attributes:
        train: of the training examples.
        val: of the validation examples, drawn independently of `train`.
    """

    train: NoisyLabels
    val: NoisyLabels


def describe(clean: NDArray[Any], noisy: NDArray[Any], classes: int) -> NoisyLabels:
    """Compare noisy labels with clean ones.

    Args:
        clean: true labels, whole numbers [N] in 0 … classes − 1.
        noisy: noisy labels of the same examples, [N].
        classes: number of classes C.

    Returns:
        the noisy labels with the realised transition matrix and rates.

    Raises:
        NoiseError: a label is not a whole number in 0 … classes − 1.
    """
    clean, noisy = checked_labels(clean, classes), checked_labels(noisy, classes)
    counts = np.bincount(clean * classes + noisy, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        transition = counts / total[:, None]
        per_class = (total - np.diag(counts)) / total
    rate = float((clean != noisy).mean()) if len(clean) else 0.0
    return NoisyLabels(noisy, transition, rate, per_class)


def checked_labels(labels: NDArray[Any], classes: int) -> Labels:
    """An int64 copy of the labels.

    Args:
        labels: whole numbers [N] in 0 … classes − 1.
        classes: number of classes.

    Returns:
        a copy, int64 [N].

    Raises:
        NoiseError: a label is not a whole number in that range; the message names its row.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise NoiseError(f"labels must be whole numbers [N], not {array.dtype} {array.shape}")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise NoiseError(f"label {array[wrong[0]]} in row {wrong[0]}; allowed: 0 to {classes - 1}")
    return array.astype(np.int64)


def generator(seed: int) -> np.random.Generator:
    """The random generator of a noise seed.

    Args:
        seed: a whole number from 0.

    Returns:
        a new generator.

    Raises:
        NoiseError: the seed is negative.
    """
    if seed < 0:
        raise NoiseError(f"noise seed = {seed}; allowed: whole numbers from 0")
    return np.random.default_rng(seed)
