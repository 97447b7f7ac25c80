"""A user's file as a data set.

Arrays in `.npz`, or a table with a label column in `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet`.
A table with a column `text` is read as text; any other table as columns of numbers and words.

A table whose labels may be wrong can have a second column of correct labels for some rows
(`clean_label`). Such rows make the test set; training and validation keep the labels as they are.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache, table_features, table_files
from trainables.datasets.assemble import (
    TEXT_OPTIONS,
    Examples,
    SourceSplits,
    assemble,
    take_text_options,
)
from trainables.datasets.base import Array, Dataset, DatasetError, DatasetInfo, Labels, info_of
from trainables.datasets.registry import DatasetSource
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_no_options,
    take_selection,
    take_test_fraction,
    train_val_rows,
)
from trainables.datasets.user_paths import find_path

SUFFIXES = (".npz", *table_files.SUFFIXES)
_TABLE_OPTIONS = ("label", "text", "clean_label", "leave_out", "test")
_OPTIONS = (*SELECTION_OPTIONS, *TEXT_OPTIONS, *_TABLE_OPTIONS, "test_fraction")


def is_user_file(name: str) -> bool:
    """Whether the name of a data set is the path of a user's file."""
    return Path(name).suffix in SUFFIXES


@dataclass(frozen=True)
class UserFile(DatasetSource):
    """A data set in a user's file.

    Options: `label`, `text` and `clean_label`, names of columns of a table; `leave_out`, names of
    columns that are no input, separated by commas; `test`, the path of a second table, or
    `test_fraction`; those of `Selection`; `vectoriser` and `features` for text.

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
        settings = {"classes": classes, **options}
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
        clean: list[Labels] | None = None
        if paths[0].suffix == ".npz":
            source = _read_npz(paths)
        else:
            label, column = options.pop("label", "label"), options.pop("text", None)
            left_out = [c.strip() for c in options.pop("leave_out", "").split(",") if c.strip()]
            source, clean = _read_table(
                paths, label, column, options.pop("clean_label", None), left_out
            )
        train, test, names = source.train, source.test, source.class_names
        fraction = take_test_fraction(self.name, options, test is not None)
        selection = take_selection(
            self.name, classes, len(names), options, has_val=source.val is not None
        )
        check_no_options(self.name, options, _OPTIONS)
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
        remaining = np.bincount(train.y, minlength=len(names))
        if remaining.min() < (1 if source.val else 2):
            k = int(remaining.argmin())
            raise DatasetError(
                f"{paths[0]}: class {names[k]!r} has {counts[k]} examples, too few to train on, "
                "validate and test"
            )
        data = assemble(self.name, train, source.val, test, names, "user-defined", selection, texts)
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
    paths: Sequence[Path],
    label: str,
    text_column: str | None,
    clean_label: str | None,
    left_out: Sequence[str],
) -> tuple[SourceSplits, list[Labels] | None]:
    """Training examples and, from a second file, test examples of a table.

    Returns:
        the splits, and the correct labels of each file, −1 where unknown; None without a column of
        them. Of two files, the second has to have that column.
    """
    tables = [table_files.read_table(path, may_be_empty=clean_label) for path in paths]
    names = table_features.class_names(tables[0], label)
    labels = [table_features.encode_labels(table, label, names) for table in tables]
    clean: list[Labels] | None = None
    if clean_label is not None:
        if clean_label == label:
            raise DatasetError(f"{paths[0]}: label and clean_label are both {label!r}")
        tables[-1].column(clean_label)
        clean = [table_features.encode_known_labels(t, clean_label, names) for t in tables]
        if not (clean[-1] >= 0).any():
            raise DatasetError(f"{paths[-1]}: column {clean_label!r} holds no label")
        tables = [table.without(clean_label) for table in tables]
    for name in left_out:
        tables[0].column(name)  # a name that does not exist is a typing error
        tables = [table.without(name) for table in tables]
    if not text_column and "text" in tables[0].columns and label != "text":
        text_column = "text"
    inputs: list[Any]
    if text_column:
        inputs = [[str(value) for value in table.column(text_column)] for table in tables]
    else:
        encoder = table_features.learn_encoder(tables[0], label)
        inputs = [encoder.encode(table) for table in tables]
    splits = [Examples(x, y) for x, y in zip(inputs, labels, strict=True)]
    return SourceSplits(splits[0], None, splits[1] if len(splits) > 1 else None, names), clean


def _read_npz(paths: Sequence[Path]) -> SourceSplits:
    """Arrays x, y and, optionally, x_val, y_val, x_test, y_test and class_names."""
    path = paths[0]
    if len(paths) > 1:
        raise DatasetError(f"{path}: the test set of an .npz is its arrays x_test and y_test")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from error
    for required in ("x", "y"):
        if required not in arrays:
            raise DatasetError(f"{path} has no array {required!r}; it has {', '.join(arrays)}")
    splits = {
        suffix: _npz_split(path, arrays[f"x{suffix}"], arrays[f"y{suffix}"], suffix)
        for suffix in ("", "_val", "_test")
        if f"x{suffix}" in arrays and f"y{suffix}" in arrays
    }
    train = splits[""]
    class_names = arrays.get("class_names", range(int(train.y.max()) + 1))
    names = tuple(map(str, class_names))
    for suffix, split in splits.items():
        if split.x.shape[1:] != train.x.shape[1:]:
            raise DatasetError(f"{path}: x{suffix} {split.x.shape} does not fit x {train.x.shape}")
        above = np.flatnonzero(split.y >= len(names))
        if above.size:
            raise DatasetError(
                f"{path}, row {above[0]} of y{suffix}: label {split.y[above[0]]}; "
                f"allowed: 0 to {len(names) - 1}"
            )
    return SourceSplits(train, splits.get("_val"), splits.get("_test"), names)


def _npz_split(path: Path, x: Array, y: Array, suffix: str) -> Examples:
    """Inputs and labels of one split, checked; grey images get a channel axis."""
    if y.ndim != 1 or y.dtype.kind not in "iu" or not len(y):
        raise DatasetError(f"{path}: y{suffix} must be whole numbers [N], not {y.dtype} {y.shape}")
    if len(x) != len(y):
        raise DatasetError(f"{path}: x{suffix} has {len(x):,} rows, y{suffix} has {len(y):,}")
    bad = np.flatnonzero(y < 0)
    if bad.size:
        raise DatasetError(f"{path}, row {bad[0]} of y{suffix}: label {y[bad[0]]}; allowed: from 0")
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x if x.ndim == 4 else x[:, None]
    elif x.dtype.kind in "iuf" and x.ndim == 2:
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if bad.size:
            raise DatasetError(f"{path}, row {bad[0]} of x{suffix}: not a finite number")
        x = x.astype(np.float32)
    else:
        raise DatasetError(
            f"{path}: x{suffix} is {x.dtype} {x.shape}; allowed: uint8 images [N, C, H, W] or "
            "[N, H, W], or numbers [N, F]"
        )
    return Examples(x, y.astype(np.int64))
