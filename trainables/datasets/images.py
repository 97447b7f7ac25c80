"""The image data sets of torchvision, read from torchvision's own files.

torchvision downloads them (where there is a network) and checks CIFAR and SVHN by MD5; the files
of the MNIST family are checked here against the sizes in their headers.
"""

from __future__ import annotations

import socket
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache
from trainables.datasets.base import (
    Array,
    Dataset,
    DatasetError,
    DatasetInfo,
    Labels,
    channel_statistics,
)
from trainables.datasets.splits import Selection, check_options, selection, split

_RESEARCH = "none stated; for research"
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class _Set:
    """One of torchvision's data sets: its class, files below the root, and class sizes."""

    torchvision: str
    folder: str
    files: tuple[str, ...]
    shape: tuple[int, int, int]
    train: tuple[int, ...]  # examples of each class
    test: tuple[int, ...]
    licence: str
    description: str
    emnist_split: str | None = None
    class_names: tuple[str, ...] = ()  # of the MNIST family, whose files hold none


def _idx(
    torchvision: str,
    train: tuple[int, ...],
    test: tuple[int, ...],
    licence: str,
    description: str,
    class_names: Sequence[str] = string.digits,
    emnist_split: str | None = None,
) -> _Set:
    files: tuple[str, ...] = _IDX
    if emnist_split:
        files = tuple(f"emnist-{emnist_split}-{f.replace('t10k', 'test')}" for f in _IDX)
    folder = f"{torchvision}/raw"
    return _Set(
        torchvision,
        folder,
        files,
        (1, 28, 28),
        train,
        test,
        licence,
        description,
        emnist_split,
        tuple(class_names),
    )


_MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
_MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
_SVHN_TRAIN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
_SVHN_TEST = (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)
_BATCHES = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_NIST = "public domain (NIST Special Database 19)"
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_BALANCED = string.digits + string.ascii_uppercase + "abdefghnqrt"

_SETS = {
    "mnist": _idx("MNIST", _MNIST_TRAIN, _MNIST_TEST, "CC BY-SA 3.0", "handwritten digits (LeCun)"),
    "fashion-mnist": _idx(
        "FashionMNIST",
        (6000,) * 10,
        (1000,) * 10,
        "MIT",
        "articles of clothing (Zalando)",
        _CLOTHES,
    ),
    "kmnist": _idx(
        "KMNIST", (6000,) * 10, (1000,) * 10, "CC BY-SA 4.0", "cursive Japanese characters", _KANA
    ),
    "emnist-balanced": _idx(
        "EMNIST",
        (2400,) * 47,
        (400,) * 47,
        _NIST,
        "handwritten digits and letters",
        _BALANCED,
        "balanced",
    ),
    "emnist-letters": _idx(
        "EMNIST",
        (4800,) * 26,
        (800,) * 26,
        _NIST,
        "handwritten letters",
        string.ascii_lowercase,
        "letters",
    ),
    "emnist-digits": _idx(
        "EMNIST", (24000,) * 10, (4000,) * 10, _NIST, "handwritten digits", string.digits, "digits"
    ),
    "cifar10": _Set(
        "CIFAR10",
        "cifar-10-batches-py",
        _BATCHES,
        (3, 32, 32),
        (5000,) * 10,
        (1000,) * 10,
        _RESEARCH,
        "small colour photographs (Krizhevsky)",
    ),
    "cifar100": _Set(
        "CIFAR100",
        "cifar-100-python",
        ("meta", "train", "test"),
        (3, 32, 32),
        (500,) * 100,
        (100,) * 100,
        _RESEARCH,
        "small colour photographs (Krizhevsky)",
    ),
    "svhn": _Set(
        "SVHN",
        ".",
        ("train_32x32.mat", "test_32x32.mat"),
        (3, 32, 32),
        _SVHN_TRAIN,
        _SVHN_TEST,
        "for non-commercial use",
        "street-view house numbers (Netzer et al.)",
    ),
}

NAMES = tuple(_SETS)
OPTIONS = ("val_fraction", "imbalance", "imbalance_factor")


def files(name: str, root: Path) -> list[Path]:
    """The files of a data set below a root folder, there or not."""
    return [root / _SETS[name].folder / file for file in _SETS[name].files]


def info(
    name: str, classes: int | None = None, root: Path | None = None, **options: Any
) -> DatasetInfo:
    """Sizes of a data set, without reading it."""
    return _info(name, _selection(name, classes, options))


def load(name: str, classes: int | None, root: Path | None, **options: Any) -> Dataset:
    """Load a data set, downloading it where it is missing; see `trainables.datasets.load`."""
    chosen = _selection(name, classes, options)
    root = _fetched(name, root)
    return cache.load_or_build(
        name, vars(chosen), files(name, root), lambda: _read(name, root, chosen)
    )


def _selection(name: str, classes: int | None, options: dict[str, Any]) -> Selection:
    chosen = selection(name, classes, len(_SETS[name].train), options)
    check_options(name, options, OPTIONS)
    return chosen


def _info(name: str, chosen: Selection) -> DatasetInfo:
    known = _SETS[name]
    counts = np.array(known.train[: chosen.classes])
    val = chosen.held_out(counts)
    return DatasetInfo(
        name,
        chosen.classes,
        known.shape,
        int(chosen.kept(counts - val).sum()),
        int(chosen.kept(val).sum()),
        sum(known.test[: chosen.classes]),
        known.licence,
        known.description,
    )


