"""Label noise: pure functions from clean labels to noisy ones.

A kind of noise is a transition matrix T [C, C], T[i, j] = P(noisy label j | true label i), and each
label is drawn by itself. Randomness comes from the seed alone, by uniform doubles whose stream is
the same on every machine; a label that is flipped at one rate stays flipped at every higher rate
of the same kind and seed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {
    "symmetric": "to each of the other classes with probability rate / (C − 1)",
    "pair": "class i to class i + 1, the last to the first, with probability rate",
}


class NoiseError(ValueError):
    """Noise that cannot be made; the message is one line for the user."""


class UnknownNoiseError(NoiseError):
    """No noise of that kind; the message lists what there is."""

    def __init__(self, kind: str) -> None:
        close = difflib.get_close_matches(kind, names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"unknown noise kind {kind!r}{hint}; allowed: {', '.join(names())}")


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

    labels: NDArray[np.int64]
    transition: NDArray[np.float64]
    rate: float
    per_class_rate: NDArray[np.float64]


def names() -> tuple[str, ...]:
    """Names of all kinds of noise."""
    return tuple(KINDS)


def transition_matrix(kind: str, classes: int, rate: float) -> NDArray[np.float64]:
    """The matrix T [C, C] that defines a kind: T[i, j] = P(noisy label j | true label i).

    Raises
    ------
    UnknownNoiseError: no noise of that kind.
    NoiseError: `rate` outside [0, 1], or fewer than two classes.
    """
    if kind not in KINDS:
        raise UnknownNoiseError(kind)
    if not 0 <= rate <= 1:
        raise NoiseError(f"noise rate = {rate}; allowed: 0 to 1")
    if classes < 2:
        raise NoiseError(f"label noise needs at least 2 classes, not {classes}")
    identity = np.eye(classes)
    if kind == "symmetric":
        return (1 - rate) * identity + rate / (classes - 1) * (1 - identity)
    return (1 - rate) * identity + rate * np.roll(identity, 1, axis=1)


def corrupt(
    labels: NDArray[Any], classes: int, kind: str, rate: float, seed: int, **options: Any
) -> NoisyLabels:
    """Draw noisy labels.

    Parameters
    ----------
    labels
        clean labels, whole numbers [N] in 0 … classes − 1; not modified.
    classes
        number of classes, from 2.
    kind
        one of `names()`.
    rate
        probability in [0, 1] that a label is flipped; 0 gives the labels as they are.
    seed
        a whole number from 0; the only source of randomness.
    **options
        what the kind takes beside its rate.

    Raises
    ------
    UnknownNoiseError: no noise of that kind.
    NoiseError: a rate, label, seed or option that is not allowed.
    """
    matrix = transition_matrix(kind, classes, rate)
    if options:
        raise NoiseError(f"noise kind {kind!r} has no option {next(iter(options))!r}")
    clean = _checked(labels, classes)
    if seed < 0:
        raise NoiseError(f"noise seed = {seed}; allowed: whole numbers from 0")
    return describe(clean, _draw(clean, matrix, np.random.default_rng(seed)), classes)


def describe(clean: NDArray[Any], noisy: NDArray[Any], classes: int) -> NoisyLabels:
    """The realised transition matrix and rates of noisy labels [N] against clean ones [N]."""
    clean, noisy = _checked(clean, classes), _checked(noisy, classes)
    counts = np.bincount(clean * classes + noisy, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        transition = counts / total[:, None]
        per_class = (total - np.diag(counts)) / total
    rate = float((clean != noisy).mean()) if len(clean) else 0.0
    return NoisyLabels(noisy, transition, rate, per_class)


def _checked(labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """An int64 copy of the labels [N]."""
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise NoiseError(f"labels must be whole numbers [N], not {given.dtype} {given.shape}")
    wrong = np.flatnonzero((given < 0) | (given >= classes))
    if wrong.size:
        raise NoiseError(f"label {given[wrong[0]]} in row {wrong[0]}; allowed: 0 to {classes - 1}")
    return given.astype(np.int64)


def _draw(
    clean: NDArray[np.int64], matrix: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels drawn from the rows of a transition matrix, each by itself.

    Two numbers a label: one decides whether it flips, the other where to. So with one seed the
    flips of a lower rate are a subset of those of a higher one.
    """
    decides, where = rng.random(len(clean)), rng.random(len(clean))
    noisy = clean.copy()
    flips = decides < 1 - np.diag(matrix)[clean]
    for label in np.unique(clean[flips]):
        others = matrix[label].copy()
        others[label] = 0
        steps = np.cumsum(others)
        mine = flips & (clean == label)
        # `right`: a class of probability 0 adds no step and is never reached.
        noisy[mine] = np.searchsorted(steps / steps[-1], where[mine], side="right")
    return noisy
