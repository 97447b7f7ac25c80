"""Gains of one setting over another on the confirm stage, and what it takes to show one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from analysis.inference.design import Spread
from analysis.inference.examples import example_effects
from analysis.inference.value import Contrast, estimate
from analysis.recommendation.records import Finding, Gain, SampleSize

_POWER = 0.8
_MOST_SEEDS = 1_000


def gain_of(first: pd.DataFrame, second: pd.DataFrame, correct: Mapping[Any, bytes]) -> Gain:
    """Test accuracy of one setting minus that of another, paired by seed.

    Both are measured where a user would use them, at their confirmed points; nothing is added for
    points that were not trained.

    Args:
        first: confirm rows of one setting.
        second: of the other.
        correct: {label of a row: what the network gets right}, from `Study.test_correct`.
    """
    one, other = _by_seed(first), _by_seed(second)
    differences = (one - other).dropna()
    bits = [
        {int(s): correct[k] for k, s in zip(rows.index, rows["seed"], strict=True) if k in correct}
        for rows in (first, second)
    ]
    effects = example_effects(*bits)
    result = estimate([Contrast("", "", differences, effects)])
    if result is None:
        return Gain(None, None, None, 0, None, None, None)
    n = len(differences)
    low, high = result.ends() or (None, None)
    reverse = estimate([Contrast("", "", -differences, effects)])
    assert reverse is not None
    examples = result.examples_error
    return Gain(
        mean=result.mean,
        low=low,
        high=high,
        n=n,
        p=reverse.non_inferiority_p(0.0),
        seeds_sd=float(differences.std(ddof=1)) if n > 1 else None,
        examples_error=None if examples is None else math.sqrt(examples),
    )


def _by_seed(rows: pd.DataFrame) -> pd.Series[float]:
    return rows.groupby("seed")["test_acc"].mean()


def finding_of(gain: Gain | None, margin: float) -> Finding:
    """What a gain over cross-entropy shows.

    Args:
        gain: None where it was not measured.
        margin: a difference below it counts as none.
    """
    if gain is None or gain.low is None or gain.high is None:
        return Finding.NOT_MEASURED
    if gain.low > 0:
        return Finding.BETTER
    if gain.high < 0:
        return Finding.WORSE
    return Finding.NO_DIFFERENCE if gain.low > -margin and gain.high < margin else Finding.UNDECIDED


def holm(gains: Sequence[Gain | None]) -> list[float | None]:
    """One-sided p values of gains above 0, corrected for their number (Holm 1979)."""
    known = [gain.p for gain in gains if gain is not None and gain.p is not None]
    corrected = iter(multipletests(known, method="holm")[1] if known else ())
    return [
        float(next(corrected)) if gain is not None and gain.p is not None else None
        for gain in gains
    ]


def sample_size(
    gain: Gain,
    margin: float,
    arms: int,
    seconds_per_network: float | None,
    test_examples: int | None,
) -> SampleSize | None:
    """What it takes to show a difference as large as the measured one, and at least the margin.

    Args:
        gain: the measured difference.
        margin: the least difference that counts.
        arms: number of networks per confirm seed in the whole study.
        seconds_per_network: training time of a network in one worker; None where unknown.
        test_examples: number of test examples; None where unknown.

    Returns:
        None below two seeds.
    """
    if gain.mean is None or gain.seeds_sd is None:
        return None
    difference = max(abs(gain.mean), margin)
    examples = (gain.examples_error or 0.0) ** 2
    spread = Spread(max(gain.seeds_sd, 1e-9), examples)
    seeds = _least_seeds(spread, difference)
    if seeds is not None:
        networks = max(seeds - gain.n, 0) * arms
        minutes = None if seconds_per_network is None else networks * seconds_per_network / 60
        return SampleSize(difference, seeds, networks, minutes, None)
    # Seeds alone do not suffice: with the present number of them, more examples are needed.
    of_seeds = gain.seeds_sd**2 / gain.n
    allowed = (difference / 2.5) ** 2 - of_seeds  # 1.645 + 0.842: 5 % one-sided, power 80 %
    if test_examples is None or allowed <= 0:
        return SampleSize(difference, None, None, None, None)
    return SampleSize(difference, None, None, None, math.ceil(test_examples * examples / allowed))


def _least_seeds(spread: Spread, difference: float) -> int | None:
    """The smallest number of seeds with which the power is 80 %; None where none suffices."""
    low = high = 2
    while spread.power(high, difference) < _POWER:
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            return None
    while low < high:
        middle = (low + high) // 2
        enough = spread.power(middle, difference) >= _POWER
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def example_count(rows: pd.DataFrame, correct: Mapping[Any, bytes]) -> int | None:
    """Number of test examples, to the next multiple of eight; None where rows do not say."""
    sizes = [8 * len(correct[label]) for label in rows.index if label in correct]
    return int(np.max(sizes)) if sizes else None
