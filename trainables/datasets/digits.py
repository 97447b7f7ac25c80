"""Real handwriting that needs no download: digits, and numbers made of digits side by side.

scikit-learn's `load_digits` has 1,797 real 8 × 8 digits (Alpaydin and Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository, 1998). Two or three of them side by side
are a problem with 100 or 1000 classes of the same pixels. The source images are split first, so a
digit that is seen in a validation or test number is in no training number.
"""

from __future__ import annotations

import numpy as np

from trainables.datasets.base import (
    Array,
    Dataset,
    DatasetInfo,
    channel_statistics,
    check_class_count,
    read_only,
    shuffled,
)

LICENCE = "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)"
_HELD_OUT = 30  # source images of each digit for validation, and as many for test
_SOURCE_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # of each digit
_SEED = 20230605  # of the split and of the numbers; another one is another data set

# digits in a number: {name: (digits, examples of each class in train, validation, test)}
_NUMBERS = {"digit-pairs": (2, (120, 20, 40)), "digit-triples": (3, (20, 5, 5))}

NAMES = ("digits", *_NUMBERS)


def info(name: str, classes: int | None = None) -> DatasetInfo:
    """Sizes of `digits`, `digit-pairs` or `digit-triples`, without loading them."""
    if name == "digits":
        kept = check_class_count(name, classes, 10)
        train = sum(_SOURCE_COUNTS[:kept]) - 2 * _HELD_OUT * kept
        sizes = (train, _HELD_OUT * kept, _HELD_OUT * kept)
        description = "handwritten digits"
        digits = 1
    else:
        digits, each = _NUMBERS[name]
        kept = check_class_count(name, classes, 10**digits)
        sizes = (each[0] * kept, each[1] * kept, each[2] * kept)
        description = f"handwritten numbers of {digits} digits"
    return DatasetInfo(name, kept, (1, 8, 8 * digits), *sizes, LICENCE, description)


def load(name: str, classes: int | None = None) -> Dataset:
    """Load `digits`, `digit-pairs` or `digit-triples`; see `trainables.datasets.load`."""
    digits = info(name, classes).input_shape[2] // 8
    kept = check_class_count(name, classes, 10**digits)
    pools = _source_pools()
    splits: dict[str, Array] = {}
    for number, split in enumerate(("train", "val", "test")):
        if name == "digits":
            y = np.repeat(np.arange(10), [len(pool) for pool in pools[split]])
            x = np.concatenate(pools[split])
        else:
            each = _NUMBERS[name][1][number]
            x, y = _numbers(pools[split], digits, each, np.random.default_rng([_SEED, number]))
        x, y = x[y < kept], y[y < kept]
        # Classes come mixed, so that a reader who takes the first rows gets all of them.
        order = shuffled(np.random.default_rng([_SEED, number, 1]), len(y))
        splits[f"{split}_x"] = np.ascontiguousarray(x[order, None])
        splits[f"{split}_y"] = read_only(y[order])
    mean, std = channel_statistics(splits["train_x"])
    names = tuple(f"{label:0{digits}d}" for label in range(kept))
    return Dataset(name, class_names=names, mean=mean, std=std, licence=LICENCE, **splits)


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
