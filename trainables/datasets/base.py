"""The record of a data set, its errors, and helpers that several sources need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.errors import did_you_mean

Array = NDArray[Any]
Labels = NDArray[np.int64]


class DatasetError(ValueError):
    """A data set that cannot be used; the message is one line for the user."""


class DatasetWarning(UserWarning):
    """One of the notes of a data set; see `Dataset.notes`."""


class UnknownDatasetError(DatasetError):
    """No data set of that name; the message lists the names that exist.

    Args:
        name: the name that was requested.
        allowed: the names that exist.
    """

    def __init__(self, name: str, allowed: Iterable[str]) -> None:
        super().__init__(f"unknown data set {name!r}{did_you_mean(name, allowed)}")


@dataclass(frozen=True)
class DatasetInfo:
    """What a plan needs to know about a data set; available without reading it.

    Attributes:
        name: the name for `load`.
        classes: number of classes.
        input_shape: (C, H, W) of images, (F,) of features.
        train_size: number of training examples.
        val_size: number of validation examples.
        test_size: number of test examples.
        licence: one line.
        description: one line.
        notes: what the user should know about how the source was read, one line each.
        skipped_files: number of damaged files that were left out, as the study file allows.
    """

    name: str
    classes: int
    input_shape: tuple[int, ...]
    train_size: int
    val_size: int
    test_size: int
    licence: str
    description: str
    notes: tuple[str, ...] = ()
    skipped_files: int = 0


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test arrays of one classification problem.

    All code in a process shares one loaded data set, and all processes of a machine share the
    inputs of the larger data sets. Never write to the arrays.

    Attributes:
        name: the name for `load`.
        train_x: uint8 or float32 images [N, C, H, W], or float32 features [N, F]; for a folder of
            images, `streaming.ImageFiles`, which decodes images when they are indexed.
        train_y: int64 labels [N] in 0 … classes − 1, without noise.
        val_x: validation inputs, like `train_x`.
        val_y: validation labels, like `train_y`.
        test_x: test inputs, like `train_x`.
        test_y: test labels, like `train_y`.
        class_names: one per class, in the order of the labels.
        mean: float32, [1, C, 1, 1] or [1, F], of the training inputs, in the units of the stored
            values (0 … 255 for uint8 images).
        std: standard deviation, like `mean`.
        licence: one line.
        train_rows: int64 [N], rows of the source's training set that `train_x` holds; None where
            the examples were composed or the source has its own validation set.
        val_rows: rows of the source's training set that `val_x` holds, like `train_rows`.
        notes: what the user should know about how the source was read, one line each.
        skipped_files: number of damaged files that were left out, as an option allows.
        test_given: int64 [N], where the labels of training and validation may be wrong and `test_y`
            is correct: what the labels of the test examples would have been; else None.
    """

    name: str
    train_x: Any
    train_y: Labels
    val_x: Any
    val_y: Labels
    test_x: Any
    test_y: Labels
    class_names: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    licence: str
    train_rows: Labels | None = None
    val_rows: Labels | None = None
    notes: tuple[str, ...] = ()
    skipped_files: int = 0
    test_given: Labels | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of images, (F,) of features."""
        return tuple(self.train_x.shape[1:])

    def normalise(self, x: Array) -> NDArray[np.float32]:
        """Stored values as a network's input: `(float32(x) − mean) / std`, shape of `x`."""
        return (x.astype(np.float32) - self.mean) / self.std


def info_of(dataset: Dataset, description: str) -> DatasetInfo:
    """The info of a loaded data set.

    Args:
        dataset: the data set.
        description: one line.

    Returns:
        its sizes and shape.
    """
    return DatasetInfo(
        dataset.name,
        dataset.classes,
        dataset.input_shape,
        len(dataset.train_y),
        len(dataset.val_y),
        len(dataset.test_y),
        dataset.licence,
        description,
        dataset.notes,
        dataset.skipped_files,
    )


def check_class_count(name: str, requested: int | None, available: int) -> int:
    """The number of classes to keep.

    Args:
        name: name of the data set, for the message.
        requested: how many of the first classes to keep; all where None.
        available: number of classes of the source.

    Returns:
        the number of classes to keep.

    Raises:
        DatasetError: `requested` is not a whole number from 2 to `available`.
    """
    if available < 2:
        raise DatasetError(f"data set {name!r} has {available} class; at least 2 are needed")
    if requested is None:
        return available
    if isinstance(requested, bool) or not isinstance(requested, int | np.integer):
        raise DatasetError(f"data set {name!r}: classes must be a whole number, not {requested!r}")
    if not 2 <= requested <= available:
        raise DatasetError(f"data set {name!r}: classes = {requested}; allowed: 2 to {available}")
    return int(requested)


def channel_statistics(x: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel, exact and in little memory.

    Computed from one histogram per channel, so no array of the size of `x` is made.

    Args:
        x: uint8 images [N, C, H, W].

    Returns:
        mean and standard deviation, float32 [1, C, 1, 1] each.
    """
    counts = np.zeros((x.shape[1], 256), dtype=np.int64)
    for start in range(0, len(x), 1024):
        for c in range(x.shape[1]):
            counts[c] += np.bincount(x[start : start + 1024, c].ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256.0)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    shape = (1, x.shape[1], 1, 1)
    return mean.astype(np.float32).reshape(shape), std.astype(np.float32).reshape(shape)


def sorted_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """The different names, in ascending order if all are whole numbers, else alphabetically."""
    different = set(names)
    are_numbers = all(name.removeprefix("-").isdecimal() for name in different)
    return tuple(sorted(different, key=int if are_numbers else str))


def shuffled(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """A random order of 0 … n − 1.

    Made from uniform doubles only: unlike `Generator.permutation`, their stream is the same in
    every NumPy release.

    Args:
        rng: the random generator.
        n: length.

    Returns:
        int64 [n].
    """
    return np.argsort(rng.random(n), kind="stable")
