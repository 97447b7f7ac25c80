"""Data sets by name.

Importing this package is cheap: scikit-learn and torchvision are imported by what needs them.
"""

from __future__ import annotations

import functools

from trainables.datasets import digits
from trainables.datasets.base import Dataset, DatasetError, DatasetInfo, UnknownDatasetError

__all__ = ["Dataset", "DatasetError", "DatasetInfo", "UnknownDatasetError", "info", "load", "names"]


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return digits.NAMES


def info(name: str, *, classes: int | None = None) -> DatasetInfo:
    """Classes, input shape and sizes of a data set, without reading any image.

    Parameters
    ----------
    name, classes
        as in `load`.

    Raises
    ------
    UnknownDatasetError: no data set of that name.
    DatasetError: `classes` out of range.
    """
    if name not in names():
        raise UnknownDatasetError(name, names())
    return digits.info(name, classes)


def load(name: str, *, classes: int | None = None, root: str | None = None) -> Dataset:
    """Load a data set; each is loaded once in a process and then shared.

    Parameters
    ----------
    name
        one of `names()`.
    classes
        keep the classes 0 … classes − 1 only; all where None.
    root
        folder that holds downloaded data sets; the environment variable LOGIT_BIAS_DATA where
        None. Data sets that come with a package need neither.

    Raises
    ------
    UnknownDatasetError: no data set of that name.
    DatasetError: `classes` out of range.
    """
    return _load(name, info(name, classes=classes).classes)


@functools.lru_cache(maxsize=8)
def _load(name: str, classes: int) -> Dataset:
    return digits.load(name, classes)
