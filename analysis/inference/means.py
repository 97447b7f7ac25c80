"""The mean over cells whose seeds are common, with its error, also where seeds are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]

_LEAST_SHARE = 0.5  # of the seeds of its neighbours, for a cell to count in a mean


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error.

    Attributes:
        value: the mean.
        error: its standard error; NaN below two values.
        dof: degrees of freedom of the error.
        n: number of values; of the cell that has fewest.
    """

    value: float
    error: float
    dof: float
    n: int


def mean_over_cells(table: Array) -> Mean:
    """The mean over cells of each cell's mean over its seeds.

    Cells that share seeds are correlated. With complete seeds the error is that of the t interval
    of the seeds' means over cells. Where a cell lacks seeds, the covariance of two cells is that of
    the seeds that both have (pairwise complete), scaled to be unbiased.

    Args:
        table: differences, shape (seeds, cells), NaN where a cell lacks a seed. Every cell has a
            value.
    """
    present = np.isfinite(table)
    n = present.sum(axis=0)
    means = np.nansum(table, axis=0) / n
    value = float(means.mean())
    if n.min() < 2:
        return Mean(value, float("nan"), 0.0, int(n.min()))
    if present.all():
        by_seed = table.mean(axis=1)
        error = float(by_seed.std(ddof=1) / np.sqrt(len(by_seed)))
        return Mean(value, error, float(len(by_seed) - 1), len(by_seed))
    centred = np.where(present, table - means, 0.0)
    common = present.T.astype(float) @ present
    inverse = 1 / n
    scale = common * (1 - inverse[:, None] - inverse[None]) + (common * inverse[:, None]) * (
        common * inverse[None]
    )
    covariance = (centred.T @ centred) / np.maximum(scale, 1.0)
    of_means = covariance * common * inverse[:, None] * inverse[None]
    cells = len(n)
    # Estimated covariances can cancel the variances; no mean over cells is that much better.
    variance = max(float(of_means.sum()), 0.1 * float(np.trace(of_means))) / cells**2
    share = np.maximum(of_means.sum(axis=1), 0.0)
    share = share / share.sum() if share.sum() > 0 else np.full(cells, 1 / cells)
    return Mean(value, float(np.sqrt(variance)), _dof(table, present, share, n), int(n.min()))


def _dof(table: Array, present: NDArray[np.bool_], share: Array, n: NDArray[np.int64]) -> float:
    """Degrees of freedom of the mean: cells without common seeds add theirs (Satterthwaite)."""
    groups = _groups(present)
    total = 0.0
    for group in range(groups.max() + 1):
        inside = groups == group
        weight = float(share[inside].sum())
        if weight > 0:
            dof = weight / float((share[inside] / (n[inside] - 1)).sum())
            total += weight**2 / dof
    return 1 / total


def _groups(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of each cell's group; cells of a group share seeds, directly or indirectly."""
    has_seed = present.astype(float)
    groups: NDArray[np.int64] = connected_components(has_seed.T @ has_seed, directed=False)[1]
    return groups


def split_sparse(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out the cells that have too few seeds to count.

    A cell with a single value has no variance, and one with two of twenty seeds would own the
    error of the mean.

    Args:
        table: differences, index seed, one column per cell.

    Returns:
        the columns that have at least two seeds and at least half as many as the cell with most
        seeds among those that share seeds with it; and the names of the others. All columns stay
        where none has two seeds.
    """
    present = table.notna().to_numpy()
    n = present.sum(axis=0)
    if table.shape[1] < 2 or n.max(initial=0) < 2:
        return table, []
    groups = _groups(present)
    most = np.array([n[groups == group].max() for group in groups])
    kept = (n >= 2) & (n >= _LEAST_SHARE * most)
    return table.loc[:, kept], [str(name) for name in table.columns[~kept]]


def table_of(columns: Sequence[tuple[str, pd.Series[float]]]) -> pd.DataFrame:
    """A table (seeds, cells) from one series per cell, indexed by seed."""
    return pd.DataFrame(dict(columns)).sort_index()
