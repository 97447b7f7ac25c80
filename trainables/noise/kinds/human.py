"""Labels from human annotators: CIFAR-10N and CIFAR-100N.

Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations",
ICLR 2022; CC BY-NC 4.0. Read from the authors' `CIFAR-10_human.pt` and `CIFAR-100_human.pt`, or
from the same arrays in `cifar-n/cifar10n.npz` and `cifar-n/cifar100n.npz`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import Dataset, DatasetInfo
from trainables.noise.base import Labels, NoiseError, NoisyLabels, NoisySplits, describe
from trainables.noise.registry import NoiseKind, Options, register

_CLASSES = {"cifar10": 10, "cifar100": 100}
_FILES = {
    "cifar10": ("CIFAR-10_human.pt", "cifar-n/cifar10n.npz"),
    "cifar100": ("CIFAR-100_human.pt", "cifar-n/cifar100n.npz"),
}


@dataclass(frozen=True)
class HumanNoise(NoiseKind):
    """Labels that people gave to the training images of CIFAR-10 or CIFAR-100.

    Attributes:
        name: the name in study files.
        description: one line.
        dataset: the data set that was annotated.
        array: name of the labels in the authors' file.
    """

    name: str
    description: str
    dataset: str
    array: str
    has_own_rate = True

    def check(self, dataset: DatasetInfo, rate: float | None, options: Options) -> None:
        """Refuse another data set; see `NoiseKind.check`. Does not look for label files."""
        self.check_options(options, ())
        self._check_dataset(dataset.name, dataset.classes)

    def corrupt(
        self, labels: NDArray[Any], classes: int, rate: float | None, seed: int, options: Options
    ) -> NoisyLabels:
        """Refuse: the labels belong to images; see `NoiseKind.corrupt`."""
        raise NoiseError(f"noise kind {self.name!r} needs a data set: use `apply`")

    def apply(
        self, dataset: Dataset, rate: float | None, seed: int, root: str | None, options: Options
    ) -> NoisySplits:
        """The labels of each split's images; see `NoiseKind.apply`. Nothing is random."""
        self.check_options(options, ())
        self._check_dataset(dataset.name, dataset.classes)
        root = root or os.environ.get("LOGIT_BIAS_DATA")
        clean, human = self.read(Path(root).expanduser() if root else None)
        noisy = {}
        for split, y, rows in (
            ("train", dataset.train_y, dataset.train_rows),
            ("val", dataset.val_y, dataset.val_rows),
        ):
            if rows is None or not np.array_equal(clean[rows], y):
                raise NoiseError(
                    f"noise kind {self.name!r}: its labels are of other images than {split}'s"
                )
            noisy[split] = describe(y, human[rows], dataset.classes)
        return NoisySplits(**noisy)

    def read(self, root: Path | None) -> tuple[Labels, Labels]:
        """Labels of the whole training set, in the order of its files.

        Args:
            root: folder of the label files.

        Returns:
            clean labels and human labels, int64 [50000] each.

        Raises:
            NoiseError: there is no file below `root`, or it is damaged.
        """
        candidates = [root / file for file in _FILES[self.dataset]] if root else []
        for file in candidates:
            if file.is_file():
                arrays = _read(file)
                missing = {"clean_label", self.array} - set(arrays)
                if missing:
                    raise NoiseError(f"{file} holds no array {missing.pop()!r}")
                clean, human = (
                    np.asarray(arrays[key], np.int64) for key in ("clean_label", self.array)
                )
                return clean, human
        where = (
            " or ".join(map(str, candidates))
            or f"{_FILES[self.dataset][0]} in root or LOGIT_BIAS_DATA"
        )
        raise NoiseError(f"noise kind {self.name!r}: no human labels; put {where}")

    def _check_dataset(self, dataset: str, classes: int) -> None:
        if dataset != self.dataset:
            raise NoiseError(
                f"noise kind {self.name!r} belongs to data set {self.dataset!r}, not {dataset!r}"
            )
        if classes != _CLASSES[self.dataset]:
            raise NoiseError(
                f"noise kind {self.name!r} needs all classes of {self.dataset!r}, not {classes}"
            )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".npz":
            with np.load(file) as arrays:
                return dict(arrays)
        import torch

        # Only NumPy's own types are allowed: any other pickle may run code.
        from numpy._core.multiarray import _reconstruct

        dtypes = [type(np.dtype(kind)) for kind in ("i8", "i4", "u1")]
        with torch.serialization.safe_globals([_reconstruct, np.ndarray, np.dtype, *dtypes]):
            content: dict[str, Any] = torch.load(file, weights_only=True)
        return content
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, UnpicklingError) as error:
        problem = " ".join(str(error).split())[:160]
        raise NoiseError(f"{file} is damaged: {problem}") from error


for _name, _description, _dataset, _array in (
    ("aggregate", "CIFAR-10N, majority of three people (9 % wrong)", "cifar10", "aggre_label"),
    ("random1", "CIFAR-10N, first person (17 % wrong)", "cifar10", "random_label1"),
    ("random2", "CIFAR-10N, second person (18 % wrong)", "cifar10", "random_label2"),
    ("random3", "CIFAR-10N, third person (18 % wrong)", "cifar10", "random_label3"),
    ("worst", "CIFAR-10N, a wrong label of the three, if any (40 % wrong)", "cifar10",
     "worse_label"),
    ("fine", "CIFAR-100N (40 % wrong)", "cifar100", "noisy_label"),
):  # fmt: skip
    register(HumanNoise(f"human-{_name}", _description, _dataset, _array))
