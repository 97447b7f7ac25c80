"""Real handwriting that needs no download: digits, and numbers made of digits side by side.

scikit-learn's `load_digits` has 1,797 real 8 × 8 digits (Alpaydin and Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository, 1998). Two or three of them side by side
make a problem with 100 or 1000 classes of the same pixels. The source images are split first, so a
digit of a validation or test number occurs in no training number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets.base import (
    Array,
    Dataset,
    DatasetInfo,
    channel_statistics,
    shuffled,
)
from trainables.datasets.registry import DatasetSource, register
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_no_options,
    subsample,
    take_selection,
)

LICENCE = "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)"
SOURCE_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each digit
_HELD_OUT = 30  # source images of each digit for validation, and as many for test
_SEED = 20230605  # of the split and of the numbers; another seed is another data set
_OPTIONS = SELECTION_OPTIONS[1:]  # validation is fixed


@dataclass(frozen=True)
class HandwrittenNumbers(DatasetSource):
    """Numbers of one, two or three handwritten digits.

    Attributes:
        name: the name for `load`.
        digits: digits per number.
        per_class: numbers per class in training, validation and test; None for single digits,
            which are all used.
    """

    name: str
    digits: int
    per_class: tuple[int, int, int] | None = None

    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """See `DatasetSource.info`."""
        selection = self._selection(classes, options)
        train, val, test = self._class_sizes()
        return DatasetInfo(
            self.name,
            selection.classes,
            (1, 8, 8 * self.digits),
            int(selection.kept(train).sum()),
            int(selection.kept(val).sum()),
            sum(test[: selection.classes]),
            LICENCE,
            "handwritten digits"
            if self.digits == 1
            else f"handwritten numbers of {self.digits} digits",
        )

    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """See `DatasetSource.load`."""
        selection = self._selection(classes, options)
        pools = source_pools()
        arrays: dict[str, Any] = {}
        for number, split in enumerate(("train", "val", "test")):
            if self.per_class is None:
                x = np.concatenate(pools[split])
                y = np.repeat(np.arange(10), [len(pool) for pool in pools[split]])
            else:
                rng = np.random.default_rng([_SEED, number])
                x, y = _compose(pools[split], self.digits, self.per_class[number], rng)
            # Classes are mixed, so that the first rows already hold all of them.
            order = shuffled(np.random.default_rng([_SEED, number, 1]), len(y))
            order = order[y[order] < selection.classes]
            if selection.imbalance and split != "test":
                order = order[np.isin(order, subsample(y, selection))]
            arrays[f"{split}_x"] = np.ascontiguousarray(x[order, None])
            arrays[f"{split}_y"] = y[order]
        mean, std = channel_statistics(arrays["train_x"])
        names = tuple(f"{label:0{self.digits}d}" for label in range(selection.classes))
        return Dataset(self.name, class_names=names, mean=mean, std=std, licence=LICENCE, **arrays)

    def _selection(self, classes: int | None, options: dict[str, Any]) -> Selection:
        selection = take_selection(self.name, classes, 10**self.digits, options, has_val=True)
        check_no_options(self.name, options, _OPTIONS)
        return selection

    def _class_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Examples of each class in training, validation and test."""
        if self.per_class is None:
            train = tuple(n - 2 * _HELD_OUT for n in SOURCE_COUNTS)
            return train, (_HELD_OUT,) * 10, (_HELD_OUT,) * 10
        return tuple((n,) * 10**self.digits for n in self.per_class)


def source_pools() -> dict[str, list[Array]]:
    """The source images of each split (`train`, `val`, `test`), disjoint.

    Returns:
        for each split, the images of each digit, uint8 [n, 8, 8].
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)  # 17 grey levels: lossless
    rng = np.random.default_rng(_SEED)
    pools: dict[str, list[Array]] = {"train": [], "val": [], "test": []}
    for digit in range(10):
        of_digit = images[source.target == digit]
        of_digit = of_digit[shuffled(rng, len(of_digit))]
        pools["val"].append(of_digit[:_HELD_OUT])
        pools["test"].append(of_digit[_HELD_OUT : 2 * _HELD_OUT])
        pools["train"].append(of_digit[2 * _HELD_OUT :])
    return pools


def _compose(
    pools: list[Array], digits: int, per_class: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Numbers [10^digits · per_class, 8, 8 · digits] and their labels; no number occurs twice."""
    images, labels = [], []
    for label in range(10**digits):
        of_digits = [pools[int(digit)] for digit in f"{label:0{digits}d}"]
        sizes = tuple(len(pool) for pool in of_digits)
        total = int(np.prod(sizes))
        # The first distinct combinations of an i.i.d. stream: uniform without replacement.
        drawn = (rng.random(4 * per_class) * total).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        combinations = np.unravel_index(drawn[np.sort(first)[:per_class]], sizes)
        images.append(
            np.concatenate(
                [pool[rows] for pool, rows in zip(of_digits, combinations, strict=True)], 2
            )
        )
        labels.append(np.full(per_class, label))
    return np.concatenate(images), np.concatenate(labels)


register(HandwrittenNumbers("digits", 1))
register(HandwrittenNumbers("digit-pairs", 2, (120, 20, 40)))
register(HandwrittenNumbers("digit-triples", 3, (20, 5, 5)))
