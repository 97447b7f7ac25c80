"""Successive halving inside a cohort: who goes on after a rung."""

from __future__ import annotations

import math
from collections.abc import Sequence


def survivors(brackets: Sequence[str | None], scores: Sequence[float], keep: float) -> list[int]:
    """Members that go on, in their old order.

    Of each race the best ceil(keep · size) members, at least one; the earlier of equals. A member
    without a race always goes on.

    Parameters
    ----------
    brackets, scores: of each member; a higher score is better. keep: share in (0, 1].
    """
    kept = {k for k, race in enumerate(brackets) if race is None}
    for race in {r for r in brackets if r is not None}:
        candidates = [k for k, r in enumerate(brackets) if r == race]
        best = sorted(candidates, key=lambda k: (-scores[k], k))
        kept.update(best[: max(1, math.ceil(keep * len(candidates) - 1e-9))])
    return sorted(kept)
