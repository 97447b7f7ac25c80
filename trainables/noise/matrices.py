"""Noise that depends on the class alone: one transition matrix [C, C] a kind.

T[i, j] = P(noisy label j | true label i); rows sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.noise.base import Matrix, NoiseError

# Pairs (from, to) of classes that look alike. The order matters to `asymmetric-sequential` alone.
_DIGITS = ((7, 1), (2, 7), (5, 6), (6, 5), (3, 8))  # Patrini et al., CVPR 2017
FLIPS: dict[str, tuple[tuple[int, int], ...]] = {
    "mnist": _DIGITS,
    "digits": _DIGITS,
    # Boot → sneaker → sandal, pullover → shirt, coat ↔ dress: Zhang and Sabuncu, NeurIPS 2018.
    "fashion-mnist": ((9, 7), (7, 5), (2, 6), (4, 3), (3, 4)),
    # Truck → automobile, bird → airplane, cat ↔ dog, deer → horse (Patrini et al.), in the order
    # of the code of Ma et al., ICML 2020 (HanxunH/Active-Passive-Losses).
    "cifar10": ((9, 1), (2, 0), (3, 5), (5, 3), (4, 7)),
}

# CIFAR-100's superclass of each class, in the order of its labels (Krizhevsky, 2009).
CIFAR100_SUPERCLASSES = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)


def symmetric(classes: int, rate: float) -> Matrix:
    """To each of the other classes with probability rate / (C − 1); `rate` is the share wrong."""
    identity = np.eye(classes)
    return (1 - rate) * identity + rate / (classes - 1) * (1 - identity)


def symmetric_inclusive(classes: int, rate: float) -> Matrix:
    """A share `rate` drawn anew from all classes, so rate · (C − 1) / C is wrong (DivideMix)."""
    return (1 - rate) * np.eye(classes) + rate / classes


def pair(classes: int, rate: float) -> Matrix:
    """Class i to class i + 1, the last to the first."""
    return _mixed(np.roll(np.eye(classes), 1, axis=1), rate)


def asymmetric(
    classes: int, rate: float, dataset: str = "", flips: Mapping[int, int] | None = None
) -> Matrix:
    """Each of certain classes to the one it looks like; the other classes stay clean.

    Only some classes flip, so the share of wrong labels is less than `rate`: half of it on
    CIFAR-10.

    Parameters
    ----------
    classes, rate
        as everywhere.
    dataset
        a data set that has a customary map, or
    flips
        a map {from: to} of one's own.
    """
    target = np.arange(classes)
    for source, to in _flips(classes, dataset, flips):
        target[source] = to
    return _mixed(np.eye(classes)[target], rate)


def asymmetric_sequential(
    classes: int, rate: float, dataset: str = "", flips: Mapping[int, int] | None = None
) -> Matrix:
    """As `asymmetric`, but one map after the other on labels that are noisy already.

    What the code of Ma et al. (ICML 2020) and its descendants do. A label that came from cat to
    dog may go back, so on CIFAR-10 at rate 0.4 only 24 % of the cats are wrong.
    """
    matrix = np.eye(classes)
    for source, to in _flips(classes, dataset, flips):
        step = np.eye(classes)
        step[source] = (1 - rate) * step[source] + rate * np.eye(classes)[to]
        matrix = matrix @ step
    return matrix


def superclass(
    classes: int, rate: float, dataset: str = "", groups: Sequence[Any] | None = None
) -> Matrix:
    """To the next class of the same superclass, the last to the first.

    Parameters
    ----------
    classes, rate
        as everywhere.
    dataset
        `cifar100`, whose true hierarchy is known, or
    groups
        the superclass of each class [C].
    """
    if groups is None:
        if dataset != "cifar100":
            raise NoiseError("noise kind 'superclass': give groups, or use data set cifar100")
        groups = CIFAR100_SUPERCLASSES
    if not isinstance(groups, Sequence):
        raise NoiseError(f"groups = {groups!r}: a list of each class's superclass is needed")
    if len(groups) != classes:
        raise NoiseError(
            f"noise kind 'superclass' knows the superclass of {len(groups)} classes, "
            f"the data set has {classes}"
        )
    target = np.empty(classes, dtype=np.int64)
    for group in dict.fromkeys(groups):
        members = np.array([label for label in range(classes) if groups[label] == group])
        if len(members) < 2:
            raise NoiseError(f"noise kind 'superclass': superclass {group!r} has one class only")
        target[members] = np.roll(members, -1)
    return _mixed(np.eye(classes)[target], rate)


def block_rotation(classes: int, rate: float, block: int = 5) -> Matrix:
    """To the next class of the same block of `block` consecutive labels, the last to the first.

    What published tables call superclass noise on CIFAR-100 (code of Ma et al., ICML 2020): its
    labels are in alphabetical order, so these blocks are not its superclasses.
    """
    if not (isinstance(block, int) and block >= 2 and classes % block == 0):
        raise NoiseError(
            f"noise kind 'block-rotation': block = {block}; allowed: a divisor of {classes}, from 2"
        )
    label = np.arange(classes)
    return _mixed(np.eye(classes)[label // block * block + (label + 1) % block], rate)


def given(classes: int, matrix: str | Path | Matrix) -> Matrix:
    """One's own matrix, or the file that holds it: `.npy`, or `.csv` of numbers without a header.

    Raises
    ------
    NoiseError: naming the file and the row that is not a distribution over the classes.
    """
    if isinstance(matrix, str | Path):
        name = f"{matrix}"
        try:
            if Path(matrix).suffix == ".npy":
                found = np.load(matrix)
            else:
                found = np.loadtxt(matrix, delimiter=",", ndmin=2)
            found = np.asarray(found, dtype=np.float64)
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise NoiseError(f"{name}: no transition matrix can be read: {said}") from error
    else:
        name = "transition matrix"
        try:
            found = np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError):
            raise NoiseError(f"{name}: {classes} rows of {classes} numbers are needed") from None
    if found.shape != (classes, classes):
        raise NoiseError(
            f"{name} has shape {found.shape}; {classes} classes need {classes} squared"
        )
    sums = found.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sums - 1) < 1e-6) | (found < 0).any(axis=1))
    if bad.size:
        raise NoiseError(
            f"{name}, row {bad[0]}: sum {sums[bad[0]]:g}, smallest {found[bad[0]].min():g}; "
            "a row holds probabilities that sum to 1"
        )
    return found


BY_KIND: dict[str, Callable[..., Matrix]] = {
    "symmetric": symmetric,
    "symmetric-inclusive": symmetric_inclusive,
    "pair": pair,
    "asymmetric": asymmetric,
    "asymmetric-sequential": asymmetric_sequential,
    "superclass": superclass,
    "block-rotation": block_rotation,
}


def _mixed(flipped: Matrix, rate: float) -> Matrix:
    return (1 - rate) * np.eye(len(flipped)) + rate * flipped


def _flips(
    classes: int, dataset: str, flips: Mapping[int, int] | None
) -> Sequence[tuple[int, int]]:
    if flips is None:
        if dataset not in FLIPS:
            raise NoiseError(
                f"no customary map of classes for data set {dataset!r}: give flips, or use one of "
                f"{', '.join(FLIPS)}"
            )
        pairs: Sequence[tuple[int, int]] = FLIPS[dataset]
    else:
        try:
            pairs = tuple((int(source), int(to)) for source, to in flips.items())
        except (AttributeError, TypeError, ValueError):
            raise NoiseError(f"flips = {flips!r}: a map of class numbers is needed") from None
    for source, to in pairs:
        if not (0 <= source < classes and 0 <= to < classes and source != to):
            raise NoiseError(
                f"asymmetric noise flips class {source} to {to}; the data set has the classes "
                f"0 to {classes - 1}"
            )
    return pairs
