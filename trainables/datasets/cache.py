"""Decoded arrays on disk, mapped into every process that uses them.

A data set is decoded once per machine, under a lock, into plain `.npy` files. Workers map those
files, so the page cache of the machine holds one copy for any number of workers. The name of an
entry follows from the source files (path, size, modification time) and the settings, so a changed
source gets a new entry. The folder may be deleted at any time.
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

_FORMAT = 1  # increase it when the content of an entry changes
_ARRAYS = (
    *("train_x", "train_y", "val_x", "val_y", "test_x", "test_y"),
    *("train_rows", "val_rows", "test_given"),
)
_CHUNK = 1024  # rows per write


def folder() -> Path:
    """The folder of entries: LOGIT_BIAS_CACHE, or `logit-bias` in the user's cache folder."""
    configured = os.environ.get("LOGIT_BIAS_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logit-bias"


def lock(name: str) -> AbstractContextManager[Any]:
    """A lock that only one process of this machine can hold at a time.

    Args:
        name: which lock.

    Returns:
        a context manager.
    """
    from filelock import FileLock

    folder().mkdir(parents=True, exist_ok=True)
    return FileLock(folder() / f"{name}.lock")


def load_or_build(
    name: str, settings: Mapping[str, Any], files: Sequence[Path], build: Callable[[], Dataset]
) -> Dataset:
    """The data set that `build` makes of source files; built once per machine, then mapped.

    Args:
        name: name of the data set.
        settings: everything else that the result depends on; serialisable as JSON.
        files: the source files.
        build: reads the files.

    Returns:
        the data set; its inputs are mapped copy-on-write.

    Raises:
        DatasetError: a source file cannot be read, the cache folder cannot be written, or an entry
            is damaged.
    """
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = json.dumps([_FORMAT, name, settings, stats], sort_keys=True)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")
    entry = folder() / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not entry.exists():
        try:
            with lock(entry.name):
                if not entry.exists():
                    _write(_build(name, build), entry)
        except OSError as error:
            raise DatasetError(
                f"cannot keep data set {name!r} in {folder()}: {error.strerror or error}; "
                "set LOGIT_BIAS_CACHE to a folder with enough space"
            ) from error
    return _open(entry)


def _build(name: str, build: Callable[[], Dataset]) -> Dataset:
    try:
        return build()
    except OSError as error:
        problem = f"{error.filename or ''} {error.strerror or error}".strip()
        raise DatasetError(f"data set {name!r} cannot be read: {problem}") from error


def _write(data: Dataset, entry: Path) -> None:
    """Write an entry under a temporary name, then rename it: an entry is complete or absent."""
    temporary = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        for name in _ARRAYS:
            array = getattr(data, name)
            if array is not None:
                _save(temporary / f"{name}.npy", array)
        meta = {
            "name": data.name,
            "class_names": data.class_names,
            "licence": data.licence,
            "mean": [list(data.mean.shape), data.mean.ravel().tolist()],
            "std": [list(data.std.shape), data.std.ravel().tolist()],
            "notes": data.notes,
            "skipped_files": data.skipped_files,
        }
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
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
    """Map inputs copy-on-write: processes share the pages, and no write reaches the file."""
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
        notes=tuple(meta.get("notes", ())),  # entries of older versions have none
        skipped_files=meta.get("skipped_files", 0),
        **arrays,
        **constants,
    )
