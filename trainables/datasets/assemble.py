"""From inputs and labels to a data set: rows chosen, features learnt, constants measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.datasets import text
from trainables.datasets.base import Array, Dataset, DatasetError, Labels, channel_statistics
from trainables.datasets.splits import Selection, split, subsample

SPLIT_OPTIONS = ("val_fraction", "imbalance", "imbalance_factor")
TEXT_OPTIONS = ("vectoriser", "features")


@dataclass(frozen=True)
class Part:
    """Inputs and labels of training, validation or test: texts, features or images."""

    x: Any
    y: Labels

    def take(self, rows: Labels) -> Part:
        """The part that has these rows only."""
        x = self.x[rows] if isinstance(self.x, np.ndarray) else [self.x[row] for row in rows]
        return Part(x, self.y[rows])


def text_options(name: str, options: dict[str, Any]) -> tuple[str, int]:
    """Vectoriser and number of features, taken out of `options` and checked.

    Raises
    ------
    DatasetError: one that is not allowed.
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
    train: Part,
    val: Part | None,
    test: Part,
    names: Sequence[str],
    licence: str,
    chosen: Selection,
    texts: tuple[str, int],
) -> Dataset:
    """Choose classes and rows, then turn texts into features learnt from training rows alone.

    Parameters
    ----------
    name, licence
        of the data set.
    train, val, test
        its parts; validation is carved out of training where `val` is None.
    names
        of the classes.
    chosen
        which rows to use.
    texts
        vectoriser and number of features; read where the inputs are texts.
    """
    if val is None:
        train_rows, val_rows = split(train.y, chosen)
        held = train.take(val_rows)
    else:
        train_rows, val_rows = subsample(train.y, chosen), None
        held = val.take(subsample(val.y, chosen))
    used = train.take(train_rows)
    test = test.take(np.flatnonzero(test.y < chosen.classes))
    inputs = [used.x, held.x, test.x]
    mean: Array
    std: Array
    if not isinstance(used.x, np.ndarray):
        inputs = text.vectorise(used.x, [held.x, test.x], *texts)
        # One scale for all words: a scale a word would blow up the rare ones.
        scale = np.sqrt((inputs[0].astype(np.float64) ** 2).mean())
        mean, std = np.zeros((1, 1)), np.full((1, 1), scale)
    elif used.x.dtype == np.uint8:
        mean, std = channel_statistics(used.x)
    else:
        mean, std = _feature_statistics(used.x)
    return Dataset(
        name=name,
        train_x=inputs[0],
        train_y=used.y,
        val_x=inputs[1],
        val_y=held.y,
        test_x=inputs[2],
        test_y=test.y,
        class_names=tuple(names)[: chosen.classes],
        mean=mean.astype(np.float32),
        std=std.astype(np.float32),
        licence=licence,
        train_rows=train_rows if val_rows is not None else None,
        val_rows=val_rows,
    )


def _feature_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature, [1, F]; features of 0 and 1 stay as they are."""
    mean, std = x.mean(axis=0, keepdims=True, dtype=np.float64), x.std(axis=0, keepdims=True)
    plain = ((x == 0) | (x == 1)).all(axis=0, keepdims=True)
    mean[plain] = 0
    return mean, np.where(plain | (std == 0), 1, std)
