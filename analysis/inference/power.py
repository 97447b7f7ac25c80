"""How many confirm seeds a margin needs, before a study is run."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.05  # one-sided
MOST_SEEDS = 10_000


def non_inferiority_power(
    seeds: int, sd: float, margin: float, regret: float = 0.0, alpha: float = ALPHA
) -> float:
    """Probability that the verdict is `non_inferior`: exact, by the noncentral t distribution.

    Args:
        seeds: paired confirm seeds, n ≥ 2.
        sd: standard deviation of the paired difference, same unit as margin.
        margin: δ > 0.
        regret: true regret.
        alpha: one-sided level.

    Raises:
        ValueError: an argument out of its range.
    """
    _check(sd, margin, alpha)
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: allowed is 2 or more")
    centre = (margin - regret) / sd * math.sqrt(seeds)
    return float(stats.nct.sf(stats.t.ppf(1 - alpha, seeds - 1), seeds - 1, centre))


def equivalence_power(
    seeds: int,
    sd: float,
    margin: float,
    regret: float = 0.0,
    alpha: float = ALPHA,
    simulations: int = 100_000,
) -> float:
    """Probability that TOST finds |regret| < margin, by simulation (Monte Carlo error ≤ 0.0016).

    Arguments and errors as `non_inferiority_power`; `simulations` is the number of draws.
    """
    _check(sd, margin, alpha)
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: allowed is 2 or more")
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
    """The fewest confirm seeds at which `non_inferiority_power` reaches `power`.

    Raises:
        ValueError: an argument out of its range; a true regret at or above the margin, which no
            number of seeds makes non-inferior; more than 10,000 seeds.
    """
    _check(sd, margin, alpha)
    if not alpha < power < 1:
        raise ValueError(f"power = {power:g}: allowed is {alpha:g} < power < 1")
    if regret >= margin:
        raise ValueError(f"regret = {regret:g}: allowed is below the margin of {margin:g}")
    low, high = 2, 2
    while non_inferiority_power(high, sd, margin, regret, alpha) < power:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            raise ValueError(
                f"more than {MOST_SEEDS} seeds needed at margin = {margin:g}; widen it"
            )
    while low < high:
        middle = (low + high) // 2
        enough = non_inferiority_power(middle, sd, margin, regret, alpha) >= power
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def power_table(
    sd: float, margin: float, regret: float = 0.0, alpha: float = ALPHA
) -> pd.DataFrame:
    """Power by number of seeds: columns seeds, non_inferiority, equivalence."""
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
    """Spread of the paired difference in a pilot study, pooled over its cells.

    Args:
        pairs: columns cell_id, arm, seed, regret, as in `analysis/tables/regret_by_seed.csv`.

    Raises:
        ValueError: no analytic arm with two seeds.
    """
    analytic = pairs[pairs["arm"].astype(str).str.startswith("analytic:")]
    groups = analytic.groupby(["cell_id", "arm"])["regret"]
    dof = groups.count() - 1
    if not (dof > 0).any():
        raise ValueError("the pilot has no analytic arm with two or more paired seeds")
    enough = dof > 0
    return float(np.sqrt((groups.var()[enough] * dof[enough]).sum() / dof[enough].sum()))


def _check(sd: float, margin: float, alpha: float) -> None:
    for name, value in (("sd", sd), ("margin", margin)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value:g}: allowed is a number above 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha = {alpha:g}: allowed is 0 < alpha < 0.5")
