"""Schedules of the logit bias over training.

A constant ε lets the network lean on the bias: with much label noise a loss with constant bias
falls back towards cross-entropy late in training (a review of 2306.05497 at ICLR 2024; Ou & Zhang,
2305.02139). A schedule multiplies ε by a factor in [0, 1] that depends on progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable

EPSILON_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "step": lambda progress: 1.0 if progress < 0.5 else 0.0,
}
"""Name → factor of ε at a progress in [0, 1]; all but `constant` end at 0, `step` from halfway."""


def epsilon_factor(schedule: str, progress: float) -> float:
    """Factor in [0, 1] by which `schedule` multiplies ε at `progress` (0 first, 1 last step).

    Raises ValueError for an unknown schedule or a progress outside [0, 1].
    """
    if schedule not in EPSILON_SCHEDULES:
        allowed = ", ".join(EPSILON_SCHEDULES)
        raise ValueError(f"unknown epsilon schedule {schedule!r}: allowed are {allowed}")
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress = {progress:g}: must lie in [0, 1]")
    return EPSILON_SCHEDULES[schedule](progress)
