"""A user's file as a data set.

Arrays in `.npz`, or a table with a label column in `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet`.
A table with a column `text` is read as text; any other table as columns of numbers and words.

A table whose labels may be wrong can have a second column of correct labels for some rows
(`clean_label`). Such rows make the test set; training and validation keep the labels as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache, npz_files, table_features, table_files
from trainables.datasets.assemble import (
    TEXT_OPTIONS,
    Examples,
    SourceSplits,
    assemble,
    take_text_options,
)
from trainables.datasets.base import Dataset, DatasetError, DatasetInfo, Labels, info_of
from trainables.datasets.registry import DatasetSource
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_enough_examples,
    check_no_options,
    take_selection,
    take_test_fraction,
    train_val_rows,
)
from trainables.datasets.user_paths import find_path

SUFFIXES = (".npz", *table_files.SUFFIXES)
OPTIONS = (*SELECTION_OPTIONS, "test_fraction")
ARRAY_OPTIONS = ("channels",)
TABLE_OPTIONS = (
    *TEXT_OPTIONS,
    "label",
    "clean_label",
    "text",
    "test",
    "ignore",
    *table_files.OPTIONS,
)
_READER = 2  # increase it when the same file gives another data set


def is_user_file(name: str) -> bool:
    """Whether the name of a data set is the path of a user's file."""
    return Path(name).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class UserFile(DatasetSource):
    """A data set in a user's file.

    Options: `test_fraction`; those of `Selection`; for arrays, `channels` (`first` or `last`); for
    a table, `label`, `clean_label` and `text`, names of columns; `ignore`, names of columns with
    commas between them; `test`, the path of a second table; `delimiter`, `decimal` and `encoding`,
    how the file is written; `vectoriser` and `features` for text.

    Attributes:
        name: the path, absolute or below the root folder.
    """

    name: str
    is_fixed = False

    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """Read the file, once per machine; see `DatasetSource.info`."""
        return info_of(self.load(classes, root, **options), "user file")

    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """See `DatasetSource.load`."""
        settings = {"reader": _READER, "classes": classes, **options}
        paths = [find_path(self.name, root, "file", Path.is_file)]
        if (test_file := options.pop("test", None)) is not None:
            paths.append(find_path(test_file, root, "file", Path.is_file))
        return cache.load_or_build(
            self.name, settings, paths, lambda: self._build(paths, classes, dict(options))
        )

    def _build(
        self, paths: Sequence[Path], classes: int | None, options: dict[str, Any]
    ) -> Dataset:
        texts = take_text_options(self.name, options)
        allowed: tuple[str, ...]
        clean: list[Labels] | None = None
        if paths[0].suffix.lower() == ".npz":
            allowed = (*OPTIONS, *ARRAY_OPTIONS)
            if len(paths) > 1:
                raise DatasetError(
                    f"{paths[0]}: the test set of an .npz is its arrays x_test and y_test"
                )
            source = npz_files.read_npz(paths[0], options.pop("channels", None))
        else:
            allowed = (*OPTIONS, *TABLE_OPTIONS)
            source, clean = _read_table(self.name, paths, options)
        train, test, names = source.train, source.test, source.class_names
        fraction = take_test_fraction(self.name, options, test is not None)
        selection = take_selection(
            self.name, classes, len(names), options, has_val=source.val is not None
        )
        check_no_options(self.name, options, allowed)
        rows = np.arange(len(train.y))  # of the file, for each training example
        counts = np.bincount(train.y, minlength=len(names))
        given: Labels | None = None
        if test is not None and clean is not None:
            verified = np.flatnonzero(clean[1] >= 0)
            given = test.y[verified]
            test = Examples(test.take(verified).x, clean[1][verified])
        elif clean is not None:
            rows, test_rows = _verified_rows(clean[0], fraction, len(names))
            given = train.y[test_rows]
            test = Examples(train.take(test_rows).x, clean[0][test_rows])
            train = train.take(rows)
        elif test is None:
            rows, test_rows = train_val_rows(train.y, Selection(len(names), fraction))
            train, test = train.take(rows), train.take(test_rows)
        check_enough_examples(paths[0], names, counts, train.y, source.val is not None)
        data = assemble(self.name, train, source.val, test, names, "user-defined", selection, texts)
        data = replace(data, notes=source.notes)
        if given is not None:
            data = replace(data, test_given=given[test.y < selection.classes])
        if data.train_rows is None or data.val_rows is None:
            return data
        return replace(data, train_rows=rows[data.train_rows], val_rows=rows[data.val_rows])


def _verified_rows(clean: Labels, fraction: float, classes: int) -> tuple[Labels, Labels]:
    """Divide the rows of a file into those for training and those for the test.

    Args:
        clean: correct labels, int64 [N]; −1 where unknown.
        fraction: largest share of the file that becomes the test set. With more rows of known
            label, a stratified part of them is taken; the others stay in training.
        classes: number of classes.

    Returns:
        rows for training and rows for the test, each ascending.
    """
    verified = np.flatnonzero(clean >= 0)
    share = fraction * len(clean) / len(verified)
    test = verified
    if share < 1:
        test = verified[train_val_rows(clean[verified], Selection(classes, share))[1]]
    return np.setdiff1d(np.arange(len(clean)), test), test


def _read_table(
    name: str, paths: Sequence[Path], options: dict[str, Any]
) -> tuple[SourceSplits, list[Labels] | None]:
    """Training examples and, from a second file, test examples of a table.

    Args:
        name: name of the data set, for messages.
        paths: the training table and, where there is one, the test table.
        options: options of the study file; those of a table are removed from it.

    Returns:
        the splits, and the correct labels of each file, −1 where unknown; None without a column of
        them. Of two files, the second has to have that column.
    """
    label, text = options.pop("label", "label"), options.pop("text", None)
    ignored = [c.strip() for c in str(options.pop("ignore", "")).split(",") if c.strip()]
    layout = table_files.take_layout(name, options)
    clean_label = options.pop("clean_label", None)
    if clean_label is not None and clean_label == label:
        raise DatasetError(f"{paths[0]}: label and clean_label are both {label!r}")
    may_be_empty = (*ignored, *([] if clean_label is None else [clean_label]))
    tables = [table_files.read_table(path, layout, may_be_empty) for path in paths]
    tables = [table.without(ignored) for table in tables]
    names = table_features.class_names(tables[0], label)
    labels = [table_features.encode_labels(table, label, names) for table in tables]
    clean: list[Labels] | None = None
    if clean_label is not None:
        tables[-1].column(clean_label)
        clean = [table_features.encode_known_labels(t, clean_label, names) for t in tables]
        if not (clean[-1] >= 0).any():
            raise DatasetError(f"{paths[-1]}: column {clean_label!r} holds no label")
        tables = [
            table.without([clean_label]) if clean_label in table.columns else table
            for table in tables
        ]
    if not text and "text" in tables[0].columns and label != "text":
        text = "text"
    inputs: list[Any]
    if text:
        inputs = [table_features.texts(table, text) for table in tables]
    else:
        encoder = table_features.learn_encoder(tables[0], label)
        inputs = [encoder.encode(table) for table in tables]
    splits = [Examples(x, y) for x, y in zip(inputs, labels, strict=True)]
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    test = splits[1] if len(splits) > 1 else None
    return SourceSplits(splits[0], None, test, names, notes), clean
