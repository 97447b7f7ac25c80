"""What a kind of label noise is, and the table of all kinds."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from trainables.datasets.base import Dataset, DatasetInfo
from trainables.errors import did_you_mean
from trainables.noise import kinds
from trainables.noise.base import Matrix, NoiseError, NoisyLabels, NoisySplits, UnknownNoiseError
from trainables.seeds import derive

Options = Mapping[str, Any]


class NoiseKind(ABC):
    """One kind of label noise.

    A kind that is a transition matrix is a `MatrixKind`; a subclass of `NoiseKind` is needed only
    where labels depend on more than the true class.

    Attributes:
        name: the name in study files.
        description: one line.
        has_own_rate: the kind determines its own rate; the rate of a study file is None.
        is_drawn_only: the kind has no transition matrix; its noise is known only after drawing.
        truth_is_known: the data set's own labels are taken to be correct. Where they are not,
            accuracy on correct training and validation labels and the rate are unknown.
    """

    name: str
    description: str
    has_own_rate: bool = False
    is_drawn_only: bool = True
    truth_is_known: bool = True

    def check_rate(self, classes: int, rate: float | None) -> None:
        """Refuse a rate or a number of classes that the kind does not allow.

        Args:
            classes: number of classes.
            rate: the requested rate.

        Raises:
            NoiseError: the rate is outside [0, 1], missing, or given where the kind has its own;
                or there are fewer than two classes.
        """
        if self.has_own_rate and rate is not None:
            raise NoiseError(f"noise kind {self.name!r} has its own rate: leave the rate out")
        if not self.has_own_rate and (rate is None or not 0 <= rate <= 1):
            raise NoiseError(f"noise rate = {rate}; allowed: 0 to 1")
        if classes < 2:
            raise NoiseError(f"label noise needs at least 2 classes, not {classes}")

    def check_options(self, options: Options, allowed: Sequence[str]) -> None:
        """Refuse options that the kind does not have.

        Args:
            options: the options that were given.
            allowed: names of the options that exist.

        Raises:
            NoiseError: the message names the first unknown option.
        """
        for option in options:
            if option not in allowed:
                raise NoiseError(
                    f"noise kind {self.name!r} has no option {option!r}"
                    f"{did_you_mean(option, allowed)}"
                )

    @abstractmethod
    def check(self, dataset: DatasetInfo, rate: float | None, options: Options) -> None:
        """Refuse settings with which `apply` cannot work, without reading the data set.

        Args:
            dataset: what is known about the data set.
            rate: a rate that `check_rate` accepted.
            options: the options of the study file.

        Raises:
            NoiseError: the data set or an option is not allowed.
        """

    def matrix(self, classes: int, rate: float | None, options: Options) -> Matrix:
        """The transition matrix that defines the noise.

        Args:
            classes: number of classes C.
            rate: a rate that `check_rate` accepted.
            options: options of the kind.

        Returns:
            float64 [C, C], T[i, j] = P(noisy label j | true label i).

        Raises:
            NoiseError: the kind has no matrix, or an option is not allowed.
        """
        raise NoiseError(f"noise kind {self.name!r} has no transition matrix")

    @abstractmethod
    def corrupt(
        self,
        labels: NDArray[Any],
        classes: int,
        rate: float | None,
        seed: int,
        options: Options,
    ) -> NoisyLabels:
        """Draw noisy labels; see `trainables.noise.corrupt`.

        Args:
            labels: clean labels, whole numbers [N] in 0 … classes − 1.
            classes: number of classes.
            rate: a rate that `check_rate` accepted.
            seed: the only source of randomness, from 0.
            options: options of the kind, `draw` among them.

        Returns:
            the noisy labels with the realised transition matrix and rates.

        Raises:
            NoiseError: a label, the seed or an option is not allowed.
        """

    def apply(
        self,
        dataset: Dataset,
        rate: float | None,
        seed: int,
        root: str | None,
        options: Options,
    ) -> NoisySplits:
        """Draw noisy training and validation labels of a data set.

        By default each split is drawn by `corrupt` with a separate seed.

        Args:
            dataset: the data set.
            rate: a rate that `check_rate` accepted.
            seed: the only source of randomness, from 0.
            root: folder of label files, where the kind reads any.
            options: options of the kind.

        Returns:
            noisy labels of both splits.

        Raises:
            NoiseError: the data set, the seed or an option is not allowed.
        """
        drawn = {}
        for split, labels in (("train", dataset.train_y), ("val", dataset.val_y)):
            of_split = {**self.split_options(dataset, split, seed), **options}
            drawn[split] = self.corrupt(
                labels, dataset.classes, rate, derive(seed, split), of_split
            )
        return NoisySplits(**drawn)

    def dataset_options(self, dataset: str) -> dict[str, Any]:
        """Options that follow from the name of the data set, for `matrix`."""
        return {}

    def split_options(self, dataset: Dataset, split: str, seed: int) -> dict[str, Any]:
        """Options that follow from a data set and a split (`train` or `val`), for `apply`."""
        return self.dataset_options(dataset.name)


_KINDS: dict[str, NoiseKind] = {}


def register(kind: NoiseKind) -> NoiseKind:
    """Add a kind to the table, so that `get` and study files find it by name.

    Each process has its own table: register a kind in a module of `trainables.noise.kinds`, which
    every worker imports.

    Args:
        kind: the new kind.

    Returns:
        `kind`.

    Raises:
        ValueError: the name is taken.
    """
    if kind.name in _KINDS:
        raise ValueError(f"noise kind {kind.name}: the name is taken")
    _KINDS[kind.name] = kind
    return kind


@contextmanager
def registered(kind: NoiseKind) -> Iterator[NoiseKind]:
    """Like `register`, for the duration of a `with` block."""
    register(kind)
    try:
        yield kind
    finally:
        del _KINDS[kind.name]


def get(name: str) -> NoiseKind:
    """The kind of a name.

    Args:
        name: one of `names()`.

    Returns:
        the registered kind.

    Raises:
        UnknownNoiseError: no kind has that name.
    """
    _import_kinds()
    if name not in _KINDS:
        raise UnknownNoiseError(name, names())
    return _KINDS[name]


def names() -> tuple[str, ...]:
    """Names of all kinds, in alphabetical order."""
    _import_kinds()
    return tuple(sorted(_KINDS))


@functools.cache
def _import_kinds() -> None:
    """Import every module of `trainables.noise.kinds`, which registers its kinds."""
    for module in pkgutil.iter_modules(kinds.__path__):
        importlib.import_module(f"{kinds.__name__}.{module.name}")
