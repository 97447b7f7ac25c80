"""Data sets: by name, from a user's file, or from a user's folder of images.

Each named data set is defined in a file of `trainables.datasets.named` and registers itself there.
Importing this package is cheap: a data set imports scikit-learn or torchvision when it is loaded.
"""

from trainables.datasets.base import Dataset as Dataset
from trainables.datasets.base import DatasetError as DatasetError
from trainables.datasets.base import DatasetInfo as DatasetInfo
from trainables.datasets.base import DatasetWarning as DatasetWarning
from trainables.datasets.base import UnknownDatasetError as UnknownDatasetError
from trainables.datasets.catalogue import Overview as Overview
from trainables.datasets.catalogue import clear_loaded as clear_loaded
from trainables.datasets.catalogue import info as info
from trainables.datasets.catalogue import load as load
from trainables.datasets.catalogue import overview as overview
from trainables.datasets.registry import DatasetSource as DatasetSource
from trainables.datasets.registry import get as get
from trainables.datasets.registry import names as names
from trainables.datasets.registry import register as register
from trainables.datasets.registry import registered as registered

__all__ = [
    "Dataset",
    "DatasetError",
    "DatasetInfo",
    "DatasetSource",
    "DatasetWarning",
    "Overview",
    "UnknownDatasetError",
    "clear_loaded",
    "get",
    "info",
    "load",
    "names",
    "overview",
    "register",
    "registered",
]
