"""How numbers and lists are written for a reader: one formatter per purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MISSING = "–"


def points(fraction: float) -> str:
    """A fraction as percentage points: two decimals and a true minus sign.

    Example:
        >>> points(-0.0123)
        '−1.23'
    """
    return number(100 * fraction)


def number(value: float | None) -> str:
    """Two decimals and a true minus sign; a dash for None."""
    if value is None:
        return MISSING
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def compact(value: float) -> str:
    """A parameter's value in as few characters as possible."""
    return f"{value:g}"


def table_value(value: Any) -> str:
    """The text of a table's entry: four digits for a float, a dash for None and NaN."""
    if value is None or value != value:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def count(n: int, noun: str) -> str:
    """A number with its noun: `1 cell`, `2 cells`."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def listing(names: Sequence[str]) -> str:
    """Names in words: `a, b and c`; from five names on `a, b, c and 2 more`."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
