"""Which rows of a data set are used for what: classes kept, imbalance, validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.datasets.base import Array, DatasetError, Labels, check_class_count, shuffled

IMBALANCES = ("long-tail", "step")
_SEED = 20230605  # of the validation split and of what imbalance drops; fixed, part of a data set


@dataclass(frozen=True)
class Selection:
    """Which examples of a data set take part; every setting but `classes` has a default.

    Parameters
    ----------
    classes: the classes 0 … classes − 1 are kept.
    val_fraction: share of each class's training examples held out for validation, where the
        source has no validation set of its own.
    imbalance: None, or `long-tail`: class k keeps n_k · factor^(−k / (C − 1)) of its n_k examples
        (Cao et al., "Learning Imbalanced Datasets with LDAM", 2019, whose factor is the inverse of
        this one); or `step`: the second half of the classes keep n_k / factor. Training and
        validation examples alike, at least one of each class; test examples stay.
    imbalance_factor: largest over smallest class, from 1.
    """

    classes: int
    val_fraction: float = 0.1
    imbalance: str | None = None
    imbalance_factor: float = 1.0

    def kept(self, counts: ArrayLike) -> NDArray[np.int64]:
        """How many of `counts` [C] examples of each class are left by imbalance."""
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
        """How many of `counts` [C] training examples of each class go to validation.

        At least one, and at least one stays.
        """
        before = np.asarray(counts, dtype=np.int64)[: self.classes]
        return np.minimum(_rounded(before * self.val_fraction), np.maximum(before - 1, 0))


def selection(
    name: str, classes: int | None, available: int, options: dict[str, Any], own_val: bool = False
) -> Selection:
    """The settings of a `Selection`, taken out of `options` and checked.

    Raises
    ------
    DatasetError: a setting out of range, or a `val_fraction` where the source has its own
    validation set (`own_val`).
    """
    kept = check_class_count(name, classes, available)
    fraction = options.pop("val_fraction", None)
    imbalance = options.pop("imbalance", None)
    factor = options.pop("imbalance_factor", None)
    if fraction is not None and own_val:
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


def check_options(name: str, left: dict[str, Any], allowed: Sequence[str]) -> None:
    """Refuse options that nobody took.

    Raises
    ------
    DatasetError: naming the first of them and what is allowed.
    """
    if left:
        raise DatasetError(
            f"data set {name!r} has no option {next(iter(left))!r}; allowed: {', '.join(allowed)}"
        )


def split(y: Array, chosen: Selection) -> tuple[Labels, Labels]:
    """Rows of the training set for training and for validation, in ascending order, disjoint.

    Stratified, and the same for every study: the examples of a class are ordered at random once,
    validation takes the first of them and training the last, so a stronger imbalance keeps a
    subset of what a weaker one keeps.
    """
    counts = np.bincount(y[y < chosen.classes], minlength=chosen.classes)
    val = chosen.held_out(counts)
    train = chosen.kept(counts - val)
    val_kept = chosen.kept(val)
    order = _random_order(y, chosen.classes)
    held = [rows[:n] for rows, n in zip(order, val_kept, strict=True)]
    used = [rows[len(rows) - n :] for rows, n in zip(order, train, strict=True)]
    return np.sort(np.concatenate(used)), np.sort(np.concatenate(held))


def subsample(y: Array, chosen: Selection) -> Labels:
    """Rows of a set with its own split that are left by the choice of classes and imbalance."""
    counts = np.bincount(y[y < chosen.classes], minlength=chosen.classes)
    order = _random_order(y, chosen.classes)
    kept = [rows[:n] for rows, n in zip(order, chosen.kept(counts), strict=True)]
    return np.sort(np.concatenate(kept))


def _random_order(y: Array, classes: int) -> list[Labels]:
    """The rows of each class in random order; a class's order depends on no other class."""
    by_class = np.argsort(y, kind="stable")
    ends = np.cumsum(np.bincount(y, minlength=classes))
    groups = np.split(by_class, ends)[:classes]
    return [
        rows[shuffled(np.random.default_rng([_SEED, label]), len(rows))]
        for label, rows in enumerate(groups)
    ]


def _rounded(counts: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """To the nearest, halves up, but no class is left empty."""
    return np.maximum(1, np.floor(counts + 0.5)).astype(np.int64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
