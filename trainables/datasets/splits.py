"""The rows of a data set that are used: classes kept, imbalance, validation and test splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.datasets.base import Array, DatasetError, Labels, check_class_count, shuffled
from trainables.errors import did_you_mean

IMBALANCES = ("long-tail", "step")
SELECTION_OPTIONS = ("val_fraction", "imbalance", "imbalance_factor")
# Of the validation split and of the rows that imbalance drops. Part of a data set's definition.
_SEED = 20230605


@dataclass(frozen=True)
class Selection:
    """Which examples of a data set are used.

    Attributes:
        classes: the classes 0 … classes − 1 are kept.
        val_fraction: share of each class's training examples held out for validation, where the
            source has no validation set.
        imbalance: None, or `long-tail`: class k keeps n_k · factor^(−k / (C − 1)) of its n_k
            examples (Cao et al., "Learning Imbalanced Datasets with LDAM", 2019, whose factor is
            the inverse of this one); or `step`: each class of the second half keeps n_k / factor.
            Applies to training and validation examples and leaves at least one of each class; test
            examples all stay.
        imbalance_factor: size of the largest class over the smallest, from 1.
    """

    classes: int
    val_fraction: float = 0.1
    imbalance: str | None = None
    imbalance_factor: float = 1.0

    def kept(self, counts: ArrayLike) -> NDArray[np.int64]:
        """The number of examples that imbalance leaves.

        Args:
            counts: examples of each class, [C] or more.

        Returns:
            int64 [C].
        """
        k = np.arange(self.classes)
        if self.imbalance == "long-tail":
            share = self.imbalance_factor ** (-k / (self.classes - 1))
        elif self.imbalance == "step":
            share = np.where(k < (self.classes + 1) // 2, 1.0, 1 / self.imbalance_factor)
        else:
            share = np.ones(self.classes)
        before = np.asarray(counts, dtype=np.int64)[: self.classes]
        return np.minimum(_rounded(before * share), before)

    def held_out(self, counts: ArrayLike) -> NDArray[np.int64]:
        """The number of training examples that go to validation.

        Args:
            counts: training examples of each class, [C] or more.

        Returns:
            int64 [C]; at least one of each class, and at least one stays in training.
        """
        before = np.asarray(counts, dtype=np.int64)[: self.classes]
        return np.minimum(_rounded(before * self.val_fraction), np.maximum(before - 1, 0))


def take_selection(
    name: str, classes: int | None, available: int, options: dict[str, Any], has_val: bool = False
) -> Selection:
    """Take the settings of a `Selection` out of the options and check them.

    Args:
        name: name of the data set, for messages.
        classes: number of classes to keep; all where None.
        available: number of classes of the source.
        options: options of the study file; the settings are removed from it.
        has_val: the source has its own validation set.

    Returns:
        the selection.

    Raises:
        DatasetError: a setting is out of range, or `val_fraction` is given where `has_val`.
    """
    kept = check_class_count(name, classes, available)
    fraction = options.pop("val_fraction", None)
    imbalance = options.pop("imbalance", None)
    factor = options.pop("imbalance_factor", None)
    if fraction is not None and has_val:
        raise DatasetError(f"data set {name!r} has its own validation set: no val_fraction")
    if fraction is not None and not (_is_number(fraction) and 0 < fraction <= 0.5):
        raise DatasetError(f"data set {name!r}: val_fraction = {fraction}; allowed: above 0 to 0.5")
    if imbalance is not None and imbalance not in IMBALANCES:
        raise DatasetError(
            f"data set {name!r}: imbalance = {imbalance!r}; allowed: {', '.join(IMBALANCES)}"
        )
    if (imbalance is None) != (factor is None):
        raise DatasetError(f"data set {name!r}: imbalance and imbalance_factor go together")
    if factor is not None and not (_is_number(factor) and 1 <= factor < np.inf):
        raise DatasetError(f"data set {name!r}: imbalance_factor = {factor}; allowed: from 1")
    return Selection(kept, fraction or 0.1, imbalance, float(factor or 1))


def take_test_fraction(name: str, options: dict[str, Any], has_test: bool) -> float:
    """Take `test_fraction` out of the options and check it.

    Args:
        name: name of the data set, for messages.
        options: options of the study file; the setting is removed from it.
        has_test: the source has its own test set.

    Returns:
        share of each class that becomes the test set where the source has none; 0.2 by default.

    Raises:
        DatasetError: it is out of range, or given where `has_test`.
    """
    fraction = options.pop("test_fraction", None)
    if fraction is not None and has_test:
        raise DatasetError(f"data set {name!r} has its own test set: no test_fraction")
    fraction = 0.2 if fraction is None else fraction
    if not (isinstance(fraction, float) and 0 < fraction <= 0.5):
        raise DatasetError(
            f"data set {name!r}: test_fraction = {fraction}; allowed: above 0 to 0.5"
        )
    return fraction


def check_no_options(name: str, remaining: dict[str, Any], allowed: Sequence[str]) -> None:
    """Refuse options that no reader has taken.

    Args:
        name: name of the data set, for the message.
        remaining: the options that are left.
        allowed: names of the options that exist.

    Raises:
        DatasetError: the message names the first of them and the allowed ones.
    """
    if remaining:
        option = next(iter(remaining))
        raise DatasetError(
            f"data set {name!r} has no option {option!r}{did_you_mean(option, allowed)}"
        )


def check_enough_examples(
    source: Path, names: Sequence[str], counts: Labels, train_y: Labels, has_val: bool
) -> None:
    """Refuse a class of which the test set leaves too few examples.

    Args:
        source: the file or folder, for the message.
        names: names of the classes.
        counts: examples of each class in the source [classes].
        train_y: labels [N] that are left for training and validation.
        has_val: whether the source has a validation set.

    Raises:
        DatasetError: there are fewer than two of a class, or none with a validation set.
    """
    remaining = np.bincount(train_y, minlength=len(names))
    if remaining.min() < (1 if has_val else 2):
        k = int(remaining.argmin())
        raise DatasetError(
            f"{source}: class {names[k]!r} has {counts[k]} examples, too few to train on, validate "
            "and test"
        )


def train_val_rows(y: Array, selection: Selection) -> tuple[Labels, Labels]:
    """Divide a training set into training and validation rows.

    Stratified, and the same for every study: the examples of each class are put into one fixed
    random order; validation takes the first of them and training the last. A stronger imbalance
    therefore keeps a subset of the rows that a weaker one keeps.

    Args:
        y: labels [N] of the source's training set.
        selection: which examples to use.

    Returns:
        rows for training and rows for validation, each ascending; disjoint.
    """
    counts = np.bincount(y[y < selection.classes], minlength=selection.classes)
    val = selection.held_out(counts)
    train = selection.kept(counts - val)
    val_kept = selection.kept(val)
    order = _random_order(y, selection.classes)
    val_rows = [rows[:n] for rows, n in zip(order, val_kept, strict=True)]
    train_rows = [rows[len(rows) - n :] for rows, n in zip(order, train, strict=True)]
    return np.sort(np.concatenate(train_rows)), np.sort(np.concatenate(val_rows))


def subsample(y: Array, selection: Selection) -> Labels:
    """Rows of a published split that the choice of classes and imbalance keeps.

    Args:
        y: labels [N] of the split.
        selection: which examples to use.

    Returns:
        rows, ascending.
    """
    counts = np.bincount(y[y < selection.classes], minlength=selection.classes)
    order = _random_order(y, selection.classes)
    kept = [rows[:n] for rows, n in zip(order, selection.kept(counts), strict=True)]
    return np.sort(np.concatenate(kept))


def _random_order(y: Array, classes: int) -> list[Labels]:
    """The rows of each class in random order; the order of a class depends on no other class."""
    by_class: Labels = np.argsort(y, kind="stable")
    ends = np.cumsum(np.bincount(y, minlength=classes))
    groups = np.split(by_class, ends)[:classes]
    return [
        rows[shuffled(np.random.default_rng([_SEED, label]), len(rows))]
        for label, rows in enumerate(groups)
    ]


def _rounded(counts: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """To the nearest whole number, halves up, and at least 1."""
    rounded: NDArray[np.int64] = np.maximum(1, np.floor(counts + 0.5)).astype(np.int64)
    return rounded


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
