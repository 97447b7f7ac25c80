"""Decoded arrays on disk, mapped into every process that uses them.

A data set is decoded once a machine, under a lock, into plain `.npy` files; workers map those, so
the machine's page cache holds one copy however many workers there are. An entry's name follows
from the source files (path, size, time of change) and the settings, so a changed source is a new
entry. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets.base import Array, Dataset, DatasetError

_FORMAT = 1  # raise when the content of an entry would come out differently
_ARRAYS = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y", "train_rows", "val_rows")
_CHUNK = 1024  # rows written at once


def folder() -> Path:
    """Where entries are kept: LOGIT_BIAS_CACHE, or `logit-bias` in the user's cache folder."""
    own = os.environ.get("LOGIT_BIAS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logit-bias"


def lock(name: str) -> AbstractContextManager[Any]:
    """What one process of this machine does at a time."""
    from filelock import FileLock

    folder().mkdir(parents=True, exist_ok=True)
    return FileLock(folder() / f"{name}.lock")


def load_or_build(
    name: str, settings: Mapping[str, Any], files: Sequence[Path], build: Callable[[], Dataset]
) -> Dataset:
    """The data set that `build` makes of `files`, built once a machine and mapped from then on.

    Raises
    ------
    DatasetError: the folder cannot be written, or an entry is damaged.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = json.dumps([_FORMAT, name, settings, stats], sort_keys=True)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")
    entry = folder() / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not entry.exists():
        try:
            with lock(entry.name):
                if not entry.exists():
                    _write(_built(name, build), entry)
        except OSError as error:
            raise DatasetError(
                f"cannot keep data set {name!r} in {folder()}: {error.strerror or error}; "
                "set LOGIT_BIAS_CACHE to a folder with room"
            ) from error
    return _open(entry)


def _built(name: str, build: Callable[[], Dataset]) -> Dataset:
    try:
        return build()
    except OSError as error:
        said = f"{error.filename or ''} {error.strerror or error}".strip()
        raise DatasetError(f"data set {name!r} cannot be read: {said}") from error


def _write(data: Dataset, entry: Path) -> None:
    beside = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}")
    beside.mkdir()
    try:
        for name in _ARRAYS:
            array = getattr(data, name)
            if array is not None:
                _save(beside / f"{name}.npy", array)
        meta = {
            "name": data.name,
            "class_names": data.class_names,
            "licence": data.licence,
            "mean": [list(data.mean.shape), data.mean.ravel().tolist()],
            "std": [list(data.std.shape), data.std.ravel().tolist()],
        }
        (beside / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        beside.rename(entry)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _save(path: Path, array: Array) -> None:
    """Like `numpy.save`, but with ordinary writes: a full disk is an OSError, not a signal."""
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), _CHUNK):
            file.write(np.ascontiguousarray(array[start : start + _CHUNK]).tobytes())


def _open(entry: Path) -> Dataset:
    """Inputs are mapped copy-on-write: shared while nobody writes, and the file never changes."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(path, mmap_mode="c" if name.endswith("_x") else None)
            for name in _ARRAYS
            if (path := entry / f"{name}.npy").exists()
        }
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{entry} is damaged ({error}): delete it and run again") from error
    constants = {
        name: np.array(meta[name][1], np.float32).reshape(meta[name][0]) for name in ("mean", "std")
    }
    return Dataset(
        name=meta["name"],
        class_names=tuple(meta["class_names"]),
        licence=meta["licence"],
        **arrays,
        **constants,
    )
