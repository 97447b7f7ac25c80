"""Data sets by name.

Importing this package is cheap: scikit-learn and torchvision are imported by what needs them.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from trainables.datasets import digits, folders, images, tabular, user_file
from trainables.datasets.base import Dataset, DatasetError, DatasetInfo, UnknownDatasetError

__all__ = [
    "Dataset",
    "DatasetError",
    "DatasetInfo",
    "Overview",
    "UnknownDatasetError",
    "info",
    "load",
    "names",
    "overview",
]

_MODULES: dict[str, ModuleType] = {
    name: module for module in (digits, images, tabular) for name in module.NAMES
}


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return tuple(_MODULES)


class Overview(NamedTuple):
    """A data set, and where it is: `bundled`, `found`, `missing`, or `no root` to look in."""

    info: DatasetInfo
    where: str


def overview(root: str | None = None) -> list[Overview]:
    """All named data sets; nothing is read but the folder below `root` (or LOGIT_BIAS_DATA)."""
    folder = _folder(root)
    rows = []
    for name, module in _MODULES.items():
        if module is digits:
            where = "bundled"
        elif folder is None:
            where = "no root"
        else:
            there = all(file.is_file() for file in module.files(name, folder))
            where = "found" if there else "missing"
        rows.append(Overview(info(name), where))
    return rows


def info(
    name: str, *, classes: int | None = None, root: str | None = None, **options: Any
) -> DatasetInfo:
    """Classes, input shape and sizes of a data set, without reading any image.

    Only a file or folder of one's own has to be read, once a machine.

    Parameters
    ----------
    name, classes, root, **options
        as in `load`.

    Raises
    ------
    UnknownDatasetError: no data set of that name.
    DatasetError: `classes` or an option out of range.
    """
    found: DatasetInfo = _module(name).info(name, classes, _folder(root), **options)
    return found


def load(
    name: str, *, classes: int | None = None, root: str | None = None, **options: Any
) -> Dataset:
    """Load a data set; a named one is loaded once in a process and then shared.

    Parameters
    ----------
    name
        one of `names()`; the path of a file of one's own, see `trainables.datasets.user_file`; or that
        of a folder of images, with a slash at its end, see `trainables.datasets.folders`.
    classes
        keep the classes 0 … classes − 1 only; all where None.
    root
        folder that holds downloaded data sets; the environment variable LOGIT_BIAS_DATA where
        None. Data sets that come with a package need neither.
    **options
        `val_fraction` (where the source has no validation set of its own), `imbalance` with
        `imbalance_factor`: see `trainables.datasets.splits.Selection`. Of text: `vectoriser`,
        `features`: see `trainables.datasets.text`. Of a file of one's own: `label` and `text`,
        names of columns, and `test`, the path of another file, or `test_fraction`. Of a folder:
        `size`, pixels of an edge, and `test_fraction`.

    Raises
    ------
    UnknownDatasetError: no data set of that name.
    DatasetError: `classes` or an option out of range; files that are missing or damaged.
    """
    for option, value in options.items():
        if not isinstance(value, str | int | float):
            raise DatasetError(f"data set {name!r}: {option} = {value!r} is no word and no number")
    module = _module(name)
    if module in (
        user_file,
        folders,
    ):  # may change while a process lives; mapping it again is cheap
        own_data: Dataset = module.load(name, classes, _folder(root), **options)
        return own_data
    kept = info(name, classes=classes, root=root, **options).classes
    return _load(name, kept, _folder(root), **options)


@functools.lru_cache(maxsize=8)
def _load(name: str, classes: int, root: Path | None, **options: Any) -> Dataset:
    loaded: Dataset = _module(name).load(name, classes, root, **options)
    return loaded


def _module(name: str) -> ModuleType:
    if name in _MODULES:
        return _MODULES[name]
    if user_file.is_own(name):
        return user_file
    if folders.is_folder(name):
        return folders
    others = f"the path of a file ({', '.join(user_file.SUFFIXES)}) or of a folder of images (…/)"
    raise UnknownDatasetError(name, (*names(), others))


def _folder(root: str | None) -> Path | None:
    given = root or os.environ.get("LOGIT_BIAS_DATA")
    return Path(given).expanduser() if given else None
