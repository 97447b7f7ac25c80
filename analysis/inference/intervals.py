"""t intervals and t tests of paired differences.

With few seeds the t interval keeps its level and the percentile bootstrap does not
(docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from analysis.inference.records import NO_VALUES, Interval

CONFIDENCE = 0.90
"""Two-sided level; the upper end is the one-sided 95 % bound of non-inferiority."""


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and two-sided t interval of independent values.

    Args:
        values: shape (n,), any unit; NaN is left out.
        confidence: two-sided level in (0, 1).

    Example:
        >>> interval = mean_interval([0.01, 0.02, 0.03])
        >>> round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4)
        (0.02, 0.0031, 0.0369)
    """
    x = np.asarray(list(values), dtype=float)
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return NO_VALUES
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def non_inferiority(differences: Iterable[float], margin: float) -> float | None:
    """One-sided p value of mean difference < margin.

    Args:
        differences: shape (n,), paired; NaN is left out.
        margin: δ, same unit.

    Returns:
        the p value; None below two values. Without spread, where SciPy's t test is undefined, 0
        below the margin and 1 otherwise.
    """
    x = np.asarray(list(differences), dtype=float)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return None
    error = x.std(ddof=1) / np.sqrt(len(x))
    if error == 0:
        return float(x.mean() >= margin)
    return float(stats.t.cdf((x.mean() - margin) / error, len(x) - 1))


def equivalence(differences: Sequence[float], margin: float) -> float | None:
    """TOST p value of |mean difference| < margin (Schuirmann 1987).

    Args:
        differences: shape (n,), paired; NaN is left out.
        margin: δ, same unit.

    Returns:
        the p value; None below two values.
    """
    upper = non_inferiority(differences, margin)
    lower = non_inferiority([-d for d in differences], margin)
    return None if upper is None or lower is None else max(upper, lower)
