"""A transition matrix as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.noise.base import Matrix

_MOST_NUMBERS = 20  # classes up to which the matrix is printed in numbers
_MOST_BLOCKS = 50  # edge of a shaded picture


def matrix_as_text(matrix: Matrix, class_names: Sequence[str] | None = None) -> str:
    """A transition matrix in text: per cent, or shades where there are more than 20 classes.

    Args:
        matrix: [C, C]; a row may be NaN.
        class_names: one name per class; the class numbers where None.

    Returns:
        several lines without a newline at the end.
    """
    classes = len(matrix)
    if classes > _MOST_NUMBERS:
        cells = min(classes, _MOST_BLOCKS)
        edges = np.arange(cells) * classes // cells
        blocks = np.maximum.reduceat(np.maximum.reduceat(matrix, edges, axis=0), edges, axis=1)
        levels = np.ceil(np.nan_to_num(blocks) * 4).astype(int)
        return "\n".join("".join(" ░▒▓█"[level] * 2 for level in row) for row in levels)
    short = [str(name)[:14] for name in class_names or range(classes)]
    width = max(map(len, short))
    head = " " * width + "".join(f"{label:>6}" for label in range(classes))
    rows = [
        f"{name:>{width}}" + "".join("     ·" if not v else f"{100 * v:6.1f}" for v in row)
        for name, row in zip(short, matrix, strict=True)
    ]
    return "\n".join([head, *rows])
