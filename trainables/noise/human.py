"""Labels that people gave: CIFAR-10N and CIFAR-100N.

Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations",
ICLR 2022; CC BY-NC 4.0. Read from the authors' `CIFAR-10_human.pt` and `CIFAR-100_human.pt`, or
from the same arrays in `cifar-n/cifar10n.npz` and `cifar-n/cifar100n.npz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trainables.noise.base import Labels, NoiseError

_ARRAYS = {  # kind: (data set, array)
    "human-aggregate": ("cifar10", "aggre_label"),
    "human-random1": ("cifar10", "random_label1"),
    "human-random2": ("cifar10", "random_label2"),
    "human-random3": ("cifar10", "random_label3"),
    "human-worst": ("cifar10", "worse_label"),
    "human-fine": ("cifar100", "noisy_label"),
}
_FILES = {
    "cifar10": ("CIFAR-10_human.pt", "cifar-n/cifar10n.npz"),
    "cifar100": ("CIFAR-100_human.pt", "cifar-n/cifar100n.npz"),
}
KINDS = tuple(_ARRAYS)


def check(kind: str, dataset: str, classes: int) -> None:
    """Refuse a data set that people did not see, or saw with more classes.

    Raises
    ------
    NoiseError: saying which it has to be.
    """
    owner, _ = _ARRAYS[kind]
    if dataset != owner:
        raise NoiseError(f"noise kind {kind!r} belongs to data set {owner!r}, not {dataset!r}")
    if classes != {"cifar10": 10, "cifar100": 100}[owner]:
        raise NoiseError(f"noise kind {kind!r} needs all classes of {owner!r}, not {classes}")


def labels(kind: str, dataset: str, classes: int, root: Path | None) -> tuple[Labels, Labels]:
    """Clean and human labels of a whole training set [50000], in the order of its files.

    Raises
    ------
    NoiseError: another data set or fewer classes than people saw, or no file in `root`.
    """
    check(kind, dataset, classes)
    owner, array = _ARRAYS[kind]
    tried = [root / file for file in _FILES[owner]] if root else []
    for file in tried:
        if file.is_file():
            found = _read(file)
            missing = {"clean_label", array} - set(found)
            if missing:
                raise NoiseError(f"{file} holds no array {missing.pop()!r}")
            clean, given = (np.asarray(found[k], np.int64) for k in ("clean_label", array))
            return clean, given
    where = " or ".join(map(str, tried)) or f"{_FILES[owner][0]} in root or LOGIT_BIAS_DATA"
    raise NoiseError(f"noise kind {kind!r}: no human labels; put {where}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".npz":
            with np.load(file) as arrays:
                return dict(arrays)
        import torch

        # NumPy's own pieces only: a pickle may otherwise run anything.
        from numpy._core.multiarray import _reconstruct

        dtypes = [type(np.dtype(kind)) for kind in ("i8", "i4", "u1")]
        with torch.serialization.safe_globals([_reconstruct, np.ndarray, np.dtype, *dtypes]):
            found: dict[str, Any] = torch.load(file, weights_only=True)
        return found
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, UnpicklingError) as error:
        said = " ".join(str(error).split())[:160]
        raise NoiseError(f"{file} is damaged: {said}") from error
