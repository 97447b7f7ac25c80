"""The functions that put label noise on labels and data sets."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from trainables.datasets.base import Dataset, DatasetInfo
from trainables.noise.base import Matrix, NoisyLabels, NoisySplits
from trainables.noise.registry import NoiseKind, get


def transition_matrix(kind: str, classes: int, rate: float | None, **options: Any) -> Matrix:
    """The matrix that defines a kind.

    Args:
        kind: one of `names()` that is a matrix; `pdn` and the human kinds have none.
        classes: number of classes C, from 2.
        rate: in [0, 1]; None for kind `matrix`.
        **options: of the kind: `dataset` or `flips` for the asymmetric kinds, `dataset` or
            `groups` for `superclass`, `block` for `block-rotation`, `matrix` for `matrix`.

    Returns:
        float64 [C, C], T[i, j] = P(noisy label j | true label i).

    Raises:
        UnknownNoiseError: no kind of that name.
        NoiseError: a rate, class count or option is not allowed, or the kind has no matrix.

    Example:
        >>> transition_matrix("symmetric", classes=3, rate=0.5).tolist()
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    """
    return _checked_kind(kind, classes, rate).matrix(classes, rate, options)


def matrix_for(
    dataset: Dataset | DatasetInfo, kind: str, rate: float | None, **options: Any
) -> Matrix:
    """`transition_matrix` for a data set, whose name selects published class maps.

    Args:
        dataset: the data set, or only its `info`.
        kind: as in `transition_matrix`.
        rate: as in `transition_matrix`.
        **options: as in `transition_matrix`.

    Returns:
        float64 [C, C].

    Raises:
        UnknownNoiseError: as `transition_matrix`.
        NoiseError: as `transition_matrix`.
    """
    noise = _checked_kind(kind, dataset.classes, rate)
    return noise.matrix(dataset.classes, rate, {**noise.dataset_options(dataset.name), **options})


def check(dataset: DatasetInfo, kind: str, rate: float | None, **options: Any) -> None:
    """Refuse settings with which `apply` would fail, without reading the data set.

    Args:
        dataset: from `trainables.datasets.info`.
        kind: as in `apply`.
        rate: as in `apply`.
        **options: as in `apply`.

    Raises:
        UnknownNoiseError: as `apply`.
        NoiseError: as `apply`, except for files of human labels.
    """
    _checked_kind(kind, dataset.classes, rate).check(dataset, rate, options)


def corrupt(
    labels: NDArray[Any],
    classes: int,
    kind: str,
    rate: float | None,
    seed: int,
    *,
    draw: str = "iid",
    **options: Any,
) -> NoisyLabels:
    """Draw noisy labels.

    Args:
        labels: clean labels, whole numbers [N] in 0 … classes − 1; not modified.
        classes: number of classes, from 2.
        kind: one of `names()`; the human kinds need a data set, see `apply`.
        rate: probability in [0, 1]; at 0 the labels stay unchanged. The kind defines what it is
            the probability of. None for kind `matrix`.
        seed: a whole number from 0; the only source of randomness.
        draw: `iid`: each label independently. `exact`: the rounded expected number of each class.
        **options: as in `transition_matrix`; for `pdn` `features` [N, …], the network's inputs,
            and `weights_seed` (default: `seed`).

    Returns:
        the noisy labels with the realised transition matrix and rates.

    Raises:
        UnknownNoiseError: no kind of that name.
        NoiseError: a rate, label, seed or option is not allowed.
    """
    noise = _checked_kind(kind, classes, rate)
    return noise.corrupt(labels, classes, rate, seed, {"draw": draw, **options})


def apply(
    dataset: Dataset,
    kind: str,
    rate: float | None,
    seed: int,
    *,
    root: str | None = None,
    **options: Any,
) -> NoisySplits:
    """Put the same noise on training and validation labels, by independent draws.

    Args:
        dataset: its name selects published class maps; its inputs determine instance-dependent
            noise.
        kind: one of `names()`.
        rate: as in `corrupt`; None for kind `matrix` and the human kinds.
        seed: as in `corrupt`; the human kinds have no randomness.
        root: folder of the human labels; the environment variable LOGIT_BIAS_DATA where None.
        **options: as in `corrupt`.

    Returns:
        noisy labels of both splits.

    Raises:
        UnknownNoiseError: no kind of that name.
        NoiseError: a rate, seed or option is not allowed, or a file cannot be read.
    """
    noise = _checked_kind(kind, dataset.classes, rate)
    return noise.apply(dataset, rate, seed, root, options)


def _checked_kind(kind: str, classes: int, rate: float | None) -> NoiseKind:
    noise = get(kind)
    noise.check_rate(classes, rate)
    return noise
