"""Text and tables by name: CLINC150, BANKING77, letter recognition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
from trainables.datasets.base import Dataset, DatasetError, DatasetInfo
from trainables.datasets.splits import Selection, check_options, selection


@dataclass(frozen=True)
class _Named:
    """A data set in a folder below the root, as its makers publish it."""

    files: tuple[str, ...]
    source: str
    train: tuple[int, ...]  # examples of each class
    test: tuple[int, ...]
    licence: str
    description: str
    val: tuple[int, ...] | None = None
    columns: int | None = None  # features of a table; None for text


_NAMED = {
    "clinc150": _Named(
        ("clinc150/data_full.json",),
        "github.com/clinc/oos-eval",
        (100,) * 150,
        (30,) * 150,
        "CC BY 3.0",
        "short queries, 150 intents of ten domains (Larson et al.)",
        val=(20,) * 150,
    ),
    "banking77": _Named(
        ("banking77/train.csv", "banking77/test.csv"),
        "github.com/PolyAI-LDN/task-specific-datasets",
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
    "letter-recognition": _Named(
        ("letter-recognition/letter-recognition.data",),
        "archive.ics.uci.edu/dataset/59",
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
}

NAMES = tuple(_NAMED)


def info(
    name: str, classes: int | None = None, root: Path | None = None, **options: Any
) -> DatasetInfo:
    """Sizes of a data set, without reading it."""
    known = _NAMED[name]
    chosen, _, features = _selection(name, classes, options)
    train = np.array(known.train[: chosen.classes])
    val = np.array(known.val[: chosen.classes]) if known.val else chosen.held_out(train)
    return DatasetInfo(
        name,
        chosen.classes,
        (features,),
        int(chosen.kept(train if known.val else train - val).sum()),
        int(chosen.kept(val).sum()),
        sum(known.test[: chosen.classes]),
        known.licence,
        known.description,
    )


def load(name: str, classes: int | None, root: Path | None, **options: Any) -> Dataset:
    """Load a data set; see `trainables.datasets.load`."""
    known = _NAMED[name]
    chosen, vectoriser, features = _selection(name, classes, options)
    paths = files(name, root)
    missing = [path for path in paths if not path.is_file()]
    if root is None or missing:
        what = ", ".join(path.name for path in missing or paths)
        where = missing[0].parent if root else "a folder that root or LOGIT_BIAS_DATA names"
        raise DatasetError(
            f"data set {name!r} is missing: put {what} from {known.source} in {where}"
        )

    def build() -> Dataset:
        parts, names = _READERS[name](paths)
        expected = (known.train, known.val, known.test)
        for part, counts, which in zip(
            parts, expected, ("training", "validation", "test"), strict=True
        ):
            if part and tuple(np.bincount(part.y, minlength=len(names))) != counts:
                raise DatasetError(f"{paths[0].parent}: the {which} set is not that of {name!r}")
        return assemble(name, *parts, names, known.licence, chosen, (vectoriser, features))

    settings = {**vars(chosen), "vectoriser": vectoriser, "features": features}
    return cache.load_or_build(name, settings, paths, build)


def files(name: str, root: Path | None) -> list[Path]:
    """The files of a named data set below a root folder, there or not."""
    return [(root or Path()) / file for file in _NAMED[name].files]


def _selection(
    name: str, classes: int | None, options: dict[str, Any]
) -> tuple[Selection, str, int]:
    known = _NAMED[name]
    chosen = selection(name, classes, len(known.train), options, own_val=known.val is not None)
    splits = SPLIT_OPTIONS[1:] if known.val else SPLIT_OPTIONS
    if known.columns:
        check_options(name, options, splits)
        return chosen, "", known.columns
    vectoriser, features = text_options(name, options)
    check_options(name, options, (*splits, *TEXT_OPTIONS))
    return chosen, vectoriser, features


_Parts = tuple[tuple[Part, Part | None, Part], tuple[str, ...]]


def _read_clinc150(paths: Sequence[Path]) -> _Parts:
    try:
        content = json.loads(paths[0].read_text(encoding="utf-8"))
        pairs = {key: list(zip(*content[key], strict=True)) for key in ("train", "val", "test")}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{paths[0]} is damaged: {error}") from error
    names = tuple(sorted(set(pairs["train"][1])))
    position = {name: k for k, name in enumerate(names)}
    train, val, test = (
        Part(list(texts), np.array([position.get(label, -1) for label in labels]))
        for texts, labels in pairs.values()
    )
    return (train, val, test), names


def _read_banking77(paths: Sequence[Path]) -> _Parts:
    train, test = (table_files.read(path) for path in paths)
    names = table_files.class_names(train, "category")
    parts = [
        Part(table.column("text"), table_files.encode_labels(table, "category", names))
        for table in (train, test)
    ]
    return (parts[0], None, parts[1]), names


def _read_letters(paths: Sequence[Path]) -> _Parts:
    rows = [line.split(",") for line in paths[0].read_text(encoding="ascii").split()]
    for number, row in enumerate(rows, 1):
        whole = len(row) == 17 and "A" <= row[0] <= "Z" and all(v.isdecimal() for v in row[1:])
        if not whole:
            raise DatasetError(f"{paths[0]}, line {number}: not a letter and 16 whole numbers")
    x = np.array([row[1:] for row in rows], dtype=np.float32)
    y = np.array([ord(row[0]) - ord("A") for row in rows], dtype=np.int64)
    names = tuple(map(chr, range(ord("A"), ord("Z") + 1)))
    return (Part(x[:16000], y[:16000]), None, Part(x[16000:], y[16000:])), names


_READERS = {
    "clinc150": _read_clinc150,
    "banking77": _read_banking77,
    "letter-recognition": _read_letters,
}
