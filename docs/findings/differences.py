"""Compares two versions of the page, of which numbers may differ by rounding."""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"[−-]?\d+(?:\.\d+)?")
_RELATIVE, _ABSOLUTE = 0.03, 0.11  # of numbers that two processors may compute differently


def differences(one: str, other: str) -> list[str]:
    """Lines of two pages whose words differ, or whose numbers differ by more than rounding."""
    found = []
    lines, others = one.splitlines(), other.splitlines()
    if len(lines) != len(others):
        return [f"{len(lines)} lines instead of {len(others)}"]
    for a, b in zip(lines, others, strict=True):
        x, y = ([float(n.replace("−", "-")) for n in _NUMBER.findall(line)] for line in (a, b))
        same_words = _NUMBER.sub("#", a) == _NUMBER.sub("#", b)
        if not same_words or not all(
            math.isclose(i, j, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
            for i, j in zip(x, y, strict=True)
        ):
            found.append(f"computed: {a}\n    page: {b}")
    return found
