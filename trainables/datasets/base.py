"""What a data set is: arrays, names, normalisation constants and a licence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Labels = NDArray[np.int64]


class DatasetError(ValueError):
    """A data set that cannot be used; the message is one line for the user."""


class UnknownDatasetError(DatasetError):
    """No data set of that name; the message lists what there is."""

    def __init__(self, name: str, allowed: Iterable[str]) -> None:
        allowed = list(allowed)
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        super().__init__(f"unknown data set {name!r}{hint}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class DatasetInfo:
    """What planning needs to know of a data set, without reading it.

    Parameters
    ----------
    name: the name `load` takes.
    classes: number of classes.
    input_shape: (C, H, W) of images, (F,) of features.
    train_size, val_size, test_size: number of examples.
    licence: one line.
    description: one line.
    """

    name: str
    classes: int
    input_shape: tuple[int, ...]
    train_size: int
    val_size: int
    test_size: int
    licence: str
    description: str


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test arrays of one classification problem.

    A loaded data set is shared by everything in its process, and the images of the larger ones by
    every process of the machine: never write to the arrays.

    Parameters
    ----------
    train_x, val_x, test_x: uint8 images [N, C, H, W], or float32 features [N, F]; of a folder of
        images, `streaming.ImageFiles`, which decodes what is indexed.
    train_y, val_y, test_y: int64 labels [N] in 0 … classes − 1; clean.
    class_names: one a class, in the order of the labels.
    mean, std: float32, [1, C, 1, 1] or [1, F], over the training examples, in the units of the
        stored values (0 … 255 for images): a network's input is `(float32(x) − mean) / std`.
    licence: one line.
    train_rows, val_rows: int64 [N], which rows of the source's training set these are; None where
        the examples were composed.
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

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of images, (F,) of features."""
        return tuple(self.train_x.shape[1:])

    def normalise(self, x: Array) -> NDArray[np.float32]:
        """Network input of stored values: `(float32(x) − mean) / std`, shape of `x`."""
        return (x.astype(np.float32) - self.mean) / self.std


def check_class_count(name: str, asked: int | None, available: int) -> int:
    """The number of classes to keep.

    Raises
    ------
    DatasetError: not a whole number from 2 to `available`.
    """
    if available < 2:
        raise DatasetError(f"data set {name!r} has {available} class; at least 2 are needed")
    if asked is None:
        return available
    if isinstance(asked, bool) or not isinstance(asked, int | np.integer):
        raise DatasetError(f"data set {name!r}: classes must be a whole number, not {asked!r}")
    if not 2 <= asked <= available:
        raise DatasetError(f"data set {name!r}: classes = {asked}; allowed: 2 to {available}")
    return int(asked)


def channel_statistics(x: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel of uint8 images [N, C, H, W], as [1, C, 1, 1].

    Exact: from the histogram of each channel, so nothing the size of `x` is made.
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


def shuffled(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """A random order of 0 … n − 1.

    From uniform doubles alone: unlike `Generator.permutation`, their stream is the same in every
    NumPy release.
    """
    return np.argsort(rng.random(n), kind="stable")
