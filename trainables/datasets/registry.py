"""What a source of a data set is, and the table of all named data sets."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from trainables.datasets import named
from trainables.datasets.base import Dataset, DatasetInfo, UnknownDatasetError

Availability = Literal["bundled", "found", "missing", "no root"]


class DatasetSource(ABC):
    """Where one data set comes from and how it is read.

    Attributes:
        name: the name for `load`.
        is_fixed: the content cannot change while a process lives, so that a process loads it once.
    """

    name: str
    is_fixed: bool = True

    @abstractmethod
    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """Classes, input shape and sizes; see `trainables.datasets.info`.

        Args:
            classes: keep the first classes only; all where None.
            root: folder of downloaded data sets.
            **options: of the source.

        Returns:
            the same as of the loaded data set.

        Raises:
            DatasetError: `classes` or an option is not allowed.
        """

    @abstractmethod
    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """Read the data set; see `trainables.datasets.load`.

        Args:
            classes: keep the first classes only; all where None.
            root: folder of downloaded data sets.
            **options: of the source.

        Returns:
            the data set.

        Raises:
            DatasetError: `classes` or an option is not allowed, or a file is missing or damaged.
        """

    def files(self, root: Path) -> list[Path]:
        """The files that the source reads below a root folder, whether or not they exist."""
        return []

    def availability(self, root: Path | None) -> Availability:
        """Whether the data set can be read.

        Args:
            root: folder of downloaded data sets.

        Returns:
            `bundled` (needs no files), `found`, `missing`, or `no root` to look in.
        """
        if not self.files(Path()):
            return "bundled"
        if root is None:
            return "no root"
        return "found" if all(file.is_file() for file in self.files(root)) else "missing"


_SOURCES: dict[str, DatasetSource] = {}


def register(source: DatasetSource) -> DatasetSource:
    """Add a data set to the table, so that `get` and study files find it by name.

    Each process has its own table: register a data set in a module of `trainables.datasets.named`,
    which every worker imports.

    Args:
        source: the new data set.

    Returns:
        `source`.

    Raises:
        ValueError: the name is taken.
    """
    if source.name in _SOURCES:
        raise ValueError(f"data set {source.name}: the name is taken")
    _SOURCES[source.name] = source
    return source


@contextmanager
def registered(source: DatasetSource) -> Iterator[DatasetSource]:
    """Like `register`, for the duration of a `with` block."""
    register(source)
    try:
        yield source
    finally:
        del _SOURCES[source.name]


def get(name: str) -> DatasetSource:
    """The source of a named data set.

    Args:
        name: one of `names()`.

    Returns:
        the registered source.

    Raises:
        UnknownDatasetError: no data set has that name.
    """
    _import_named()
    if name not in _SOURCES:
        raise UnknownDatasetError(name, names())
    return _SOURCES[name]


def names() -> tuple[str, ...]:
    """Names of all named data sets, in the order of registration."""
    _import_named()
    return tuple(_SOURCES)


@functools.cache
def _import_named() -> None:
    """Import every module of `trainables.datasets.named`, which registers its data sets."""
    for module in pkgutil.iter_modules(named.__path__):
        importlib.import_module(f"{named.__name__}.{module.name}")
