"""What is in a data set: examples, classes, inputs, duplicates."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from study.proposal.columns import Columns, find_columns, is_number
from trainables import datasets
from trainables.datasets.registry import names as dataset_names
from trainables.datasets.streaming import ImageFiles
from trainables.datasets.table_files import SUFFIXES as TABLE_SUFFIXES
from trainables.datasets.table_files import Table, is_empty, read_table
from trainables.errors import BadInputError

InputKind = Literal["table", "text", "images", "image folder"]

LEAST_EXAMPLES = 3
"""Examples of a class: one each to train on, validate and test."""

FEW_EXAMPLES = 10
"""A class with fewer examples is named in the study file."""

_LARGE_TEST, _SMALL_FILE = 0.3, 6_000
_LARGE_VAL, _MEDIUM_FILE = 0.2, 20_000
_CPU_PIXELS = 32  # edge of the images of a folder, without a GPU
_GPU_PIXELS = 64
_HASHED_FILES = 50_000


@dataclass(frozen=True)
class Request:
    """What the user says about the data.

    Attributes:
        data: a file, a folder of images, or the name of a data set.
        label: column of labels.
        text: column of texts.
        clean_label: column of correct labels, known for some rows.
        test: a second table, as test set.
        root: folder of downloaded data sets.
    """

    data: str
    label: str | None = None
    text: str | None = None
    clean_label: str | None = None
    test: str | None = None
    root: str | None = None

    @property
    def may_be_empty(self) -> tuple[str, ...]:
        """Columns of a table whose cells may be empty."""
        return () if self.clean_label is None else (self.clean_label,)


@dataclass(frozen=True)
class Survey:
    """What is in a data set.

    Attributes:
        name: the data set in the study file.
        options: its options there.
        info: classes, input shape and sizes.
        kind: what the inputs are.
        class_sizes: {class: examples}, the largest first, by the labels as they are.
        columns: of a table; else None.
        duplicates: examples whose input occurs more than once; None where unknown.
        conflicts: of these, the ones whose copies have different labels; None where unknown.
        verified: rows whose correct label is known; 0 for none.
        wrong: of these, the share with another label in the file; None for none.
        remarks: what was decided without being asked.
        questions: what only the user knows.
    """

    name: str
    options: dict[str, Any]
    info: datasets.DatasetInfo
    kind: InputKind
    class_sizes: dict[str, int]
    columns: Columns | None = None
    duplicates: int | None = None
    conflicts: int | None = None
    verified: int = 0
    wrong: float | None = None
    remarks: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return sum(self.class_sizes.values())


def survey(request: Request, has_gpu: bool) -> Survey:
    """Look at a data set.

    Args:
        request: what the user says about it.
        has_gpu: decides the size of images.

    Raises:
        BadInputError: it cannot be used; one line says why.
        ValueError: a data set cannot be read; likewise.
    """
    path = Path(request.data).expanduser()
    if request.data in dataset_names():
        _refuse_columns(request, "a named data set")
        return _of_arrays(request.data, {}, request.root, "")
    if path.is_dir():
        _refuse_columns(request, "a folder of images")
        size = _GPU_PIXELS if has_gpu else _CPU_PIXELS
        return _of_arrays(f"{path.resolve()}/", {"size": size}, request.root, "")
    if not path.is_file():
        raise BadInputError(
            f"{request.data}: no file, no folder and no data set of that name (see logit-bias "
            "datasets)"
        )
    if path.suffix in TABLE_SUFFIXES:
        return _of_table(path, request)
    if path.suffix != ".npz":
        allowed = ", ".join((*TABLE_SUFFIXES, ".npz"))
        raise BadInputError(f"{request.data}: allowed are {allowed}, and folders of images")
    _refuse_columns(request, "an .npz file")
    return _of_arrays(str(path.resolve()), {}, request.root, "npz")


def _refuse_columns(request: Request, what: str) -> None:
    for option in ("label", "text", "clean_label", "test"):
        if getattr(request, option) is not None:
            raise BadInputError(f"--{option.replace('_', '-')}: {what} has no columns")


def _of_table(path: Path, request: Request) -> Survey:
    table = read_table(path, may_be_empty=request.may_be_empty)
    if all(is_number(name) for name in table.columns):
        raise BadInputError(
            f"{path}: the first line holds numbers; a line of column names is needed"
        )
    clean_in_file = request.clean_label if request.test is None else None
    if clean_in_file is None and request.clean_label in table.columns:
        table = table.without([str(request.clean_label)])
    columns = find_columns(table, request.label, request.text, clean_in_file)
    labels = [str(value) for value in table.columns[columns.label]]
    sizes = dict(Counter(labels).most_common())
    _refuse_tiny_classes(path, sizes)
    options: dict[str, Any] = {}
    if columns.label != "label":
        options["label"] = columns.label
    if columns.text is not None and columns.text != "text":
        options["text"] = columns.text
    if columns.text is None and columns.left_out:
        options["ignore"] = ",".join(columns.left_out)
    if request.clean_label is not None:
        options["clean_label"] = request.clean_label
    if request.test is not None:
        options["test"] = str(Path(request.test).expanduser().resolve())
    elif len(labels) < _SMALL_FILE:
        options["test_fraction"] = _LARGE_TEST
    if len(labels) < _MEDIUM_FILE:
        options["val_fraction"] = _LARGE_VAL
    info = datasets.info(str(path.resolve()), root=request.root, **options)
    if request.root is not None:
        options["root"] = request.root
    inputs = [columns.text] if columns.text is not None else columns.features
    duplicates, conflicts = _duplicates(
        zip(*(table.columns[c] for c in inputs), strict=True), labels
    )
    source = table
    if request.test is not None and request.clean_label is not None:
        source = read_table(Path(request.test).expanduser(), may_be_empty=request.may_be_empty)
    verified, wrong = _verified(source, columns.label, request.clean_label)
    return Survey(
        name=str(path.resolve()),
        options=options,
        info=info,
        kind="text" if columns.text is not None else "table",
        class_sizes=sizes,
        columns=columns,
        duplicates=duplicates,
        conflicts=conflicts,
        verified=verified,
        wrong=wrong,
        remarks=columns.remarks,
        questions=columns.questions,
    )


def _of_arrays(name: str, options: dict[str, Any], root: str | None, kind: str) -> Survey:
    """A named data set, a folder of images or an `.npz` file."""
    data = datasets.load(name, root=root, **options)
    if kind == "npz" and data.train_rows is not None and len(data.train_y) < _MEDIUM_FILE:
        options = {**options, "val_fraction": _LARGE_VAL}
        data = datasets.load(name, root=root, **options)
    info = datasets.info(name, root=root, **options)
    labels = np.concatenate([data.train_y, data.val_y, data.test_y])
    counts = np.bincount(labels, minlength=data.classes)
    order = np.argsort(-counts, kind="stable")
    sizes = {data.class_names[k]: int(counts[k]) for k in order}
    duplicates = conflicts = None
    if not isinstance(data.train_x, ImageFiles):
        arrays = (data.train_x, data.val_x, data.test_x)
        rows = (hashlib.blake2b(x.tobytes(), digest_size=16).digest() for a in arrays for x in a)
        duplicates, conflicts = _duplicates(rows, labels.tolist())
    elif len(labels) <= _HASHED_FILES:
        arrays = (data.train_x, data.val_x, data.test_x)
        files = [images.folder / os.fsdecode(p) for images in arrays for p in images.paths]
        duplicates, conflicts = _duplicates(_file_keys(files), labels.tolist())
    is_folder = name.endswith("/")
    input_kind: InputKind = "table"
    if len(info.input_shape) == 3:
        input_kind = "image folder" if is_folder else "images"
    elif name in dataset_names() and info.input_shape == (2048,):
        input_kind = "text"
    if root is not None:
        options = {**options, "root": root}
    return Survey(name, options, info, input_kind, sizes, None, duplicates, conflicts)


def _file_keys(files: Sequence[Path]) -> list[Any]:
    """Equal for files with equal bytes; a file whose size no other one has is not read."""
    sizes = [path.stat().st_size for path in files]
    common = {size for size, n in Counter(sizes).items() if n > 1}
    return [
        hashlib.blake2b(path.read_bytes(), digest_size=16).digest() if size in common else (size,)
        for path, size in zip(files, sizes, strict=True)
    ]


def _duplicates(inputs: Iterable[Any], labels: Sequence[Any]) -> tuple[int, int]:
    """Examples whose input occurs more than once, and those of them with different labels."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for key, label in zip(inputs, labels, strict=True):
        found[key].append(label)
    groups = [group for group in found.values() if len(group) > 1]
    return sum(map(len, groups)), sum(len(group) for group in groups if len(set(group)) > 1)


def _verified(table: Table, label: str, clean_label: str | None) -> tuple[int, float | None]:
    """Rows of known correct label, and the share of them with another label in the file."""
    if clean_label is None:
        return 0, None
    pairs = [
        (str(given), str(clean).removesuffix(".0"))
        for given, clean in zip(table.column(label), table.column(clean_label), strict=True)
        if not is_empty(clean)
    ]
    if not pairs:
        raise BadInputError(f"{table.path}: column {clean_label!r} holds no label")
    return len(pairs), sum(a != b for a, b in pairs) / len(pairs)


def _refuse_tiny_classes(path: Path, sizes: dict[str, int]) -> None:
    tiny = [f"{name!r} ({n})" for name, n in sizes.items() if n < LEAST_EXAMPLES]
    if tiny:
        more = f" and {len(tiny) - 5} more" if len(tiny) > 5 else ""
        raise BadInputError(
            f"{path}: classes with fewer than {LEAST_EXAMPLES} examples: "
            f"{', '.join(tiny[:5])}{more}; merge them with others, or remove their rows"
        )
    if len(sizes) < 2:
        raise BadInputError(f"{path}: the label has one value only; two classes are the least")
