"""The image data sets of torchvision, read from torchvision's own files.

torchvision downloads them (where there is a network) and checks CIFAR and SVHN by MD5. The files
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
from trainables.datasets.assemble import Examples, SourceSplits
from trainables.datasets.base import (
    Array,
    Dataset,
    DatasetError,
    DatasetInfo,
    channel_statistics,
)
from trainables.datasets.registry import DatasetSource, register
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_no_options,
    take_selection,
    train_val_rows,
)

_RESEARCH = "none stated; for research"
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class TorchvisionImages(DatasetSource):
    """A data set of torchvision.

    Attributes:
        name: the name for `load`.
        torchvision: name of torchvision's class.
        folder: folder of the files below the root.
        file_names: names of the files.
        shape: (C, H, W).
        train: training examples of each class, in the order of the labels.
        test: test examples of each class.
        licence: one line.
        description: one line.
        emnist_split: torchvision's name of the split of EMNIST.
        class_names: of the MNIST family, whose files hold no names.
    """

    name: str
    torchvision: str
    folder: str
    file_names: tuple[str, ...]
    shape: tuple[int, int, int]
    train: tuple[int, ...]
    test: tuple[int, ...]
    licence: str
    description: str
    emnist_split: str | None = None
    class_names: tuple[str, ...] = ()

    def files(self, root: Path) -> list[Path]:
        """See `DatasetSource.files`."""
        return [root / self.folder / name for name in self.file_names]

    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """See `DatasetSource.info`."""
        selection = self._selection(classes, options)
        counts = np.array(self.train[: selection.classes])
        val = selection.held_out(counts)
        return DatasetInfo(
            self.name,
            selection.classes,
            self.shape,
            int(selection.kept(counts - val).sum()),
            int(selection.kept(val).sum()),
            sum(self.test[: selection.classes]),
            self.licence,
            self.description,
        )

    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """Download the files where they are missing, then read them; see `DatasetSource.load`."""
        selection = self._selection(classes, options)
        folder = self._ensure_files(root)
        return cache.load_or_build(
            self.name, vars(selection), self.files(folder), lambda: self._read(folder, selection)
        )

    def _selection(self, classes: int | None, options: dict[str, Any]) -> Selection:
        selection = take_selection(self.name, classes, len(self.train), options)
        check_no_options(self.name, options, SELECTION_OPTIONS)
        return selection

    def _ensure_files(self, root: Path | None) -> Path:
        """The root folder, with the data set's files in it."""
        if root is None:
            raise DatasetError(
                f"data set {self.name!r}: no folder to look in; set root in the study file, or "
                "LOGIT_BIAS_DATA, to the folder of data sets"
            )
        with cache.lock(f"download-{self.name}"):  # wait while another worker downloads
            if not self._missing(root):
                return root
            before = socket.getdefaulttimeout()
            socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets no timeout
            try:
                self._download(root)
            except (OSError, RuntimeError) as error:
                missing = ", ".join(file.name for file in self._missing(root))
                raise DatasetError(
                    f"data set {self.name!r} is not in {root} and could not be downloaded "
                    f"({' '.join(str(error).split())[:160]}): put {missing} into "
                    f"{root / self.folder}"
                ) from error
            finally:
                socket.setdefaulttimeout(before)
        return root

    def _missing(self, root: Path) -> list[Path]:
        return [file for file in self.files(root) if not file.is_file()]

    def _download(self, root: Path) -> None:
        from torchvision import datasets as source

        make = getattr(source, self.torchvision)
        if self.torchvision == "SVHN":
            for split in ("train", "test"):
                make(root, split=split, download=True)
        elif self.emnist_split:
            make(root, split=self.emnist_split, download=True)
        else:
            make(root, download=True)

    def _read(self, root: Path, selection: Selection) -> Dataset:
        is_idx = self.file_names[0].endswith("ubyte")
        source = self._read_idx(root) if is_idx else self._read_by_torchvision(root)
        train, test = source.train, source.test
        assert test is not None
        for examples, expected, split in (
            (train, self.train, "training"),
            (test, self.test, "test"),
        ):
            if tuple(np.bincount(examples.y, minlength=len(expected))) != expected:
                raise DatasetError(
                    f"{root / self.folder}: the {split} set of {self.name!r} has "
                    f"{len(examples.y):,} examples with class sizes that are not {self.name!r}'s; "
                    "it is damaged or another data set"
                )
        train_rows, val_rows = train_val_rows(train.y, selection)
        test_rows = np.flatnonzero(test.y < selection.classes)
        train_x = train.x[train_rows]
        mean, std = channel_statistics(train_x)
        return Dataset(
            name=self.name,
            train_x=train_x,
            train_y=train.y[train_rows],
            val_x=train.x[val_rows],
            val_y=train.y[val_rows],
            test_x=test.x[test_rows],
            test_y=test.y[test_rows],
            class_names=source.class_names[: selection.classes],
            mean=mean,
            std=std,
            licence=self.licence,
            train_rows=train_rows,
            val_rows=val_rows,
        )

    def _read_by_torchvision(self, root: Path) -> SourceSplits:
        """CIFAR and SVHN, for whose files torchvision has MD5 sums."""
        from torchvision import datasets as source
        from torchvision.datasets.utils import check_integrity

        make: Any = getattr(source, self.torchvision)
        is_svhn = self.torchvision == "SVHN"
        if is_svhn:
            sums = {entry[1]: entry[2] for entry in make.split_list.values()}
        else:
            sums = dict([*make.train_list, *make.test_list])
            sums[make.meta["filename"]] = make.meta["md5"]
        for file in self.files(root):
            if not check_integrity(file, sums[file.name]):
                raise DatasetError(f"{file} is damaged: its MD5 is not {sums[file.name]}")
        if is_svhn:
            train, test = (make(root, split=split) for split in ("train", "test"))
            return SourceSplits(
                Examples(train.data, train.labels),
                None,
                Examples(test.data, test.labels),
                tuple(string.digits),
            )
        train, test = (make(root, train=is_train) for is_train in (True, False))
        train_examples, test_examples = (
            Examples(data.data.transpose(0, 3, 1, 2), np.array(data.targets, dtype=np.int64))
            for data in (train, test)
        )
        return SourceSplits(train_examples, None, test_examples, tuple(train.classes))

    def _read_idx(self, root: Path) -> SourceSplits:
        """The MNIST family: files of the IDX format (sizes in the header, then bytes)."""
        x, y, test_x, test_y = (_idx_array(file) for file in self.files(root))
        if self.emnist_split:  # EMNIST's images are stored with rows and columns exchanged
            x, test_x = x.transpose(0, 2, 1), test_x.transpose(0, 2, 1)
        if self.emnist_split == "letters":  # its labels start from 1
            y, test_y = y - 1, test_y - 1
        for file, array, labels in zip(
            self.files(root)[::2], (x, test_x), (y, test_y), strict=True
        ):
            if array.shape != (len(labels), 28, 28):
                raise DatasetError(
                    f"{file} has {array.shape} images, and its labels are {len(labels):,}"
                )
        return SourceSplits(
            Examples(x[:, None], y.astype(np.int64)),
            None,
            Examples(test_x[:, None], test_y.astype(np.int64)),
            self.class_names,
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
            f"{file} is damaged: {len(content):,} bytes, but its header says "
            f"{start + int(np.prod(shape)):,}"
        )
    return content[start:].reshape(shape)


