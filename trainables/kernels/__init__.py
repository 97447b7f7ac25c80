"""Triton kernels for small convolutional networks on a GPU.

`block.convolve_normalise` is the entry: a convolution, its batch normalisation, an optional sum and
a ReLU, forward and backward. `sgd.update` is the optimiser's step. Memory traffic limits such
networks, so the kernels read and write each number as seldom as possible.
"""

from trainables.kernels.block import (
    VARIABLE,
    RunningStatistics,
    are_available,
    can_fuse,
    convolve_normalise,
    is_finite,
)

__all__ = [
    "VARIABLE",
    "RunningStatistics",
    "are_available",
    "can_fuse",
    "convolve_normalise",
    "is_finite",
]
