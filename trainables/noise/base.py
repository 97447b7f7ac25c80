"""Errors, what noise leaves behind, and the check of labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]


class NoiseError(ValueError):
    """Noise that cannot be made; the message is one line for the user."""


class UnknownNoiseError(NoiseError):
    """No noise of that kind; the message lists what there is."""

    def __init__(self, kind: str, allowed: Iterable[str]) -> None:
        allowed = list(allowed)
        close = difflib.get_close_matches(kind, allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"unknown noise kind {kind!r}{hint}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class NoisyLabels:
    """Noisy labels and what the noise turned out to be.

    Parameters
    ----------
    labels: int64 [N].
    transition: float64 [C, C], share of class i that is now labelled j; rows sum to 1, and are
        NaN for a class without an example.
    rate: share of labels that are wrong.
    per_class_rate: float64 [C], share of each class that is wrong; NaN without an example.
    """

    labels: Labels
    transition: Matrix
    rate: float
    per_class_rate: NDArray[np.float64]


def describe(clean: NDArray[Any], noisy: NDArray[Any], classes: int) -> NoisyLabels:
    """The realised transition matrix and rates of noisy labels [N] against clean ones [N]."""
    clean, noisy = checked(clean, classes), checked(noisy, classes)
    counts = np.bincount(clean * classes + noisy, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        transition = counts / total[:, None]
        per_class = (total - np.diag(counts)) / total
    rate = float((clean != noisy).mean()) if len(clean) else 0.0
    return NoisyLabels(noisy, transition, rate, per_class)


def checked(labels: NDArray[Any], classes: int) -> Labels:
    """An int64 copy of the labels [N].

    Raises
    ------
    NoiseError: naming the first row that is not a whole number in 0 … classes − 1.
    """
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise NoiseError(f"labels must be whole numbers [N], not {given.dtype} {given.shape}")
    wrong = np.flatnonzero((given < 0) | (given >= classes))
    if wrong.size:
        raise NoiseError(f"label {given[wrong[0]]} in row {wrong[0]}; allowed: 0 to {classes - 1}")
    return given.astype(np.int64)
