"""K convolutions as one layer, and the padding of channels.

With members in the batch axis, members are convolved one by one: on a CPU one call for all of them
was measured slower, and a member's result then does not depend on K. With members in the channel
axis, all of them are one convolution with K groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainables.models.convolutional import PadChannels
from trainables.stacking.layers.registry import stacks
from trainables.stacking.layout import (
    Layout,
    UnsupportedLayerError,
    autocast_dtype,
    stacked_parameter,
)


@stacks(nn.Conv2d)
class StackedConv2d(nn.Module):
    """K convolutions: weight [K, out, in/groups, h, w], bias [K, out]."""

    def __init__(self, layer: nn.Conv2d, layout: Layout) -> None:
        super().__init__()
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise UnsupportedLayerError(
                f"{layer}: padding must be a number of zeros on each side to be stacked"
            )
        self._layout = layout
        self._options = (layer.stride, layer.padding, layer.dilation)
        self._channels, self._groups = layer.in_channels, layer.groups
        self.weight = stacked_parameter(layer.weight, layout.members)
        self.bias = None if layer.bias is None else stacked_parameter(layer.bias, layout.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve each member's images by its own filters.

        Args:
            x: images, shared by all members or merged as the layout says.

        Returns:
            the members' results, merged as the layout says.
        """
        if self._layout.grouped:
            return self._grouped(x)
        inputs = [x]
        if self._layout.members > 1:
            inputs = list(self._layout.split_input(x, self._channels).unbind())
        biases = [None] * len(inputs) if self.bias is None else self.bias.unbind()
        outputs = [
            nn.functional.conv2d(self._in_format(xk), wk, bk, *self._options, self._groups)
            for xk, wk, bk in zip(inputs, self.weight.unbind(), biases, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def store_filters_channels_last(self) -> None:
        """Store each member's filters channels last; see `StackedModel`."""
        filters = self.weight.data.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        self.weight.data = torch.unflatten(filters, 0, self.weight.shape[:2])

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        """All members in one call: an ordinary convolution of shared images, else a grouped one."""
        members, groups = self._layout.members, self._groups
        if not self._layout.is_shared(x, self._channels):
            groups *= members
        elif groups > 1:
            x, groups = x.repeat(1, members, 1, 1), groups * members
        bias = None if self.bias is None else self.bias.flatten()
        output: torch.Tensor = _GroupedConvolution.apply(
            self._in_format(x), self.weight.flatten(0, 1), bias, *self._options, groups
        )
        return output

    def _in_format(self, x: torch.Tensor) -> torch.Tensor:
        if not self._layout.channels_last:
            return x
        return x.contiguous(memory_format=torch.channels_last)


class _GroupedConvolution(torch.autograd.Function):
    """A grouped convolution in which no group can affect another one.

    cuDNN may merge several narrow groups into one, with zeros between them, and 0 · NaN = NaN: a
    diverged network would change its neighbours, forward through its activations and backward
    through its gradients (observed on an H200 with 3 channels per group, not with 16 or more).
    Values that are not finite therefore become 0 here, which costs 7 % of a ResNet-32's step. The
    diverged network's own weights are not changed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> torch.Tensor:
        lower = autocast_dtype(x)
        if lower is not None:
            x, weight = x.to(lower), weight.to(lower)
            bias = None if bias is None else bias.to(lower)
        x = x.nan_to_num(0.0, 0.0, 0.0)
        ctx.save_for_backward(x, weight)
        ctx.bias_shape = None if bias is None else list(bias.shape)
        ctx.options = stride, padding, dilation, groups
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        for_x, for_weight, for_bias = torch.ops.aten.convolution_backward(
            gradients[0].nan_to_num(0.0, 0.0, 0.0),
            x,
            weight,
            ctx.bias_shape,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            groups,
            list(ctx.needs_input_grad[:3]),
        )
        return for_x, for_weight, for_bias, None, None, None, None


@stacks(PadChannels)
class StackedPadChannels(nn.Module):
    """Channels of zeros after each member's channels."""

    def __init__(self, layer: PadChannels, layout: Layout) -> None:
        super().__init__()
        self._layer, self._layout = layer, layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the channels to each member's images, which are merged as the layout says."""
        if not self._layout.grouped:
            padded: torch.Tensor = self._layer(x)
            return padded
        members = torch.unflatten(x, 1, (self._layout.members, -1))
        padding = (0, 0, 0, 0, 0, self._layer.channels)
        return nn.functional.pad(members, padding).flatten(1, 2)
