"""A smoothed surface of accuracy over ε and learning rate, and the points that it chooses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from study.results.evidence import CellEvidence, ChosenPoint, EvidenceRow

EPSILON_STEP = 0.05
"""Largest step between two ε that can be chosen."""
LR_STEPS = 41
"""Number of learning rates that can be chosen, evenly spaced on a logarithmic scale."""


def choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """Choose where the pooled arms of a cell are confirmed.

    Every arm is chosen by one rule from one surface per loss: the point with the highest smoothed
    accuracy, over the learning rate where the arm fixes ε, over both where it does not. Points lie
    on a grid, so that another processor's rounding seldom changes them.

    Args:
        evidence: the networks of the cell's searches (all replicates) and of its sweep.
        arms: {arm: the ε that it fixes; None where ε is to be chosen too}. A fixed ε is returned
            as it is, and may lie outside the searched range.

    Returns:
        {arm: its point}, one for every arm.
    """
    low, high = evidence.epsilon
    epsilons = np.linspace(low, high, int(np.ceil((high - low) / EPSILON_STEP - 1e-9)) + 1)
    lrs = np.geomspace(*evidence.lr, LR_STEPS)
    rows = {loss: [row for row in evidence.rows if row.loss == loss] for loss in evidence.losses}
    chosen = {}
    for arm, fixed in arms.items():
        best, points = -np.inf, []
        for loss, takes_epsilon in evidence.losses.items():
            if not rows[loss]:
                continue
            grid = epsilons if fixed is None else np.array([fixed])
            grid = grid if takes_epsilon else np.zeros(1)
            values = _smoothed(rows[loss], evidence, grid, lrs)
            i, j = np.unravel_index(np.argmax(values), values.shape)
            if values[i, j] > best:
                best = values[i, j]
                points = [ChosenPoint(loss, float(grid[i]), float(lrs[j]))]
        chosen[arm] = points[0]
    return chosen


def _smoothed(
    rows: list[EvidenceRow],
    evidence: CellEvidence,
    epsilons: NDArray[np.float64],
    lrs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A quadratic surface through the rows, on a grid; shape [ε, learning rates]."""

    def terms(epsilon: NDArray[np.float64], lr: NDArray[np.float64]) -> NDArray[np.float64]:
        x = (epsilon - evidence.epsilon[0]) / (evidence.epsilon[1] - evidence.epsilon[0])
        y = np.log(lr / evidence.lr[0]) / np.log(evidence.lr[1] / evidence.lr[0])
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)

    design = terms(np.array([r.epsilon for r in rows]), np.array([r.lr for r in rows]))
    values = np.array([r.accuracy for r in rows])
    ridge = 1e-3 * np.diag([0.0, 1, 1, 1, 1, 1])
    weights = np.linalg.solve(design.T @ design + ridge, design.T @ values)
    grid = np.meshgrid(epsilons, lrs, indexing="ij")
    smoothed: NDArray[np.float64] = terms(*grid) @ weights
    return smoothed
