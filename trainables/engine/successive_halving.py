"""Successive halving inside a cohort: which members of a bracket continue after a rung.

Source: Jamieson & Talwalkar 2016, arXiv 1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def survivors(brackets: Sequence[str | None], scores: Sequence[float], keep: float) -> list[int]:
    """Choose the members that continue.

    The best ceil(keep · size) members of each bracket continue, at least one. Where scores are
    equal, the earlier member counts as the better one. A member without a bracket always continues.

    Args:
        brackets: bracket of each member, or None.
        scores: score of each member; higher is better.
        keep: share in (0, 1].

    Returns:
        indices of the members that continue, ascending.
    """
    kept = {k for k, bracket in enumerate(brackets) if bracket is None}
    for bracket in {b for b in brackets if b is not None}:
        candidates = [k for k, b in enumerate(brackets) if b == bracket]
        best = sorted(candidates, key=lambda k: (-scores[k], k))
        kept.update(best[: max(1, math.ceil(keep * len(candidates) - 1e-9))])
    return sorted(kept)