def _fetched(name: str, root: Path | None) -> Path:
    """The root folder, with the data set's files in it."""
    known = _SETS[name]
    if root is None:
        raise DatasetError(
            f"data set {name!r}: nowhere to look for it; set root in the study file, or "
            "LOGIT_BIAS_DATA, to the folder that holds it or shall hold it"
        )
    with cache.lock(f"download-{name}"):  # a file that another worker downloads is not there yet
        if not _missing(name, root):
            return root
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision would wait for ever
        try:
            _download(name, root)
        except (OSError, RuntimeError) as error:
            lacking = ", ".join(file.name for file in _missing(name, root))
            raise DatasetError(
                f"data set {name!r} is not in {root} and could not be downloaded "
                f"({' '.join(str(error).split())[:160]}): put {lacking} into {root / known.folder}"
            ) from error
        finally:
            socket.setdefaulttimeout(before)
    return root


def _missing(name: str, root: Path) -> list[Path]:
    return [file for file in files(name, root) if not file.is_file()]


def _download(name: str, root: Path) -> None:
    from torchvision import datasets as source

    known = _SETS[name]
    make = getattr(source, known.torchvision)
    if known.torchvision == "SVHN":
        for part in ("train", "test"):
            make(root, split=part, download=True)
    elif known.emnist_split:
        make(root, split=known.emnist_split, download=True)
    else:
        make(root, download=True)


def _read(name: str, root: Path, chosen: Selection) -> Dataset:
    known = _SETS[name]
    read = _read_idx if known.files[0].endswith("ubyte") else _read_checked
    (x, y), (test_x, test_y), class_names = read(name, root)
    for labels, expected, part in ((y, known.train, "training"), (test_y, known.test, "test")):
        counts = np.bincount(labels, minlength=len(expected))
        if tuple(counts) != expected:
            raise DatasetError(
                f"{root / known.folder}: the {part} set of {name!r} has {len(labels):,} examples "
                f"with class sizes that are not {name!r}'s; it is damaged or another data set"
            )
    train_rows, val_rows = split(y, chosen)
    test_rows = np.flatnonzero(test_y < chosen.classes)
    train_x = x[train_rows]
    mean, std = channel_statistics(train_x)
    return Dataset(
        name=name,
        train_x=train_x,
        train_y=y[train_rows],
        val_x=x[val_rows],
        val_y=y[val_rows],
        test_x=test_x[test_rows],
        test_y=test_y[test_rows],
        class_names=class_names[: chosen.classes],
        mean=mean,
        std=std,
        licence=known.licence,
        train_rows=train_rows,
        val_rows=val_rows,
    )


_Parts = tuple[tuple[Array, Labels], tuple[Array, Labels], tuple[str, ...]]


def _read_checked(name: str, root: Path) -> _Parts:
    """CIFAR and SVHN, whose files torchvision knows by MD5."""
    from torchvision import datasets as source
    from torchvision.datasets.utils import check_integrity

    known = _SETS[name]
    made: Any = getattr(source, known.torchvision)
    if name == "svhn":
        sums = {entry[1]: entry[2] for entry in made.split_list.values()}
    else:
        sums = dict([*made.train_list, *made.test_list])
        sums[made.meta["filename"]] = made.meta["md5"]
    for file in files(name, root):
        if not check_integrity(file, sums[file.name]):
            raise DatasetError(f"{file} is damaged: its MD5 is not {sums[file.name]}")
    if name == "svhn":
        train, test = (made(root, split=part) for part in ("train", "test"))
        names = tuple("0123456789")
        return (train.data, train.labels), (test.data, test.labels), names
    train, test = (made(root, train=part) for part in (True, False))
    images = [part.data.transpose(0, 3, 1, 2) for part in (train, test)]
    labels = [np.array(part.targets, dtype=np.int64) for part in (train, test)]
    return (images[0], labels[0]), (images[1], labels[1]), tuple(train.classes)


def _read_idx(name: str, root: Path) -> _Parts:
    """The MNIST family: files of the IDX format (sizes in the header, then bytes)."""
    known = _SETS[name]
    arrays = [_idx_array(file) for file in files(name, root)]
    x, y, test_x, test_y = arrays
    if known.emnist_split:  # EMNIST's images are stored with rows and columns exchanged
        x, test_x = x.transpose(0, 2, 1), test_x.transpose(0, 2, 1)
    if known.emnist_split == "letters":  # its labels start from 1
        y, test_y = y - 1, test_y - 1
    for file, array, labels in zip(files(name, root)[::2], (x, test_x), (y, test_y), strict=True):
        if array.shape != (len(labels), 28, 28):
            raise DatasetError(
                f"{file} has {array.shape} images, and its labels are {len(labels):,}"
            )
    return (
        (x[:, None], y.astype(np.int64)),
        (test_x[:, None], test_y.astype(np.int64)),
        known.class_names,
    )


def _idx_array(file: Path) -> Array:
    """An uncompressed IDX file of unsigned bytes."""
    content = np.fromfile(file, dtype=np.uint8)
    ranks = {"idx1": 1, "idx3": 3}
    rank = next(r for mark, r in ranks.items() if mark in file.name)
    start = 4 + 4 * rank
    header = content[:start].view(">u4") if len(content) >= start else np.array([0])
    if header[0] != 0x800 + rank:
        raise DatasetError(f"{file} is damaged: it does not start like an IDX file")
    shape = tuple(int(size) for size in header[1:])
    if len(content) != start + int(np.prod(shape)):
        raise DatasetError(
            f"{file} is damaged: {len(content):,} bytes where its header promises "
            f"{start + int(np.prod(shape)):,}"
        )
    return content[start:].reshape(shape)
