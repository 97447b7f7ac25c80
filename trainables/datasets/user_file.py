"""Files of one's own.

Arrays in `.npz`, or a table with a label column in `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet`.
A table with a column `text` is text, any other is numbers and words.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache, table_files
from trainables.datasets.assemble import (
    SPLIT_OPTIONS,
    TEXT_OPTIONS,
    Part,
    assemble,
    text_options,
)
from trainables.datasets.base import Array, Dataset, DatasetError, DatasetInfo
from trainables.datasets.splits import Selection, check_options, selection, split

SUFFIXES = (".npz", *table_files.SUFFIXES)
OPTIONS = (*SPLIT_OPTIONS, *TEXT_OPTIONS, "label", "text", "test", "test_fraction")


def is_own(name: str) -> bool:
    """Whether a name is the path of a file of one's own."""
    return Path(name).suffix in SUFFIXES


def info(
    name: str, classes: int | None = None, root: Path | None = None, **options: Any
) -> DatasetInfo:
    """Sizes of a data set; its file is read, once a machine."""
    data = load(name, classes, root, **options)
    sizes = (len(data.train_y), len(data.val_y), len(data.test_y))
    return DatasetInfo(name, data.classes, data.input_shape, *sizes, data.licence, "own file")


def load(name: str, classes: int | None, root: Path | None, **options: Any) -> Dataset:
    """Load a data set; see `trainables.datasets.load`."""
    settings = {"classes": classes, **options}
    path = _find(name, root)
    own_test = options.pop("test", None)
    paths = [path] if own_test is None else [path, _find(own_test, root)]
    return cache.load_or_build(
        name, settings, paths, lambda: _build(name, paths, classes, dict(options))
    )


def _find(name: str, root: Path | None) -> Path:
    tried = [folder / Path(name).expanduser() for folder in (root or Path(), Path())]
    for path in tried:
        if path.is_file():
            return path
    raise DatasetError(f"no file {' or '.join(dict.fromkeys(str(p.absolute()) for p in tried))}")


def _build(
    name: str, paths: Sequence[Path], classes: int | None, options: dict[str, Any]
) -> Dataset:
    texts = text_options(name, options)
    fraction = options.pop("test_fraction", None)
    if paths[0].suffix == ".npz":
        train, val, test, names, where = _read_npz(paths)
    else:
        label, column = options.pop("label", "label"), options.pop("text", None)
        train, val, test, names, where = _read_table(paths, label, column)
    chosen = selection(name, classes, len(names), options, own_val=val is not None)
    check_options(name, options, OPTIONS)
    if fraction is not None and test is not None:
        raise DatasetError(f"data set {name!r} has its own test set: no test_fraction")
    fraction = 0.2 if fraction is None else fraction
    if not (isinstance(fraction, float) and 0 < fraction <= 0.5):
        raise DatasetError(
            f"data set {name!r}: test_fraction = {fraction}; allowed: above 0 to 0.5"
        )
    rest = np.arange(len(train.y))
    counts = np.bincount(train.y, minlength=len(names))
    if test is None:
        rest, held = split(train.y, Selection(len(names), fraction))
        train, test = train.take(rest), train.take(held)
    left = np.bincount(train.y, minlength=len(names))
    if left.min() < (1 if val else 2):
        k = int(left.argmin())
        raise DatasetError(
            f"{where}: class {names[k]!r} has {counts[k]} examples, too few to train on, validate "
            "and test"
        )
    data = assemble(name, train, val, test, names, "one's own", chosen, texts)
    if data.train_rows is None or data.val_rows is None:
        return data
    return replace(data, train_rows=rest[data.train_rows], val_rows=rest[data.val_rows])


_Parts = tuple[Part, Part | None, Part | None, tuple[str, ...], str]


def _read_table(paths: Sequence[Path], label: str, column: str | None) -> _Parts:
    """Training part and, from a second file, test part, of a table of text or of features."""
    found = [table_files.read(path) for path in paths]
    names = table_files.class_names(found[0], label)
    labels = [table_files.encode_labels(table, label, names) for table in found]
    column = column or ("text" if "text" in found[0].columns and label != "text" else None)
    inputs: list[Any]
    if column:
        inputs = [[str(value) for value in table.column(column)] for table in found]
    else:
        encoder = table_files.learn_encoder(found[0], label)
        inputs = [encoder.encode(table) for table in found]
    parts = [Part(x, y) for x, y in zip(inputs, labels, strict=True)]
    return parts[0], None, parts[1] if len(parts) > 1 else None, names, str(paths[0])


def _read_npz(paths: Sequence[Path]) -> _Parts:
    """Arrays x, y and, where there are, x_val, y_val, x_test, y_test and class_names."""
    path = paths[0]
    if len(paths) > 1:
        raise DatasetError(f"{path}: the test set of an .npz is its arrays x_test and y_test")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from error
    for needed in ("x", "y"):
        if needed not in arrays:
            raise DatasetError(f"{path} has no array {needed!r}; it has {', '.join(arrays)}")
    parts = {}
    for end in ("", "_val", "_test"):
        if f"x{end}" in arrays and f"y{end}" in arrays:
            parts[end] = _npz_part(path, arrays[f"x{end}"], arrays[f"y{end}"], end)
    classes = int(parts[""].y.max()) + 1
    given = arrays.get("class_names")
    names = tuple(map(str, range(classes) if given is None else given))
    for end, part in parts.items():
        if part.x.shape[1:] != parts[""].x.shape[1:]:
            raise DatasetError(f"{path}: x{end} {part.x.shape} does not fit x {parts[''].x.shape}")
        above = np.flatnonzero(part.y >= len(names))
        if above.size:
            raise DatasetError(
                f"{path}, row {above[0]} of y{end}: label {part.y[above[0]]}; "
                f"allowed: 0 to {len(names) - 1}"
            )
    return parts[""], parts.get("_val"), parts.get("_test"), names, str(path)


def _npz_part(path: Path, x: Array, y: Array, end: str) -> Part:
    if y.ndim != 1 or y.dtype.kind not in "iu" or not len(y):
        raise DatasetError(f"{path}: y{end} must be whole numbers [N], not {y.dtype} {y.shape}")
    if len(x) != len(y):
        raise DatasetError(f"{path}: x{end} has {len(x):,} rows, y{end} has {len(y):,}")
    bad = np.flatnonzero(y < 0)
    if bad.size:
        raise DatasetError(f"{path}, row {bad[0]} of y{end}: label {y[bad[0]]}; allowed: from 0")
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x if x.ndim == 4 else x[:, None]
    elif x.dtype.kind in "iuf" and x.ndim == 2:
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if bad.size:
            raise DatasetError(f"{path}, row {bad[0]} of x{end}: not a finite number")
        x = x.astype(np.float32)
    else:
        raise DatasetError(
            f"{path}: x{end} is {x.dtype} {x.shape}; allowed: uint8 images [N, C, H, W] or "
            "[N, H, W], or numbers [N, F]"
        )
    return Part(x, y.astype(np.int64))
