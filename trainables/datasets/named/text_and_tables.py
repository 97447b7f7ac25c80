"""Published data sets of text and of measurements: CLINC150, BANKING77, letter recognition."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache
from trainables.datasets.assemble import (
    TEXT_OPTIONS,
    Examples,
    SourceSplits,
    assemble,
    take_text_options,
)
from trainables.datasets.base import Dataset, DatasetError, DatasetInfo
from trainables.datasets.registry import DatasetSource, register
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_no_options,
    take_selection,
)
from trainables.datasets.table_features import class_names, encode_labels
from trainables.datasets.table_files import read_table


@dataclass(frozen=True)
class PublishedFiles(DatasetSource):
    """A data set in a folder below the root, in the files that its authors publish.

    Attributes:
        name: the name for `load`.
        file_names: paths of the files below the root.
        source: where to get them.
        read: reads the files.
        train: training examples of each class, in the order of the labels.
        test: test examples of each class.
        licence: one line.
        description: one line.
        val: validation examples of each class; None where the source has no validation set.
        columns: number of features of a table; None for text.
    """

    name: str
    file_names: tuple[str, ...]
    source: str
    read: Callable[[Sequence[Path]], SourceSplits]
    train: tuple[int, ...]
    test: tuple[int, ...]
    licence: str
    description: str
    val: tuple[int, ...] | None = None
    columns: int | None = None

    def files(self, root: Path) -> list[Path]:
        """See `DatasetSource.files`."""
        return [root / name for name in self.file_names]

    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """See `DatasetSource.info`."""
        selection, _, features = self._settings(classes, options)
        train = np.array(self.train[: selection.classes])
        val = np.array(self.val[: selection.classes]) if self.val else selection.held_out(train)
        return DatasetInfo(
            self.name,
            selection.classes,
            (features,),
            int(selection.kept(train if self.val else train - val).sum()),
            int(selection.kept(val).sum()),
            sum(self.test[: selection.classes]),
            self.licence,
            self.description,
        )

    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """See `DatasetSource.load`."""
        selection, vectoriser, features = self._settings(classes, options)
        paths = self.files(root or Path())
        missing = [path for path in paths if not path.is_file()]
        if root is None or missing:
            files = ", ".join(path.name for path in missing or paths)
            where = missing[0].parent if root else "a folder that root or LOGIT_BIAS_DATA names"
            raise DatasetError(
                f"data set {self.name!r} is missing: put {files} from {self.source} in {where}"
            )

        def build() -> Dataset:
            source = self.read(paths)
            self._check_class_sizes(source, paths[0].parent)
            assert source.test is not None
            return assemble(
                self.name,
                source.train,
                source.val,
                source.test,
                source.class_names,
                self.licence,
                selection,
                (vectoriser, features),
            )

        settings = {**vars(selection), "vectoriser": vectoriser, "features": features}
        return cache.load_or_build(self.name, settings, paths, build)

    def _settings(self, classes: int | None, options: dict[str, Any]) -> tuple[Selection, str, int]:
        """Selection, vectoriser and number of features."""
        selection = take_selection(
            self.name, classes, len(self.train), options, has_val=self.val is not None
        )
        allowed = SELECTION_OPTIONS[1:] if self.val else SELECTION_OPTIONS
        if self.columns:
            check_no_options(self.name, options, allowed)
            return selection, "", self.columns
        vectoriser, features = take_text_options(self.name, options)
        check_no_options(self.name, options, (*allowed, *TEXT_OPTIONS))
        return selection, vectoriser, features

    def _check_class_sizes(self, source: SourceSplits, folder: Path) -> None:
        for examples, expected, split in (
            (source.train, self.train, "training"),
            (source.val, self.val, "validation"),
            (source.test, self.test, "test"),
        ):
            if examples is None:
                continue
            counts = np.bincount(examples.y, minlength=len(source.class_names))
            if tuple(counts) != expected:
                raise DatasetError(f"{folder}: the {split} set is not that of {self.name!r}")


def _read_clinc150(paths: Sequence[Path]) -> SourceSplits:
    try:
        content = json.loads(paths[0].read_text(encoding="utf-8"))
        pairs = {key: list(zip(*content[key], strict=True)) for key in ("train", "val", "test")}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{paths[0]} is damaged: {error}") from error
    names = tuple(sorted(set(pairs["train"][1])))
    position = {name: k for k, name in enumerate(names)}
    train, val, test = (
        Examples(list(texts), np.array([position.get(label, -1) for label in labels]))
        for texts, labels in pairs.values()
    )
    return SourceSplits(train, val, test, names)


def _read_banking77(paths: Sequence[Path]) -> SourceSplits:
    train, test = (read_table(path) for path in paths)
    names = class_names(train, "category")
    train_examples, test_examples = (
        Examples(table.column("text"), encode_labels(table, "category", names))
        for table in (train, test)
    )
    return SourceSplits(train_examples, None, test_examples, names)


def _read_letters(paths: Sequence[Path]) -> SourceSplits:
    rows = [line.split(",") for line in paths[0].read_text(encoding="ascii").split()]
    for number, row in enumerate(rows, 1):
        is_whole = len(row) == 17 and "A" <= row[0] <= "Z" and all(v.isdecimal() for v in row[1:])
        if not is_whole:
            raise DatasetError(f"{paths[0]}, line {number}: not a letter and 16 whole numbers")
    x = np.array([row[1:] for row in rows], dtype=np.float32)
    y = np.array([ord(row[0]) - ord("A") for row in rows], dtype=np.int64)
    names = tuple(map(chr, range(ord("A"), ord("Z") + 1)))
    # The first 16,000 are for training, as its donor proposes.
    return SourceSplits(Examples(x[:16000], y[:16000]), None, Examples(x[16000:], y[16000:]), names)


for _source in (
    PublishedFiles(
        "clinc150",
        ("clinc150/data_full.json",),
        "github.com/clinc/oos-eval",
        _read_clinc150,
        (100,) * 150,
        (30,) * 150,
        "CC BY 3.0",
        "short queries, 150 intents of ten domains (Larson et al.)",
        val=(20,) * 150,
    ),
    PublishedFiles(
        "banking77",
        ("banking77/train.csv", "banking77/test.csv"),
        "github.com/PolyAI-LDN/task-specific-datasets",
        _read_banking77,
        (
            *(162, 159, 110, 126, 87, 127, 171, 181, 156, 157, 129, 59, 153, 112, 139, 112, 187),
            *(168, 167, 61, 177, 160, 122, 86, 35, 129, 153, 173, 133, 182, 121, 121, 121, 112),
            *(118, 166, 137, 126, 97, 106, 129, 98, 82, 121, 120, 105, 159, 143, 149, 148, 115),
            *(95, 169, 161, 129, 108, 111, 114, 114, 145, 97, 146, 103, 175, 172, 113, 171, 128),
            *(102, 104, 113, 126, 41, 135, 121, 180, 163),
        ),
        (40,) * 77,
        "CC BY 4.0",
        "short queries to a bank, 77 intents (Casanueva et al.)",
    ),
    PublishedFiles(
        "letter-recognition",
        ("letter-recognition/letter-recognition.data",),
        "archive.ics.uci.edu/dataset/59",
        _read_letters,
        (
            *(633, 630, 594, 638, 616, 622, 609, 583, 590, 599, 593, 604, 648),
            *(617, 614, 635, 615, 597, 587, 645, 645, 628, 613, 628, 641, 576),
        ),
        (
            *(156, 136, 142, 167, 152, 153, 164, 151, 165, 148, 146, 157, 144),
            *(166, 139, 168, 168, 161, 161, 151, 168, 136, 139, 159, 145, 158),
        ),
        "CC BY 4.0",
        "16 measures of a printed letter (Slate, UCI)",
        columns=16,
    ),
):
    register(_source)
