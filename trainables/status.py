"""How a network's training ended."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The column `status` of `trials`."""

    COMPLETE = "complete"
    """Trained to the last epoch."""
    DIVERGED = "diverged"
    """Not finite or grown out of bounds; counts with the accuracy of guessing, 1 / classes."""
    PRUNED = "pruned"
    """Stopped early by successive halving."""
