"""The share of the gain from ε = 0 to the best ε that analytic ε recovers, by Fieller's method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.inference.intervals import CONFIDENCE
from analysis.inference.records import Recovered
from analysis.inference.value import Contrast, Estimate, estimate
from analysis.response.top import HIGH, LOW

UNBOUNDED = (
    "the gain from ε = 0 to the best ε is not shown to be above 0, so its share is unbounded"
)


@dataclass(frozen=True)
class Gains:
    """Contrasts of one cell.

    Attributes:
        best_over_zero: arm best minus arm zero.
        analytic_over_zero: analytic arm minus arm zero.
        best_over_analytic: arm best minus analytic arm.
    """

    best_over_zero: Contrast
    analytic_over_zero: Contrast
    best_over_analytic: Contrast


def recovered(gains: Sequence[Gains], confidence: float = CONFIDENCE) -> Recovered:
    """The ratio of mean gains over cells, with its interval (Fieller 1954).

    The low end assumes features that no network could have seen, so that the best point may be
    higher; the high end assumes nearly none (`analysis.inference.value`).

    Args:
        gains: of distinct cells.
        confidence: two-sided level in (0, 1).
    """
    best = estimate([g.best_over_zero for g in gains])
    analytic = estimate([g.analytic_over_zero for g in gains])
    between = estimate([g.best_over_analytic for g in gains])
    if best is None or analytic is None or between is None:
        return Recovered(None, None, None, None, "no paired confirm networks of all three arms")
    value = analytic.mean / best.mean if best.mean > 0 else None
    if not (best.has_interval and analytic.has_interval and between.has_interval):
        return Recovered(value, None, None, best.mean, "one confirm seed has no spread")
    ends = [_fieller(analytic, best, between, s, confidence) for s in (HIGH, LOW)]
    if ends[0] is None or ends[1] is None:
        return Recovered(value, None, None, best.mean, UNBOUNDED)
    low, high = ends[0][0], ends[1][1]
    if value is not None:  # the estimate's own scenario lies between those of the ends
        low, high = min(low, value), max(high, value)
    return Recovered(value, low, high, best.mean, "")


def _fieller(
    analytic: Estimate, best: Estimate, between: Estimate, scenario: int, confidence: float
) -> tuple[float, float] | None:
    """Fieller's interval of analytic / best; None where it is unbounded.

    The covariance follows from the three variances:
    2 cov(a, b) = var a + var b − var (b − a).
    """
    (a, va), (b, vb), (_, vd) = (_moments(e, scenario) for e in (analytic, best, between))
    covariance = (va + vb - vd) / 2
    dof = min(e.measured.dof for e in (analytic, best))
    t2 = float(stats.t.ppf((1 + confidence) / 2, dof)) ** 2
    # a − r b is within t standard errors of 0:  r² (b² − t² vb) − 2 r (a b − t² cov) + …
    square, linear, constant = b * b - t2 * vb, a * b - t2 * covariance, a * a - t2 * va
    if b <= 0 or square <= 0:
        return None
    root = np.sqrt(max(linear**2 - square * constant, 0.0))
    return float((linear - root) / square), float((linear + root) / square)


def _moments(result: Estimate, scenario: int) -> tuple[float, float]:
    """Mean and variance under one scenario of what the surface could not have seen."""
    adjustment = None if result.adjustment is None else result.adjustment[scenario]
    shift, spread = (
        (0.0, 0.0) if adjustment is None else (float(adjustment.mean()), float(adjustment.var()))
    )
    return result.measured.value + shift, result.measured.error**2 + spread
