"""What tuning ε as well gains, with n networks, over analytic ε with n networks for the rest.

Each replicate of the search has its own choice of ε and learning rate, and its own choice of a
learning rate at analytic ε; both are confirmed on fresh seeds of that replicate. Replicates are
independent, so the t interval over replicates contains the search, noise draw, initialisation and
confirm seeds together (the ideal estimator of Bouthillier et al. 2021, arXiv 2103.03098).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.examples import ExampleEffects, variance_of_mean
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.inference.means import mean_over_cells, split_sparse, table_of
from analysis.inference.records import Interval, Procedure, ReplicateGain, VarianceShares, Verdict

LEAST_REPLICATES = 3
"""Below this number of searches there is no interval over them."""


@dataclass(frozen=True)
class Gain:
    """Tuned minus analytic choice in one cell.

    Attributes:
        cell_id: the cell.
        dataset: its data set.
        differences: columns replicate, seed, difference (a fraction); replicate 0 for all rows of
            a study with one search.
        examples: effects of the test examples; None where unknown.
    """

    cell_id: str
    dataset: str
    differences: pd.DataFrame
    examples: ExampleEffects | None = None


def procedure(gains: Sequence[Gain], margin: float) -> Procedure | None:
    """The gain of tuning ε as well, of one cell or averaged over cells that share replicates.

    Args:
        gains: of distinct cells.
        margin: δ of the verdict.

    Returns:
        None without any pair.
    """
    filled = [gain for gain in gains if len(gain.differences)]
    if not filled:
        return None
    table, _ = split_sparse(
        table_of(
            [(g.cell_id, g.differences.groupby("replicate")["difference"].mean()) for g in filled]
        )
    )
    kept = [gain for gain in filled if gain.cell_id in table.columns]
    mean = mean_over_cells(table.to_numpy(dtype=float))
    by_seed = (
        pd.concat([gain.differences for gain in kept])
        .groupby(["replicate", "seed"], as_index=False)["difference"]
        .mean()
    )
    groups = [group["difference"] for _, group in by_seed.groupby("replicate")]
    replicates = len(groups)
    interval = Interval(mean.value, None, None, replicates)
    shares = sd_search = sd_seed = None
    within = _within(groups)
    if replicates > 1:
        examples = examples_error(kept)
        seeds = float(np.mean([len(group) for group in groups]))
        of_seeds = 0.0 if within is None else min(within / seeds / replicates, mean.error**2)
        of_search = mean.error**2 - of_seeds
        sd_search = None if within is None else float(np.sqrt(of_search * replicates))
        shares = _shares(of_search, of_seeds, examples)
        if replicates >= LEAST_REPLICATES:
            interval = _interval(mean.value, mean.error**2, mean.dof, examples or 0.0, replicates)
    if within is not None:
        sd_seed = float(np.sqrt(within))
    verdict, reason = _judge(interval, margin)
    return Procedure(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        replicates=[
            ReplicateGain(int(str(number)), float(group["difference"].mean()), len(group))
            for number, group in by_seed.groupby("replicate")
        ],
        over_seeds=mean_interval(by_seed["difference"]),
        sd_search=sd_search,
        sd_seed=sd_seed,
        shares=shares,
        missed_failures=1 - 0.05 ** (1 / replicates),
        verdict=verdict,
        reason=reason,
    )


def refused(result: Procedure, reason: str) -> Procedure:
    """The same without a verdict."""
    return replace(result, verdict=Verdict.UNDECIDED, reason=reason)


def half_width(
    sd_search: float, sd_seed: float, replicates: int, seeds: int, confidence: float = CONFIDENCE
) -> float:
    """Expected half-width of the interval over replicates.

    Args:
        sd_search: standard deviation between searches.
        sd_seed: standard deviation of one paired difference.
        replicates: number of searches, at least 2.
        seeds: confirm seeds per replicate.
        confidence: two-sided level in (0, 1).
    """
    sd = np.sqrt(sd_search**2 + sd_seed**2 / seeds)
    return float(stats.t.ppf((1 + confidence) / 2, replicates - 1) * sd / np.sqrt(replicates))


def _within(groups: Sequence[pd.Series[float]]) -> float | None:
    """Variance of one paired difference within a replicate, pooled; None below two seeds."""
    dof = sum(len(group) - 1 for group in groups)
    if dof < 1:
        return None
    return sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / dof


def _interval(mean: float, variance: float, dof: float, examples: float, n: int) -> Interval:
    total = variance + examples
    freedom = dof if variance <= 0 else min(total**2 / (variance**2 / dof), 1e6)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(total))
    return Interval(mean, mean - half, mean + half, n)


def _shares(search: float, seeds: float, examples: float | None) -> VarianceShares | None:
    total = search + seeds + (examples or 0.0)
    if total <= 0:
        return None
    return VarianceShares(
        searches=search / total,
        seeds=seeds / total,
        test_examples=None if examples is None else examples / total,
        surface=None,
    )


def examples_error(gains: Sequence[Gain]) -> float | None:
    """Squared error of the test examples in the mean over cells; None where unknown.

    Args:
        gains: of distinct cells.
    """
    groups: dict[str, list[ExampleEffects]] = {}
    for gain in gains:
        if gain.examples is None:
            return None
        groups.setdefault(gain.dataset, []).append(gain.examples)
    return variance_of_mean(list(groups.values()), len(gains))


def _judge(interval: Interval, margin: float) -> tuple[Verdict, str]:
    if interval.low is None or interval.high is None:
        searches = "one search" if interval.n == 1 else f"{interval.n} searches"
        return (
            Verdict.UNDECIDED,
            f"{searches}: an interval over searches needs search.replicates ≥ {LEAST_REPLICATES}",
        )
    if interval.low > margin:
        return Verdict.INFERIOR, "tuning ε as well gains more than the margin"
    if interval.high < margin:
        if interval.low > -margin:
            return Verdict.EQUIVALENT, "tuning ε as well changes less than the margin"
        return Verdict.NON_INFERIOR, "tuning ε as well gains less than the margin"
    return Verdict.UNDECIDED, "the interval over searches contains the margin"
