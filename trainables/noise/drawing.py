"""Drawing noisy labels from a transition matrix: each by itself, or in exact numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.noise.base import Labels, Matrix

DRAWS = ("iid", "exact")


def draw(clean: Labels, matrix: Matrix, rng: np.random.Generator, how: str) -> Labels:
    """Noisy labels [N] of clean ones.

    Two numbers a label: one decides whether it flips, the other where to. So with one seed the
    flips of a lower rate are a subset of those of a higher one.

    Parameters
    ----------
    clean
        int64 [N].
    matrix
        [C, C], rows sum to 1.
    rng
        uniform doubles are all that is taken from it.
    how
        `iid`: each label flips by itself. `exact`: of the n examples of class i,
        round(n · (1 − T[i, i])) flip, and every target class gets its share of them rounded up or
        down, without bias.
    """
    decides, where = rng.random(len(clean)), rng.random(len(clean))
    starts = rng.random(len(matrix)) if how == "exact" else None
    noisy = clean.copy()
    flipping = 1 - np.diag(matrix)
    # Grouping once is what keeps a thousand classes fast.
    groups = np.split(np.argsort(clean, kind="stable"), np.cumsum(np.bincount(clean))[:-1])
    for label, rows in enumerate(groups):
        others = matrix[label].copy()
        others[label] = 0
        if starts is None:
            flips = rows[decides[rows] < flipping[label]]
            if flips.size:
                steps = np.cumsum(others)
                # `right`: a class of probability 0 adds no step and is never reached.
                noisy[flips] = np.searchsorted(steps / steps[-1], where[flips], side="right")
        else:
            count = int(np.floor(len(rows) * flipping[label] + 0.5))
            if count:
                flips = rows[np.argsort(decides[rows], kind="stable")[:count]]
                flips = flips[np.argsort(where[flips], kind="stable")]
                shares = _whole(others / others.sum() * count, starts[label])
                noisy[flips] = np.repeat(np.arange(len(matrix)), shares)
    return noisy


def _whole(expected: NDArray[np.float64], start: float) -> NDArray[Any]:
    """Whole numbers that sum to `expected`'s (whole) sum, each its expectation up or down.

    Systematic sampling: as many marks as there are units, one apart, the first at `start`, are laid
    on the cumulative sum; with `start` uniform in [0, 1) every expectation is met.
    """
    total = round(expected.sum())
    ends = np.cumsum(expected)
    ends *= total / ends[-1]
    return np.diff(np.clip(np.ceil(ends - start), 0, total), prepend=0).astype(np.int64)
