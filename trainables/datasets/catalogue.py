"""Looking up and loading data sets from all sources."""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from trainables.datasets import image_folders, user_file
from trainables.datasets.base import (
    Dataset,
    DatasetError,
    DatasetInfo,
    DatasetWarning,
    UnknownDatasetError,
)
from trainables.datasets.registry import Availability, DatasetSource, get, names


class Overview(NamedTuple):
    """A named data set and its availability.

    Attributes:
        info: name, classes, shape, sizes and licence.
        availability: `bundled`, `found`, `missing`, or `no root` to look in.
    """

    info: DatasetInfo
    availability: Availability


def overview(root: str | None = None) -> list[Overview]:
    """All named data sets; checks whether their files exist and reads none.

    Args:
        root: folder of downloaded data sets; the environment variable LOGIT_BIAS_DATA where None.

    Returns:
        one entry per data set.
    """
    folder = _root_folder(root)
    return [Overview(info(name), get(name).availability(folder)) for name in names()]


def info(
    name: str, *, classes: int | None = None, root: str | None = None, **options: Any
) -> DatasetInfo:
    """Classes, input shape and sizes of a data set, without reading its examples.

    Only a user's file or folder has to be read, once per machine.

    Args:
        name: as in `load`.
        classes: as in `load`.
        root: as in `load`.
        **options: as in `load`.

    Returns:
        the info.

    Raises:
        UnknownDatasetError: no data set of that name.
        DatasetError: `classes` or an option is not allowed.
    """
    return _source(name).info(classes, _root_folder(root), **options)


def load(
    name: str, *, classes: int | None = None, root: str | None = None, **options: Any
) -> Dataset:
    """Load a data set; a process loads a named one once and shares it.

    The notes of a user's file or folder (what was left out, how it was read) are also warnings.

    Args:
        name: one of `names()`; the path of a user's file, see `trainables.datasets.user_file`; or
            the path of a folder of images with a slash at its end, see
            `trainables.datasets.image_folders`.
        classes: keep the classes 0 … classes − 1 only; all where None.
        root: folder of downloaded data sets; the environment variable LOGIT_BIAS_DATA where None.
            Bundled data sets need neither.
        **options: `val_fraction` (where the source has no validation set), `imbalance` and
            `imbalance_factor`: see `trainables.datasets.splits.Selection`. For text: `vectoriser`
            and `features`, see `trainables.datasets.text`. For a user's file: `label` and `text`,
            names of columns, `test`, the path of another file, or `test_fraction`, and more, see
            `trainables.datasets.user_file`. For a folder: `size`, pixels per edge,
            `test_fraction`, and more, see `trainables.datasets.image_folders.ImageFolder`.

    Returns:
        the data set; its arrays are shared and must not be written to.

    Raises:
        UnknownDatasetError: no data set of that name.
        DatasetError: `classes` or an option is not allowed, or a file is missing or damaged.
    """
    for option, value in options.items():
        if not isinstance(value, str | int | float):
            raise DatasetError(
                f"data set {name!r}: {option} = {value!r}; allowed: a word or a number"
            )
    source = _source(name)
    if not source.is_fixed:
        data = source.load(classes, _root_folder(root), **options)
        for note in data.notes:
            _warn_once(f"{name}: {note}")
        return data
    # All spellings of one selection (`classes=None` and all classes) share one entry.
    kept = info(name, classes=classes, root=root, **options).classes
    return _load_shared(name, kept, _root_folder(root), **options)


def clear_loaded() -> None:
    """Forget the data sets that this process has loaded, and which notes it has shown."""
    _load_shared.cache_clear()
    _warn_once.cache_clear()


@functools.cache
def _warn_once(text: str) -> None:
    # Python's own filter forgets what it has shown whenever a library catches warnings.
    warnings.warn(text, DatasetWarning, stacklevel=3)


@functools.lru_cache(maxsize=8)
def _load_shared(name: str, classes: int, root: Path | None, **options: Any) -> Dataset:
    return _source(name).load(classes, root, **options)


def _source(name: str) -> DatasetSource:
    if name in names():
        return get(name)
    if user_file.is_user_file(name):
        return user_file.UserFile(name)
    if image_folders.is_image_folder(name):
        return image_folders.ImageFolder(name)
    paths = f"the path of a file ({', '.join(user_file.SUFFIXES)}) or of a folder of images (…/)"
    raise UnknownDatasetError(name, (*names(), paths))


def _root_folder(root: str | None) -> Path | None:
    path = root or os.environ.get("LOGIT_BIAS_DATA")
    return Path(path).expanduser() if path else None
