"""A convolution with batch normalisation, an optional sum and a ReLU."""

from __future__ import annotations

import torch
from torch import nn

from trainables import kernels


class ConvNormReLU(nn.Module):
    """relu(batch_norm(conv(x)) + shortcut); the convolution has no bias.

    On a GPU it is one operation (`trainables.kernels`), elsewhere three or four.

    Args:
        channels: of the input images.
        out: of the output images.
        stride: of the 3×3 window.
    """

    def __init__(self, channels: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """Images [batch, `out`, H', W'].

        Args:
            x: images [batch, `channels`, H, W].
            shortcut: images like the result; None for 0.
        """
        if kernels.can_fuse(x, training=self.training):
            conv, norm = self.conv, self.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            if self.training:
                norm.num_batches_tracked.add_(1)
            running = kernels.RunningStatistics(
                norm.running_mean, norm.running_var, norm.momentum or 0.0, norm.eps
            )
            return kernels.convolve_normalise(
                x,
                conv.weight,
                norm.weight,
                norm.bias,
                running,
                shortcut,
                training=self.training,
                stride=conv.stride[0],
            )
        y: torch.Tensor = self.norm(self.conv(x))
        return torch.relu(y if shortcut is None else y + shortcut)
