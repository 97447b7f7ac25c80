"""K convolutions with batch normalisation, sum and ReLU as one layer."""

from __future__ import annotations

import torch
from torch import nn

from trainables import kernels
from trainables.models.conv_norm_relu import ConvNormReLU
from trainables.stacking.layers.batch_norm import StackedBatchNorm
from trainables.stacking.layers.convolutional import StackedConv2d
from trainables.stacking.layers.registry import stacks
from trainables.stacking.layout import Layout


@stacks(ConvNormReLU)
class StackedConvNormReLU(nn.Module):
    """K blocks of convolution, batch normalisation, sum and ReLU."""

    def __init__(self, layer: ConvNormReLU, layout: Layout) -> None:
        super().__init__()
        self._layout, self._stride, self._channels = (
            layout,
            layer.conv.stride[0],
            layer.conv.in_channels,
        )
        self.conv = StackedConv2d(layer.conv, layout)
        self.norm = StackedBatchNorm(layer.norm, layout)

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """Evaluate all members.

        Args:
            x: images, shared by all members or merged as the layout says.
            shortcut: images like the result; None for 0.

        Returns:
            the members' results, merged as the layout says.
        """
        layout = self._layout
        if layout.grouped and kernels.can_fuse(x, training=self.training):
            running = self.norm.count_batch() if self.training else self.norm.running_statistics()
            return kernels.convolve_normalise(
                x,
                self.conv.weight.flatten(0, 1),
                self.norm.weight.flatten(),
                self.norm.bias.flatten(),
                running,
                shortcut,
                training=self.training,
                stride=self._stride,
                groups=1 if layout.is_shared(x, self._channels) else layout.members,
            )
        y: torch.Tensor = self.norm(self.conv(x))
        return torch.relu(y if shortcut is None else y + shortcut)
