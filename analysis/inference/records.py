"""The records of a verdict: what `agreement` and `pooling` conclude and `verdict.json` holds.

The order of the fields is the order of the keys in `verdict.json`. Accuracies, costs, gains and
margins are fractions; ε is a logit bias.

Two questions are kept apart. *Value*: what analytic ε costs against the best ε, each at its best
learning rate. *Procedure*: what a user gains by tuning ε as well, with the same number of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from analysis.records import Record


class Verdict(StrEnum):
    """The conclusion about a cell, or about all cells of a study."""

    EQUIVALENT = "equivalent"
    NON_INFERIOR = "non_inferior"
    INFERIOR = "inferior"
    UNDECIDED = "undecided"
    CANNOT_TELL = "cannot_tell"

    @property
    def sentence(self) -> str:
        """The conclusion in words."""
        return _SENTENCES[self]

    @property
    def word(self) -> str:
        """The name as prose writes it."""
        return _WORDS.get(self, self.value)

    @property
    def agrees(self) -> bool:
        """Whether analytic ε is shown to cost less than the margin."""
        return self in (Verdict.EQUIVALENT, Verdict.NON_INFERIOR)


_WORDS = {Verdict.NON_INFERIOR: "non-inferior", Verdict.CANNOT_TELL: "cannot tell"}
_SENTENCES = {
    Verdict.EQUIVALENT: "analytic ε and the best ε differ by less than the margin",
    Verdict.NON_INFERIOR: "analytic ε costs less than the margin",
    Verdict.INFERIOR: "analytic ε costs more than the margin",
    Verdict.UNDECIDED: "too few data to tell",
    Verdict.CANNOT_TELL: "analytic ε, ε = 0 and the best ε are equivalent: ε does not matter",
}


@dataclass(frozen=True)
class Interval(Record):
    """A mean with its interval.

    Attributes:
        mean: None without values.
        low: lower end; None without an interval.
        high: upper end; None without an interval.
        n: number of independent values.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high); None without an interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


NO_VALUES = Interval(None, None, None, 0)


@dataclass(frozen=True)
class VarianceShares(Record):
    """How the variance of a mean divides; the known shares add up to 1.

    Attributes:
        searches: share that replicates of the search cause; None where the mean is not over them.
        seeds: share of noise draw, initialisation and order.
        test_examples: share of the choice of test examples; None where the rows do not have what
            each network got right (column `test_correct`).
        surface: share of what the surface over ε and learning rate leaves open; None where the
            mean does not come from it.
    """

    searches: float | None
    seeds: float
    test_examples: float | None
    surface: float | None


@dataclass(frozen=True)
class Cost(Interval):
    """What an arm costs against the comparator: accuracy of the comparator minus that of the arm.

    Against `best`, the cost is a *value*: both arms at their best learning rate, by the surface
    over ε and learning rate given the measured difference. `low` and `high` have the level
    `confidence`.
    Against `tuned` (in a study without the arm `best`) it is the paired difference alone.

    Attributes:
        measured: paired difference over the confirm seeds alone, with its t interval.
        adjustment: `mean` minus the mean of `measured`: what the surface over ε and learning rate
            adds to the mean difference; 0 without a surface.
        standard_error: of `mean`; None below two seeds.
        shares: of the variance; None without an interval.
        same_epsilon: both arms have the same ε, so that nothing is measured.
        leads: the evidence of search and sweep ranks the point of this analytic arm above that of
            `best`, which is then the strongest challenger at another ε.
        non_inferiority_p: one-sided p value of cost < margin; None without an interval.
        equivalence_p: TOST p value of |cost| < margin; None without an interval.
    """

    measured: Interval
    adjustment: float
    standard_error: float | None
    shares: VarianceShares | None
    same_epsilon: bool
    leads: bool
    non_inferiority_p: float | None
    equivalence_p: float | None

    @property
    def has_surface(self) -> bool:
        """Whether the surface over ε and learning rate says how far the points fall short."""
        return self.shares is None or self.shares.surface is not None


@dataclass(frozen=True)
class ReplicateGain(Record):
    """What tuning ε gained in one replicate of the search.

    Attributes:
        replicate: its number, from 0.
        mean: accuracy of its tuned choice minus that of its analytic choice, over its seeds; None
            where no seed has both.
        seeds: number of paired seeds.
    """

    replicate: int
    mean: float | None
    seeds: int


@dataclass(frozen=True)
class Procedure(Interval):
    """What a user gains by tuning ε and learning rate over analytic ε and tuning the latter alone.

    The interval (level `confidence`) is over replicates of the search; `n` is their number.

    Attributes:
        replicates: gain of each replicate.
        over_seeds: interval over all paired seeds. It holds for these searches only: it leaves out
            that another search would have chosen otherwise.
        sd_search: standard deviation between searches of the expected gain; None where it cannot be
            estimated.
        sd_seed: standard deviation of one paired difference within a search; None likewise.
        shares: of the variance of `mean`; None below two replicates.
        missed_failures: a failure of the search that happens with this probability or less may be
            missed by all replicates (95 %); None without replicates.
        verdict: `inferior`: tuning gains more than the margin; `equivalent`, `non_inferior`: less.
        reason: why, in words.
    """

    replicates: list[ReplicateGain]
    over_seeds: Interval
    sd_search: float | None
    sd_seed: float | None
    shares: VarianceShares | None
    missed_failures: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Recovered(Record):
    """The share of the gain from ε = 0 to the best ε that analytic ε recovers.

    Attributes:
        value: the share; 1 if analytic ε is as good as the best ε; None where the gain is unknown.
        low: lower end of Fieller's interval, level `confidence`; None where it is unbounded.
        high: upper end; None where it is unbounded.
        gain: from ε = 0 to the best ε, a fraction of accuracy; None where unknown.
        reason: why there is no interval; empty where there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    gain: float | None
    reason: str
