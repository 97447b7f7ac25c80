"""Real handwriting that needs no download: digits, and numbers made of digits side by side.

scikit-learn's `load_digits` has 1,797 real 8 × 8 digits (Alpaydin and Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository, 1998). Two or three of them side by side
are a problem with 100 or 1000 classes of the same pixels. The source images are split first, so a
digit that is seen in a validation or test number is in no training number.
"""

from __future__ import annotations

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
from trainables.datasets.splits import Selection, check_options, selection, subsample

LICENCE = "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)"
_HELD_OUT = 30  # source images of each digit for validation, and as many for test
_SOURCE_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # of each digit
_SEED = 20230605  # of the split and of the numbers; another one is another data set

_FIGURES = {"digits": 1, "digit-pairs": 2, "digit-triples": 3}  # digits in a number
# Numbers of each class in training, validation and test.
_EACH = {"digit-pairs": (120, 20, 40), "digit-triples": (20, 5, 5)}

NAMES = tuple(_FIGURES)
OPTIONS = ("imbalance", "imbalance_factor")


def info(
    name: str, classes: int | None = None, root: Path | None = None, **options: Any
) -> DatasetInfo:
    """Sizes of `digits`, `digit-pairs` or `digit-triples`, without loading them."""
    chosen = _selection(name, classes, options)
    train, val, test = _class_sizes(name)
    digits = _FIGURES[name]
    return DatasetInfo(
        name,
        chosen.classes,
        (1, 8, 8 * digits),
        int(chosen.kept(train).sum()),
        int(chosen.kept(val).sum()),
        sum(test[: chosen.classes]),
        LICENCE,
        "handwritten digits" if digits == 1 else f"handwritten numbers of {digits} digits",
    )


def load(name: str, classes: int | None, root: Path | None, **options: Any) -> Dataset:
    """Load `digits`, `digit-pairs` or `digit-triples`; see `trainables.datasets.load`."""
    chosen = _selection(name, classes, options)
    digits = _FIGURES[name]
    pools = _source_pools()
    splits: dict[str, Array] = {}
    for number, part in enumerate(("train", "val", "test")):
        if name == "digits":
            x = np.concatenate(pools[part])
            y = np.repeat(np.arange(10), [len(pool) for pool in pools[part]])
        else:
            rng = np.random.default_rng([_SEED, number])
            x, y = _numbers(pools[part], digits, _EACH[name][number], rng)
        # Classes come mixed, so that a reader who takes the first rows gets all of them.
        order = shuffled(np.random.default_rng([_SEED, number, 1]), len(y))
        order = order[y[order] < chosen.classes]
        if chosen.imbalance and part != "test":
            order = order[np.isin(order, subsample(y, chosen))]
        splits[f"{part}_x"] = np.ascontiguousarray(x[order, None])
        splits[f"{part}_y"] = y[order]
    mean, std = channel_statistics(splits["train_x"])
    names = tuple(f"{label:0{digits}d}" for label in range(chosen.classes))
    return Dataset(name, class_names=names, mean=mean, std=std, licence=LICENCE, **splits)


def _selection(name: str, classes: int | None, options: dict[str, Any]) -> Selection:
    chosen = selection(name, classes, 10 ** _FIGURES[name], options, own_val=True)
    check_options(name, options, OPTIONS)
    return chosen


def _class_sizes(name: str) -> tuple[tuple[int, ...], ...]:
    """Examples of each class in training, validation and test."""
    if name == "digits":
        train = tuple(n - 2 * _HELD_OUT for n in _SOURCE_COUNTS)
        return train, (_HELD_OUT,) * 10, (_HELD_OUT,) * 10
    return tuple((n,) * 10 ** _FIGURES[name] for n in _EACH[name])


def _source_pools() -> dict[str, list[Array]]:
    """Source images of each digit, uint8 [n, 8, 8], disjoint between the splits."""
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


def _numbers(
    pools: list[Array], digits: int, each: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Numbers [10^digits · each, 8, 8 · digits] and their labels; no number occurs twice."""
    images, labels = [], []
    for label in range(10**digits):
        own = [pools[int(figure)] for figure in f"{label:0{digits}d}"]
        sizes = tuple(len(pool) for pool in own)
        total = int(np.prod(sizes))
        # The first `each` distinct combinations of an i.i.d. stream: uniform without replacement.
        drawn = (rng.random(4 * each) * total).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        chosen = np.unravel_index(drawn[np.sort(first)[:each]], sizes)
        images.append(np.concatenate([pool[i] for pool, i in zip(own, chosen, strict=True)], 2))
        labels.append(np.full(each, label))
    return np.concatenate(images), np.concatenate(labels)
