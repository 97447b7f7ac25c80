"""The three ways in which K members are evaluated, and the rule that chooses between them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

_LARGEST_GROUP = 64  # most channels at which a grouped convolution is faster; on an H200


class Arrangement(Enum):
    """How the members of a stacked model are evaluated."""

    BATCH = "batch"
    """Members lie in the batch axis, [K·B, C, …]. Convolutions run member by member."""
    GROUPED = "grouped"
    """Members lie in the channel axis, [B, K·C, H, W]: one grouped convolution for all members."""
    STREAMS = "streams"
    """Each member is evaluated as an ordinary module, on a GPU on up to eight CUDA streams."""


def fastest_arrangement(
    *, on_gpu: bool, members: int, widest: int, can_be_grouped: Callable[[], bool]
) -> Arrangement:
    """The fastest arrangement by measurement; docs/engine.md has the numbers.

    Args:
        on_gpu: whether the model is evaluated on a GPU.
        members: K.
        widest: largest number of output channels of a convolution; 0 where there is none.
        can_be_grouped: says whether the model computes the same with its members in the channel
            axis; called only where that arrangement would be the fastest.

    Returns:
        the arrangement.
    """
    if not on_gpu or not widest:
        return Arrangement.BATCH
    if members == 1 or widest > _LARGEST_GROUP:
        return Arrangement.STREAMS
    return Arrangement.GROUPED if can_be_grouped() else Arrangement.STREAMS