# --- The data sets ---------------------------------------------------------------------------


def _mnist_like(
    name: str,
    torchvision: str,
    train: tuple[int, ...],
    test: tuple[int, ...],
    licence: str,
    description: str,
    class_names: Sequence[str] = string.digits,
    emnist_split: str | None = None,
) -> TorchvisionImages:
    """A data set of 28 × 28 grey images in IDX files."""
    files: tuple[str, ...] = _IDX
    if emnist_split:
        files = tuple(f"emnist-{emnist_split}-{f.replace('t10k', 'test')}" for f in _IDX)
    return TorchvisionImages(
        name,
        torchvision,
        f"{torchvision}/raw",
        files,
        (1, 28, 28),
        train,
        test,
        licence,
        description,
        emnist_split,
        tuple(class_names),
    )


MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
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

for _source in (
    _mnist_like(
        "mnist", "MNIST", MNIST_TRAIN, MNIST_TEST, "CC BY-SA 3.0", "handwritten digits (LeCun)"
    ),
    _mnist_like(
        "fashion-mnist",
        "FashionMNIST",
        (6000,) * 10,
        (1000,) * 10,
        "MIT",
        "articles of clothing (Zalando)",
        _CLOTHES,
    ),
    _mnist_like(
        "kmnist",
        "KMNIST",
        (6000,) * 10,
        (1000,) * 10,
        "CC BY-SA 4.0",
        "cursive Japanese characters",
        _KANA,
    ),
    _mnist_like(
        "emnist-balanced",
        "EMNIST",
        (2400,) * 47,
        (400,) * 47,
        _NIST,
        "handwritten digits and letters",
        _BALANCED,
        "balanced",
    ),
    _mnist_like(
        "emnist-letters",
        "EMNIST",
        (4800,) * 26,
        (800,) * 26,
        _NIST,
        "handwritten letters",
        string.ascii_lowercase,
        "letters",
    ),
    _mnist_like(
        "emnist-digits",
        "EMNIST",
        (24000,) * 10,
        (4000,) * 10,
        _NIST,
        "handwritten digits",
        string.digits,
        "digits",
    ),
    TorchvisionImages(
        "cifar10",
        "CIFAR10",
        "cifar-10-batches-py",
        _BATCHES,
        (3, 32, 32),
        (5000,) * 10,
        (1000,) * 10,
        _RESEARCH,
        "small colour photographs (Krizhevsky)",
    ),
    TorchvisionImages(
        "cifar100",
        "CIFAR100",
        "cifar-100-python",
        ("meta", "train", "test"),
        (3, 32, 32),
        (500,) * 100,
        (100,) * 100,
        _RESEARCH,
        "small colour photographs (Krizhevsky)",
    ),
    TorchvisionImages(
        "svhn",
        "SVHN",
        ".",
        ("train_32x32.mat", "test_32x32.mat"),
        (3, 32, 32),
        _SVHN_TRAIN,
        _SVHN_TEST,
        "for non-commercial use",
        "street-view house numbers (Netzer et al.)",
    ),
):
    register(_source)
