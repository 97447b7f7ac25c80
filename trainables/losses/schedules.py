"""Schedules of the logit bias over training.

With a constant ε the network comes to rely on the bias: at high label noise, a loss with a constant
bias falls back towards cross-entropy late in training (a review of arXiv 2306.05497 at ICLR 2024;
Ou & Zhang, arXiv 2305.02139). A schedule multiplies ε by a factor in [0, 1] that depends on the
progress of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trainables.errors import did_you_mean

EPSILON_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "step": lambda progress: 1.0 if progress < 0.5 else 0.0,
}
"""Name → factor of ε at a progress in [0, 1]; all except `constant` end at 0, `step` halfway."""


def epsilon_factor(schedule: str, progress: float) -> float:
    """Factor by which a schedule multiplies ε.

    Args:
        schedule: a name in `EPSILON_SCHEDULES`.
        progress: in [0, 1]; 0 is the first training step, 1 the last.

    Returns:
        The factor, in [0, 1].

    Raises:
        ValueError: unknown schedule, or progress outside [0, 1].
    """
    if schedule not in EPSILON_SCHEDULES:
        raise ValueError(
            f"unknown epsilon schedule {schedule!r}{did_you_mean(schedule, EPSILON_SCHEDULES)}"
        )
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress = {progress:g}: must lie in [0, 1]")
    return EPSILON_SCHEDULES[schedule](progress)
