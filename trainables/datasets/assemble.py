"""From inputs and labels to a data set: select rows, learn features, measure constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.datasets import text
from trainables.datasets.base import Array, Dataset, DatasetError, Labels, channel_statistics
from trainables.datasets.splits import Selection, subsample, train_val_rows

TEXT_OPTIONS = ("vectoriser", "features")


@dataclass(frozen=True)
class Examples:
    """Inputs and labels of one split.

    Attributes:
        x: texts (a list of N), features [N, F], uint8 or float images [N, C, H, W] or paths [N].
        y: int64 labels [N].
    """

    x: Any
    y: Labels

    def take(self, rows: Labels) -> Examples:
        """The examples of some rows, in the order of `rows`."""
        x = self.x[rows] if isinstance(self.x, np.ndarray) else [self.x[row] for row in rows]
        return Examples(x, self.y[rows])


@dataclass(frozen=True)
class SourceSplits:
    """The splits of a source as it is published.

    Attributes:
        train: training examples.
        val: validation examples; None where they are taken from training.
        test: test examples; None where they are taken from training.
        class_names: one per class, in the order of the labels.
        notes: what the user should know about how the source was read, one line each.
    """

    train: Examples
    val: Examples | None
    test: Examples | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def take_text_options(name: str, options: dict[str, Any]) -> tuple[str, int]:
    """Take vectoriser and number of features out of the options and check them.

    Args:
        name: name of the data set, for messages.
        options: options of the study file; the settings are removed from it.

    Returns:
        vectoriser and number of features.

    Raises:
        DatasetError: one of them is not allowed.
    """
    vectoriser = options.pop("vectoriser", "tfidf")
    features = options.pop("features", text.FEATURES)
    if vectoriser not in text.VECTORISERS:
        raise DatasetError(
            f"data set {name!r}: vectoriser = {vectoriser!r}; "
            f"allowed: {', '.join(text.VECTORISERS)}"
        )
    if not isinstance(features, int) or features < 1:
        raise DatasetError(f"data set {name!r}: features = {features!r}; allowed: from 1")
    return vectoriser, features


def assemble(
    name: str,
    train: Examples,
    val: Examples | None,
    test: Examples,
    class_names: Sequence[str],
    licence: str,
    selection: Selection,
    texts: tuple[str, int],
) -> Dataset:
    """Select classes and rows, then turn texts into features learnt from training rows alone.

    Args:
        name: name of the data set.
        train: training examples.
        val: validation examples; where None, they are taken from training.
        test: test examples.
        class_names: one per class of the source.
        licence: one line.
        selection: which rows to use.
        texts: vectoriser and number of features; read where the inputs are texts.

    Returns:
        the data set.

    Raises:
        DatasetError: the training texts contain no word.
    """
    val_rows: Labels | None = None
    if val is None:
        train_rows, val_rows = train_val_rows(train.y, selection)
        val = train.take(val_rows)
    else:
        train_rows = subsample(train.y, selection)
        val = val.take(subsample(val.y, selection))
    train = train.take(train_rows)
    test = test.take(np.flatnonzero(test.y < selection.classes))
    inputs = [train.x, val.x, test.x]
    mean: Array
    std: Array
    if not isinstance(train.x, np.ndarray):
        inputs = text.vectorise(train.x, [val.x, test.x], *texts)
        # One scale for all words: a scale per word would magnify the rare ones.
        scale = np.sqrt((inputs[0].astype(np.float64) ** 2).mean())
        mean, std = np.zeros((1, 1)), np.full((1, 1), scale)
    elif train.x.dtype == np.uint8:
        mean, std = channel_statistics(train.x)
    elif train.x.ndim == 4:
        mean, std = _image_statistics(train.x)
    else:
        mean, std = _feature_statistics(train.x)
    return Dataset(
        name=name,
        train_x=inputs[0],
        train_y=train.y,
        val_x=inputs[1],
        val_y=val.y,
        test_x=inputs[2],
        test_y=test.y,
        class_names=tuple(class_names)[: selection.classes],
        mean=mean.astype(np.float32),
        std=std.astype(np.float32),
        licence=licence,
        train_rows=train_rows if val_rows is not None else None,
        val_rows=val_rows,
    )


def _image_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel of float images, [1, C, 1, 1]."""
    pixels = x[:, 0].size
    mean = sum(part.sum((0, 2, 3), dtype=np.float64) for part in _parts(x)) / pixels
    mean = np.asarray(mean)[None, :, None, None]
    squares = sum(((part - mean) ** 2).sum((0, 2, 3)) for part in _parts(x)) / pixels
    std = np.sqrt(squares)[None, :, None, None]
    return mean, np.where(std == 0, 1, std)


def _parts(x: Array) -> Iterator[Array]:
    """The rows in parts, so that no array of the size of `x` is made."""
    return (x[start : start + 1024] for start in range(0, len(x), 1024))


def _feature_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature, [1, F]; features of 0 and 1 are unchanged."""
    mean, std = x.mean(axis=0, keepdims=True, dtype=np.float64), x.std(axis=0, keepdims=True)
    binary = ((x == 0) | (x == 1)).all(axis=0, keepdims=True)
    mean[binary] = 0
    return mean, np.where(binary | (std == 0), 1, std)
