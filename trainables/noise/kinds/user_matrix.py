"""Noise by a user-defined transition matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.noise.base import Matrix, NoiseError
from trainables.noise.matrix_kind import MatrixKind
from trainables.noise.registry import register


def user_matrix(classes: int, rate: None, matrix: str | Path | Matrix | None = None) -> Matrix:
    """A user-defined transition matrix, checked.

    Args:
        classes: number of classes C.
        rate: None; the matrix determines the rate.
        matrix: the matrix [C, C], or a file that holds it: `.npy`, or `.csv` of numbers without a
            header. Required.

    Returns:
        the transition matrix, float64 [C, C].

    Raises:
        NoiseError: no matrix is given, a file cannot be read, or a row is not a distribution over
            the classes; the message names the file and the row.
    """
    if matrix is None:
        raise NoiseError("noise kind 'matrix': give matrix, a file or an array")
    if isinstance(matrix, str | Path):
        name = f"{matrix}"
        transition = _read(Path(matrix))
    else:
        name = "transition matrix"
        try:
            transition = np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError):
            raise NoiseError(f"{name}: {classes} rows of {classes} numbers are needed") from None
    if transition.shape != (classes, classes):
        raise NoiseError(
            f"{name} has shape {transition.shape}; {classes} classes need {classes} squared"
        )
    sums = transition.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sums - 1) < 1e-6) | (transition < 0).any(axis=1))
    if bad.size:
        raise NoiseError(
            f"{name}, row {bad[0]}: sum {sums[bad[0]]:g}, smallest {transition[bad[0]].min():g}; "
            "a row holds probabilities that sum to 1"
        )
    return transition


def _read(path: Path) -> Matrix:
    try:
        numbers = (
            np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
        )
        return np.asarray(numbers, dtype=np.float64)
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise NoiseError(f"{path}: not a readable transition matrix: {problem}") from error


register(
    MatrixKind(
        "matrix",
        "a user-defined transition matrix, from a file (.npy, .csv) or an array",
        user_matrix,
        has_own_rate=True,
    )
)
