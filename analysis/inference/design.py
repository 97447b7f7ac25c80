"""Which design a wanted precision needs: replicates, seeds and networks, before a study is run.

A pilot gives the sources of variance of the two answers of a study. The interval of the value (what
analytic ε costs) gets narrower with confirm seeds; the choice of test examples, and what the
surface over ε and learning rate leaves open, stay as they are in the pilot. That of the procedure
(what tuning ε gains) gets narrower with replicates of the search, and with the seeds on which each
is confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from analysis.inference.agreement import JudgedCell
from analysis.inference.intervals import CONFIDENCE
from analysis.inference.means import Array, Mean
from analysis.inference.procedure import LEAST_REPLICATES, examples_error, procedure
from analysis.inference.value import Estimate, estimate, with_examples
from analysis.records import Record
from analysis.response.top import MIDDLE
from study.results.plan_summary import PlanSummary
from study.results.schema import Stage

MAX_SEEDS = 10_000
MAX_REPLICATES = 1_000
REPLICATE_SEEDS = range(1, 21)
"""Seeds per replicate that are tried."""

_TABLE_SEEDS = (5, 10, 20, 40)
_TABLE_REPLICATES = (3, 4, 6, 10)
_SIMULATIONS = 20_000
_ERRORS = 25  # sizes of the error at which the upper end is computed; between them it is smooth


@dataclass(frozen=True)
class Spread:
    """What the width of an interval follows from.

    Attributes:
        sd: standard deviation of the difference between independent units (seeds or replicates).
        examples: squared error of the test examples, common to all units; 0 where unknown.
        adjustment: draws of what the surface adds, around their mean, as in
            `value.Estimate`; None where the interval does not correct for it.
    """

    sd: float
    examples: float = 0.0
    adjustment: Array | None = None

    def half_width(self, units: int, confidence: float = CONFIDENCE) -> float:
        """Expected half-width of the two-sided interval.

        Args:
            units: number of seeds or replicates, at least 2.
            confidence: two-sided level in (0, 1).
        """
        error = self.sd / math.sqrt(units) * _mean_of_sample_sd(units)
        return self._half_width(error, units, confidence)

    def least_half_width(self, confidence: float = CONFIDENCE) -> float:
        """The half-width that no number of seeds or replicates improves."""
        return self._half_width(0.0, MAX_SEEDS, confidence)

    def power(self, units: int, margin: float, effect: float = 0.0) -> float:
        """Probability that the interval's upper end lies below the margin, by simulation.

        Args:
            units: number of seeds or replicates, at least 2.
            margin: δ > 0, a fraction.
            effect: the true cost or gain.

        Returns:
            a probability; its standard error is at most 0.004.
        """
        rng = np.random.default_rng(0)
        error = self.sd / math.sqrt(units)
        measured = effect + rng.normal(0, math.hypot(error, math.sqrt(self.examples)), _SIMULATIONS)
        if self.adjustment is not None:
            measured -= rng.choice(self.adjustment[MIDDLE], _SIMULATIONS)
        errors = error * np.sqrt(rng.chisquare(units - 1, _SIMULATIONS) / (units - 1))
        grid = np.geomspace(max(errors.min(), 1e-9), max(errors.max(), 2e-9), _ERRORS)
        above = [self._ends(float(e), units, CONFIDENCE)[1] for e in grid]
        return float((measured + np.interp(errors, grid, above) < margin).mean())

    def _half_width(self, error: float, units: int, confidence: float) -> float:
        low, high = self._ends(error, units, confidence)
        return (high - low) / 2

    def _ends(self, error: float, units: int, confidence: float) -> tuple[float, float]:
        ends = self._estimate(error, units).ends(confidence)
        assert ends is not None
        return ends

    def _estimate(self, error: float, units: int) -> Estimate:
        """What the analysis would make of a measured mean of 0 with this error."""
        over_units = Mean(0.0, error, float(units - 1), units)
        measured = with_examples(over_units, self.examples)
        return Estimate(0.0, measured, over_units, self.examples, self.adjustment, 1, [])


@dataclass(frozen=True)
class NetworkCounts(Record):
    """How many networks a design trains, summed over the cells.

    Attributes:
        per_replicate: search networks of one replicate, all arms.
        sweep: networks of the sweep.
        per_seed: pooled arms: confirm networks per common seed.
        per_replicate_seed: confirm networks per replicate and seed.
    """

    per_replicate: int
    sweep: int
    per_seed: int
    per_replicate_seed: int

    def total(self, seeds: int, replicates: int, replicate_seeds: int) -> int:
        """All networks of a design."""
        of_replicates = replicates * replicate_seeds * self.per_replicate_seed
        return self.sweep + replicates * self.per_replicate + seeds * self.per_seed + of_replicates

    @classmethod
    def of_plan(cls, plan: PlanSummary) -> NetworkCounts:
        """Those of a pilot with the same cells and arms."""
        return cls(
            per_replicate=plan.networks.get(Stage.SEARCH, 0) // (plan.replicates or 1),
            sweep=plan.networks.get(Stage.SWEEP, 0),
            per_seed=sum(len(cell.arms) for cell in plan.cells),
            per_replicate_seed=sum(len(cell.replicate_arms) for cell in plan.cells),
        )


@dataclass(frozen=True)
class Pilot:
    """The sources of variance of a study's answers, each for the mean over its cells.

    Attributes:
        value: of the cost of analytic ε; its units are seeds.
        sd_search: standard deviation between searches of the gain of tuning.
        sd_seed: standard deviation of one paired difference within a search.
        examples: squared error that the test examples add to the gain of tuning.
        networks: of the cells together.
    """

    value: Spread
    sd_search: float
    sd_seed: float
    examples: float
    networks: NetworkCounts

    def procedure(self, replicate_seeds: int) -> Spread:
        """Of the gain of tuning; its units are replicates."""
        variance = self.sd_search**2 + self.sd_seed**2 / replicate_seeds
        return Spread(math.sqrt(variance), self.examples)


@dataclass(frozen=True)
class Design(Record):
    """A design and what it can be expected to show.

    Attributes:
        seeds: confirm seeds of the pooled arms (`confirm.seeds`).
        replicates: searches of every arm (`search.replicates`).
        replicate_seeds: confirm seeds of each replicate's choices (`confirm.replicate_seeds`).
        networks: all networks of the study.
        value_half_width: expected, a fraction.
        procedure_half_width: expected, a fraction.
        value_power: probability that analytic ε is found to cost less than the margin.
        procedure_power: probability that tuning ε is found to gain less than the margin.
    """

    seeds: int
    replicates: int
    replicate_seeds: int
    networks: int
    value_half_width: float
    procedure_half_width: float
    value_power: float
    procedure_power: float


def pilot_of(judged: Sequence[JudgedCell], plan: PlanSummary | None) -> Pilot:
    """The sources of variance of an analysed study.

    Args:
        judged: its cells, from `analysis.verdict.StudyAnalysis`.
        plan: its plan.

    Raises:
        ValueError: the study does not measure value and procedure, each with an error.
    """
    if plan is None:
        raise ValueError("the pilot has no plan.json, so its networks cannot be counted")
    matter = [cell for cell in judged if cell.verdict.matters] or judged
    value = estimate([c for cell in matter if (c := cell.values.get(cell.verdict.rule or ""))])
    if value is None or not value.has_interval:
        raise ValueError("the pilot has no arms best and analytic on two common confirm seeds")
    tuning = [g for cell in judged if (g := cell.tuning.get(cell.verdict.rule or ""))]
    result = procedure(tuning, margin=1.0)
    if result is None or result.sd_search is None or result.sd_seed is None:
        raise ValueError("the pilot has no two replicates of the search with two seeds each")
    sd = value.over_seeds.error * math.sqrt(value.over_seeds.n)
    adjustment = value.adjustment
    centre = 0.0 if adjustment is None else adjustment[MIDDLE].mean()
    return Pilot(
        # Another study's surface leaves as much open, around another cost.
        value=Spread(
            sd, value.examples_error or 0.0, None if adjustment is None else adjustment - centre
        ),
        sd_search=result.sd_search,
        sd_seed=result.sd_seed,
        examples=examples_error(tuning) or 0.0,
        networks=NetworkCounts.of_plan(plan),
    )


def expected(
    pilot: Pilot, seeds: int, replicates: int, replicate_seeds: int, margin: float, effect: float
) -> Design:
    """What a design can be expected to show.

    Args:
        pilot: sources of variance.
        seeds: confirm seeds of the pooled arms, at least 2.
        replicates: searches of every arm, at least 2.
        replicate_seeds: confirm seeds of each replicate's choices, at least 1.
        margin: δ, a fraction.
        effect: true cost of analytic ε, and true gain of tuning, to assume.
    """
    over_searches = pilot.procedure(replicate_seeds)
    return Design(
        seeds=seeds,
        replicates=replicates,
        replicate_seeds=replicate_seeds,
        networks=pilot.networks.total(seeds, replicates, replicate_seeds),
        value_half_width=pilot.value.half_width(seeds),
        procedure_half_width=over_searches.half_width(replicates),
        value_power=pilot.value.power(seeds, margin, effect),
        procedure_power=over_searches.power(replicates, margin, effect),
    )


def smallest_design(pilot: Pilot, half_width: float, margin: float, effect: float = 0.0) -> Design:
    """The design with fewest networks whose expected half-widths are both small enough.

    Args:
        pilot: sources of variance.
        half_width: the wanted half-width of both intervals, a fraction.
        margin: δ of the powers.
        effect: true cost and gain to assume in the powers.

    Raises:
        ValueError: no number of seeds or replicates reaches it.
    """
    seeds = _least_units(pilot.value, half_width, 2, MAX_SEEDS, "seeds")
    designs = []
    for replicate_seeds in REPLICATE_SEEDS:
        spread = pilot.procedure(replicate_seeds)
        replicates = _least_units(
            spread, half_width, LEAST_REPLICATES, MAX_REPLICATES, "replicates"
        )
        networks = pilot.networks.total(seeds, replicates, replicate_seeds)
        designs.append((networks, replicates, replicate_seeds))
    _, replicates, replicate_seeds = min(designs)
    return expected(pilot, seeds, replicates, replicate_seeds, margin, effect)


def design_table(
    pilot: Pilot, replicate_seeds: int, margin: float, effect: float = 0.0
) -> Iterator[Design]:
    """Usual numbers of seeds and replicates, with arguments as of `expected`."""
    for seeds in _TABLE_SEEDS:
        for replicates in _TABLE_REPLICATES:
            yield expected(pilot, seeds, replicates, replicate_seeds, margin, effect)


def _least_units(spread: Spread, half_width: float, least: int, most: int, name: str) -> int:
    """The smallest number of seeds or replicates that reaches a half-width."""
    if not (math.isfinite(half_width) and half_width > 0):
        raise ValueError(f"half-width = {half_width:g}: allowed is a number above 0")
    floor = spread.least_half_width()
    if floor >= half_width:
        raise ValueError(
            f"half-width = {half_width:g}: out of reach, because test examples and what the "
            f"surface leaves open give {floor:.2g} with any number of {name}; more test examples "
            "or search networks are needed"
        )
    low, high = least, least
    while spread.half_width(high) > half_width:
        low, high = high + 1, 2 * high
        if high > most:
            raise ValueError(f"half-width = {half_width:g}: more than {most} {name} are needed")
    while low < high:
        middle = (low + high) // 2
        is_enough = spread.half_width(middle) <= half_width
        low, high = (low, middle) if is_enough else (middle + 1, high)
    return high


def _mean_of_sample_sd(n: int) -> float:
    """Expected sample standard deviation of n normal values, in units of their own."""
    return float(math.sqrt(2 / (n - 1)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2)))
