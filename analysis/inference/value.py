"""What an arm costs against another, in one cell or on average over cells.

cost = slope · (first arm − second arm on fresh seeds, paired) + what the surface adds.

The first part is measured. Its error has two sources: seeds, and the choice of test examples
(`analysis.inference.examples`); together they have Welch–Satterthwaite degrees of freedom. The
second part is drawn from the surface over ε and learning rate (`analysis.response.surface`). For
best and analytic ε, the measured difference moves the surface, and `slope` says how far the cost
follows it. For other pairs, `slope` is 1 and the surface adds how far the first arm's point may
fall short of the best one, minus the same for the second arm's point.

Surfaces are drawn under several sizes of features that no network could have seen: the low end of
an interval assumes nearly none, the high end the largest. A search that is too poor to name the
best ε therefore widens the interval upwards, towards "costs more", and never makes analytic ε
non-inferior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from analysis.inference.examples import ExampleEffects, variance_of_mean
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.inference.means import Array, Mean, mean_over_cells, split_sparse, table_of
from analysis.inference.records import Cost, VarianceShares
from analysis.response.top import HIGH, LOW, MIDDLE, SCENARIOS

_LEAST_ERROR = 1e-11  # where seeds do not differ at all


@dataclass(frozen=True)
class Contrast:
    """Two arms of one cell, compared.

    Attributes:
        cell_id: the cell.
        dataset: its data set; cells of one data set share test examples.
        differences: first arm minus second arm per seed, fractions, index seed.
        examples: effects of the test examples; None where unknown.
        adjustment: draws of what is added to `slope` times the mean difference, fractions, shape
            (scenarios, draws); None without a surface.
        slope: how the cost follows the measured difference, in [0, 1].
        same_epsilon: both arms have the same ε, so that nothing is measured and `differences` is
            empty.
        leads: the surface expects more of the second arm than of the first.
    """

    cell_id: str
    dataset: str
    differences: pd.Series[float]
    examples: ExampleEffects | None = None
    adjustment: Array | None = None
    slope: float = 1.0
    same_epsilon: bool = False
    leads: bool = False


@dataclass(frozen=True)
class Estimate:
    """A cost with its error.

    Attributes:
        plain: mean of the paired differences.
        measured: mean of slope times difference, with the error of seeds and test examples.
        over_seeds: the same with the error of the seeds alone.
        examples_error: squared error of the test examples; None where unknown.
        adjustment: draws of the mean adjustment over cells, shape (scenarios, draws); None without
            a surface.
        cells: number of cells.
        left_out: ids of cells with too few seeds.
    """

    plain: float
    measured: Mean
    over_seeds: Mean
    examples_error: float | None
    adjustment: Array | None
    cells: int
    left_out: list[str]

    @property
    def has_interval(self) -> bool:
        """Whether there are at least two seeds."""
        return bool(np.isfinite(self.measured.error))

    @property
    def mean_adjustment(self) -> float:
        """What the surface adds to the mean difference."""
        return self.mean - self.plain

    @property
    def mean(self) -> float:
        """The cost."""
        adjustment = 0.0 if self.adjustment is None else float(self.adjustment[MIDDLE].mean())
        return self.measured.value + adjustment

    @property
    def standard_error(self) -> float | None:
        """Of the cost; None without an interval."""
        if not self.has_interval:
            return None
        surface = 0.0 if self.adjustment is None else float(self.adjustment[MIDDLE].var())
        return float(np.sqrt(self.measured.error**2 + surface))

    @property
    def shares(self) -> VarianceShares | None:
        """How the variance of the cost divides; None without an interval or a variance."""
        if not self.has_interval:
            return None
        seeds, examples = self.over_seeds.error**2, self.examples_error
        surface = None if self.adjustment is None else float(self.adjustment[MIDDLE].var())
        total = seeds + (examples or 0.0) + (surface or 0.0)
        if total <= 0:
            return None
        return VarianceShares(
            searches=None,
            seeds=seeds / total,
            test_examples=None if examples is None else examples / total,
            surface=None if surface is None else surface / total,
        )

    def ends(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """(low, high) of the two-sided interval; None below two seeds."""
        if not self.has_interval:
            return None
        tail = (1 - confidence) / 2
        return self._quantile(tail, LOW), self._quantile(1 - tail, HIGH)

    def non_inferiority_p(self, margin: float) -> float | None:
        """One-sided p value of cost < margin; None without an interval."""
        return 1 - self._cdf(margin, HIGH) if self.has_interval else None

    def equivalence_p(self, margin: float) -> float | None:
        """TOST p value of |cost| < margin (Schuirmann 1987); None without an interval."""
        if not self.has_interval:
            return None
        return max(1 - self._cdf(margin, HIGH), self._cdf(-margin, LOW))

    def _cdf(self, x: float, scenario: int) -> float:
        adjustment = np.zeros(1) if self.adjustment is None else self.adjustment[scenario]
        z = (x - self.measured.value - adjustment) / max(self.measured.error, _LEAST_ERROR)
        return float(stats.t.cdf(z, self.measured.dof).mean())

    def _quantile(self, q: float, scenario: int) -> float:
        error, dof = max(self.measured.error, _LEAST_ERROR), self.measured.dof
        from_t = self.measured.value + float(stats.t.ppf(q, dof)) * error
        if self.adjustment is None:
            return from_t
        adjustment = self.adjustment[scenario]
        # The quantile of the sum lies between those of the t part moved by the extreme draws.
        low, high = from_t + float(adjustment.min()), from_t + float(adjustment.max())
        if high - low < _LEAST_ERROR:
            return low
        root: float = brentq(lambda x: self._cdf(x, scenario) - q, low - 1e-9, high + 1e-9)
        return root


def estimate(contrasts: Sequence[Contrast]) -> Estimate | None:
    """The cost of one cell, or its mean over cells.

    Args:
        contrasts: of distinct cells.

    Returns:
        None without any difference.
    """
    filled = [c for c in contrasts if c.differences.notna().any()]
    if not filled:
        return None
    table, left_out = split_sparse(table_of([(c.cell_id, c.differences) for c in filled]))
    kept = [c for c in filled if c.cell_id in table.columns]
    differences = table[[c.cell_id for c in kept]].to_numpy(dtype=float)
    over_seeds = mean_over_cells(differences * [c.slope for c in kept])
    examples = _examples_error(kept)
    adjustments = [c.adjustment for c in kept]
    adjustment = None if all(x is None for x in adjustments) else _mean_adjustment(adjustments)
    measured = with_examples(over_seeds, examples)
    plain = float(np.nanmean(differences, axis=0).mean())
    return Estimate(plain, measured, over_seeds, examples, adjustment, len(kept), left_out)


def cost(contrast: Contrast, margin: float) -> Cost:
    """The record of one cell's cost.

    Args:
        contrast: comparator against arm.
        margin: δ of the p values.
    """
    result = estimate([contrast])
    measured = mean_interval(contrast.differences)
    if result is None:
        same = contrast.same_epsilon
        return Cost(None, None, None, 0, measured, 0.0, None, None, same, False, None, None)
    low, high = result.ends() or (None, None)
    return Cost(
        mean=result.mean,
        low=low,
        high=high,
        n=measured.n,
        measured=measured,
        adjustment=result.mean_adjustment,
        standard_error=result.standard_error,
        shares=result.shares,
        same_epsilon=contrast.same_epsilon,
        leads=contrast.leads,
        non_inferiority_p=result.non_inferiority_p(margin),
        equivalence_p=result.equivalence_p(margin),
    )


def _examples_error(contrasts: Sequence[Contrast]) -> float | None:
    """Squared error of the test examples; None where a cell that needs them lacks them."""
    groups: dict[str, list[ExampleEffects]] = {}
    for contrast in contrasts:
        if contrast.examples is None:
            return None
        effects = contrast.examples.scaled(contrast.slope)
        groups.setdefault(contrast.dataset, []).append(effects)
    return variance_of_mean(list(groups.values()), len(contrasts))


def with_examples(mean: Mean, examples: float | None) -> Mean:
    """The mean with the error of the test examples added.

    Args:
        mean: over seeds or replicates.
        examples: squared error of the test examples; None where unknown.
    """
    if not examples or not np.isfinite(mean.error):
        return mean
    variance = mean.error**2
    total = variance + examples
    # Test examples are many: their variance is as good as known.
    dof = total**2 / (variance**2 / mean.dof) if variance > 0 else 1e6
    return Mean(mean.value, float(np.sqrt(total)), min(dof, 1e6), mean.n)


def _mean_adjustment(adjustments: Sequence[Array | None]) -> Array:
    """Draws of the mean adjustment over cells; surfaces of different cells are independent."""
    if len(adjustments) == 1 and adjustments[0] is not None:
        return adjustments[0]
    rng = np.random.default_rng(0)
    draws = max(adjustment.shape[1] for adjustment in adjustments if adjustment is not None)
    total = np.zeros((SCENARIOS, draws))
    for adjustment in adjustments:
        if adjustment is not None:
            total += rng.permuted(np.resize(adjustment.T, (draws, SCENARIOS)).T, axis=1)
    return total / len(adjustments)
