"""The choice of test examples as a source of error, from what each network got right.

Two networks are compared on the same test examples, and the difference varies over seeds and over
examples. Another test set would have had other examples. The two-way model is
d_si = mean + seed_s + example_i + residual_si (as in Bouthillier et al. 2021, arXiv 2103.03098, who
name the sources; the estimators are the moment estimators of a random two-way layout).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bits = Mapping[int, bytes]
"""{seed: column `test_correct`: packed bits, one per test example}."""


@dataclass(frozen=True)
class ExampleEffects:
    """What the test examples do to a paired difference.

    Attributes:
        effects: mean difference of each example over seeds, shape (examples,), in [−1, 1].
        variance: variance over examples of the difference that an example expects, without the
            residual; an unbiased estimate, which may be negative.
    """

    effects: NDArray[np.float32]
    variance: float

    def scaled(self, factor: float) -> ExampleEffects:
        """The effects on `factor` times the difference."""
        return ExampleEffects(self.effects * np.float32(factor), self.variance * factor**2)


@dataclass(frozen=True)
class TwoWay:
    """Variance components of a table (seeds, examples).

    Attributes:
        seed: of the seeds.
        example: of the examples.
        residual: of what remains.
    """

    seed: float
    example: float
    residual: float


def two_way(table: NDArray[np.float64]) -> TwoWay:
    """Unbiased moment estimators of the variance components; they may be negative.

    Args:
        table: shape (seeds, examples), at least two of each.
    """
    seeds, examples = table.shape
    rows, columns, grand = table.mean(axis=1), table.mean(axis=0), table.mean()
    of_rows = examples * float(((rows - grand) ** 2).sum()) / (seeds - 1)
    of_columns = seeds * float(((columns - grand) ** 2).sum()) / (examples - 1)
    total = float(((table - grand) ** 2).sum())
    rest = total - of_rows * (seeds - 1) - of_columns * (examples - 1)
    residual = max(rest, 0.0) / ((seeds - 1) * (examples - 1))
    return TwoWay((of_rows - residual) / examples, (of_columns - residual) / seeds, residual)


def example_effects(first: Bits, second: Bits) -> ExampleEffects | None:
    """Effects of the test examples on the difference first − second.

    Args:
        first: what an arm's networks got right.
        second: the same of the arm that it is compared with.

    Returns:
        None below two common seeds, or where the networks have different numbers of examples.
    """
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2 or len({len(bits[s]) for bits in (first, second) for s in seeds}) > 1:
        return None
    # Filling bits of the last byte are equal in both and differ by 0; at most seven of them.
    one, other = (
        np.unpackbits(np.frombuffer(b"".join(bits[s] for s in seeds), dtype=np.uint8))
        .reshape(len(seeds), -1)
        .astype(np.int8)
        for bits in (first, second)
    )
    table = (one - other).astype(np.float64)
    if table.shape[1] < 2:
        return None
    return ExampleEffects(table.mean(axis=0).astype(np.float32), two_way(table).example)


def variance_of_mean(groups: Sequence[Sequence[ExampleEffects]], cells: int) -> float:
    """Squared standard error that the test examples add to a mean over cells.

    Args:
        groups: the effects of the cells of each data set. Cells of one data set share examples, so
            their errors are correlated; different data sets are independent.
        cells: number of cells in the mean.
    """
    variance = 0.0
    for group in groups:
        by_size: dict[int, list[ExampleEffects]] = {}
        for effects in group:
            by_size.setdefault(len(effects.effects), []).append(effects)
        for examples, alike in by_size.items():
            total = np.sum([e.effects for e in alike], axis=0, dtype=np.float64)
            noise = sum(float(np.var(e.effects, ddof=1)) - e.variance for e in alike)
            variance += max(float(np.var(total, ddof=1)) - noise, 0.0) / examples
    return variance / cells**2
