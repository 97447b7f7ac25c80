"""Noise between classes that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables.noise.base import Matrix, NoiseError
from trainables.noise.matrix_kind import MatrixKind, mixed_with_identity
from trainables.noise.registry import register

# Pairs (from, to) of classes that look alike. Only `asymmetric-sequential` depends on the order.
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


def asymmetric(
    classes: int, rate: float, dataset: str = "", flips: Mapping[int, int] | None = None
) -> Matrix:
    """Some classes flip to the class that they look like; the others stay clean.

    Only some classes flip, so the share of wrong labels is less than `rate`: half of it on
    CIFAR-10.

    Args:
        classes: number of classes C.
        rate: share of each flipping class that is relabelled.
        dataset: a data set that has a published map, one of `FLIPS`; read where `flips` is None.
        flips: a user-defined map {from: to} of class numbers.

    Returns:
        the transition matrix [C, C].

    Raises:
        NoiseError: no map for the data set, or a map that does not fit the classes.
    """
    target = np.arange(classes)
    for source, to in _flips(classes, dataset, flips):
        target[source] = to
    return mixed_with_identity(np.eye(classes)[target], rate)


def asymmetric_sequential(
    classes: int, rate: float, dataset: str = "", flips: Mapping[int, int] | None = None
) -> Matrix:
    """Like `asymmetric`, but each map is applied to the labels that the previous one changed.

    The code of Ma et al. (ICML 2020) and its descendants do this. A label that came from cat to
    dog may go back, so on CIFAR-10 at rate 0.4 only 24 % of the cats are wrong.

    Args:
        classes: number of classes C.
        rate: share of each flipping class that each map relabels.
        dataset: as in `asymmetric`.
        flips: as in `asymmetric`.

    Returns:
        the transition matrix [C, C].

    Raises:
        NoiseError: as `asymmetric`.
    """
    matrix = np.eye(classes)
    for source, to in _flips(classes, dataset, flips):
        step = np.eye(classes)
        step[source] = (1 - rate) * step[source] + rate * np.eye(classes)[to]
        matrix = matrix @ step
    return matrix


def _flips(
    classes: int, dataset: str, flips: Mapping[int, int] | None
) -> Sequence[tuple[int, int]]:
    """Pairs (from, to) of the user's map or of the published one, checked."""
    if flips is None:
        if dataset not in FLIPS:
            raise NoiseError(
                f"no published map of classes for data set {dataset!r}: give flips, or use one of "
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


register(
    MatrixKind(
        "asymmetric",
        "to a class that looks alike; a published map (MNIST, Fashion-MNIST, CIFAR-10) or a "
        "user-defined one (flips)",
        asymmetric,
    )
)
register(
    MatrixKind(
        "asymmetric-sequential",
        "the same maps, each applied to labels that are already noisy, as in older code",
        asymmetric_sequential,
    )
)
