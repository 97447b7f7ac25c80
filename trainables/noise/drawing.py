"""Drawing noisy labels from a transition matrix: independently, or in exact numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainables.noise.base import Labels, Matrix, NoiseError

DRAWS = ("iid", "exact")


def check_draw(draw: str) -> None:
    """Refuse an unknown way of drawing.

    Args:
        draw: one of `DRAWS`.

    Raises:
        NoiseError: `draw` is not one of them.
    """
    if draw not in DRAWS:
        raise NoiseError(f"noise draw = {draw!r}; allowed: {', '.join(DRAWS)}")


def draw_labels(clean: Labels, matrix: Matrix, rng: np.random.Generator, draw: str) -> Labels:
    """Noisy labels of clean ones.

    Two uniform numbers per label decide whether it flips and to which class. With one seed the
    flips of a lower rate are therefore a subset of those of a higher rate.

    Args:
        clean: int64 [N].
        matrix: [C, C], rows sum to 1.
        rng: the random generator; only uniform doubles are drawn from it.
        draw: `iid`: each label flips independently. `exact`: of the n examples of class i,
            round(n · (1 − T[i, i])) flip; each target class receives its expected number, rounded
            up or down without bias.

    Returns:
        int64 [N].
    """
    flip_draws, target_draws = rng.random(len(clean)), rng.random(len(clean))
    starts = rng.random(len(matrix)) if draw == "exact" else None
    noisy = clean.copy()
    flipping = 1 - np.diag(matrix)
    # One sort instead of a mask per class: fast with a thousand classes.
    groups = np.split(np.argsort(clean, kind="stable"), np.cumsum(np.bincount(clean))[:-1])
    for label, rows in enumerate(groups):
        others = matrix[label].copy()
        others[label] = 0
        if starts is None:
            flips = rows[flip_draws[rows] < flipping[label]]
            if flips.size:
                steps = np.cumsum(others)
                # `right`: a class of probability 0 adds no step and is never reached.
                noisy[flips] = np.searchsorted(steps / steps[-1], target_draws[flips], side="right")
        else:
            count = int(np.floor(len(rows) * flipping[label] + 0.5))
            if count:
                flips = rows[np.argsort(flip_draws[rows], kind="stable")[:count]]
                flips = flips[np.argsort(target_draws[flips], kind="stable")]
                shares = _systematic_sample(others / others.sum() * count, starts[label])
                noisy[flips] = np.repeat(np.arange(len(matrix)), shares)
    return noisy


def _systematic_sample(expected: NDArray[np.float64], start: float) -> NDArray[np.int64]:
    """Whole numbers near their expectations, with the same sum.

    Systematic sampling: equidistant marks, one per unit, the first at `start`, are placed on the
    cumulative sum. With `start` uniform in [0, 1) every number is unbiased.

    Args:
        expected: [C], from 0; the sum is a whole number.
        start: position of the first mark, in [0, 1).

    Returns:
        int64 [C], each entry its expectation rounded up or down.
    """
    total = round(expected.sum())
    ends = np.cumsum(expected)
    ends *= total / ends[-1]
    counts = np.diff(np.clip(np.ceil(ends - start), 0, total), prepend=0)
    return counts.astype(np.int64)
