"""How many confirm seeds a margin needs: power of the verdict before a study is run."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from study.results.arms import Arm

ALPHA = 0.05  # one-sided
MAX_SEEDS = 10_000


def non_inferiority_power(
    seeds: int, sd: float, margin: float, regret: float = 0.0, alpha: float = ALPHA
) -> float:
    """Probability that the verdict is `non_inferior`: exact, by the noncentral t distribution.

    Args:
        seeds: number of paired confirm seeds, at least 2.
        sd: standard deviation of the paired difference, > 0, same unit as margin.
        margin: δ > 0, such as 0.005 for half a percentage point.
        regret: true cost of analytic ε, same unit.
        alpha: one-sided level in (0, 0.5).

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(sd, margin, alpha, seeds)
    # SciPy itself: statsmodels' TTestPower, which calls it too, gives NaN for some large effects.
    noncentrality = (margin - regret) / sd * math.sqrt(seeds)
    critical = stats.t.ppf(1 - alpha, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, noncentrality))


def equivalence_power(
    seeds: int,
    sd: float,
    margin: float,
    regret: float = 0.0,
    alpha: float = ALPHA,
    simulations: int = 100_000,
) -> float:
    """Probability that TOST finds |cost| < margin (Schuirmann 1987), by simulation.

    statsmodels has the power of TOST for a known variance only.

    Args:
        seeds: number of paired confirm seeds, at least 2.
        sd: standard deviation of the paired difference, > 0, same unit as margin.
        margin: δ > 0.
        regret: true cost of analytic ε, same unit.
        alpha: one-sided level in (0, 0.5).
        simulations: number of draws; at 100,000 the standard error is at most 0.0016.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(sd, margin, alpha, seeds)
    rng = np.random.default_rng(0)
    mean = rng.normal(regret, sd / math.sqrt(seeds), simulations)
    spread = sd * np.sqrt(rng.chisquare(seeds - 1, simulations) / (seeds - 1))
    half = stats.t.ppf(1 - alpha, seeds - 1) * spread / math.sqrt(seeds)
    return float(((mean + half < margin) & (mean - half > -margin)).mean())


def seeds_needed(
    sd: float,
    margin: float,
    power: float = 0.8,
    regret: float = 0.0,
    alpha: float = ALPHA,
) -> int:
    """The smallest number of confirm seeds at which `non_inferiority_power` reaches `power`.

    Args:
        sd: standard deviation of the paired difference, > 0, same unit as margin.
        margin: δ > 0.
        power: wanted probability, above alpha and below 1.
        regret: true cost of analytic ε, below the margin.
        alpha: one-sided level in (0, 0.5).

    Raises:
        ValueError: an argument is out of its range, or more than 10,000 seeds are needed.

    Example:
        >>> seeds_needed(sd=0.0057, margin=0.005)
        10
    """
    _check(sd, margin, alpha)
    if not alpha < power < 1:
        raise ValueError(f"power = {power:g}: allowed is {alpha:g} < power < 1")
    if regret >= margin:
        raise ValueError(f"regret = {regret:g}: allowed is below the margin of {margin:g}")
    low, high = 2, 2
    while non_inferiority_power(high, sd, margin, regret, alpha) < power:
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            raise ValueError(f"more than {MAX_SEEDS} seeds needed at margin = {margin:g}; widen it")
    while low < high:
        middle = (low + high) // 2
        enough = non_inferiority_power(middle, sd, margin, regret, alpha) >= power
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def power_table(
    sd: float, margin: float, regret: float = 0.0, alpha: float = ALPHA
) -> pd.DataFrame:
    """Power at usual numbers of seeds, with arguments as of `non_inferiority_power`.

    Returns:
        columns seeds, non_inferiority, equivalence (probabilities).
    """
    rows = [
        {
            "seeds": n,
            "non_inferiority": non_inferiority_power(n, sd, margin, regret, alpha),
            "equivalence": equivalence_power(n, sd, margin, regret, alpha),
        }
        for n in (3, 5, 8, 10, 15, 20, 30, 50)
    ]
    return pd.DataFrame(rows)


def pilot_sd(pairs: pd.DataFrame) -> float:
    """Standard deviation of the paired difference in a pilot study, pooled over its cells.

    Args:
        pairs: columns cell_id, arm, seed, regret, as in `analysis/tables/regret_by_seed.csv`.

    Returns:
        a fraction of accuracy.

    Raises:
        ValueError: no analytic arm with two seeds.
    """
    analytic = pairs[[Arm.of_row(str(arm)).is_analytic for arm in pairs["arm"]]]
    groups = analytic.groupby(["cell_id", "arm"])["regret"]
    dof = groups.count() - 1
    if not (dof > 0).any():
        raise ValueError("the pilot has no analytic arm with two or more paired seeds")
    enough = dof > 0
    return float(np.sqrt((groups.var()[enough] * dof[enough]).sum() / dof[enough].sum()))


def _check(sd: float, margin: float, alpha: float, seeds: int = 2) -> None:
    for name, value in (("sd", sd), ("margin", margin)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value:g}: allowed is a number above 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha = {alpha:g}: allowed is 0 < alpha < 0.5")
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: allowed is 2 or more")
