"""K convolutions as one, and what goes with them.

Folded, members are convolved one after the other: on a CPU one call for all was measured slower,
and so a member's result does not depend on K. Wide, one convolution with K groups takes all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainables.models.convolutional import PadChannels
from trainables.stacking.layout import (
    Layout,
    UnsupportedLayerError,
    autocast_dtype,
    stacked_parameter,
)


class StackedConv2d(nn.Module):
    """K convolutions: weight [K, out, in/groups, …], bias [K, out]."""

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
        """All members' images, or shared ones, → all members', as the layout has them."""
        if self._layout.wide:
            return self._grouped(x)
        images = [x]
        if self._layout.members > 1:
            images = list(self._layout.unfold_input(x, self._channels).unbind())
        biases = [None] * len(images) if self.bias is None else self.bias.unbind()
        each = [
            nn.functional.conv2d(self._as_laid(xk), wk, bk, *self._options, self._groups)
            for xk, wk, bk in zip(images, self.weight.unbind(), biases, strict=True)
        ]
        return each[0] if len(each) == 1 else torch.cat(each)

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        """All members in one call: an ordinary convolution of shared images, else a grouped one."""
        members, groups = self._layout.members, self._groups
        if not self._layout.is_shared(x, self._channels):
            groups *= members
        elif groups > 1:
            x, groups = x.repeat(1, members, 1, 1), groups * members
        bias = None if self.bias is None else self.bias.flatten()
        found: torch.Tensor = _GroupedConvolution.apply(
            self._as_laid(x), self.weight.flatten(0, 1), bias, *self._options, groups
        )
        return found

    def _as_laid(self, x: torch.Tensor) -> torch.Tensor:
        if not self._layout.channels_last:
            return x
        return x.contiguous(memory_format=torch.channels_last)


class _GroupedConvolution(torch.autograd.Function):
    """A convolution whose groups stay apart whatever is in them.

    cuDNN may take several narrow groups as one, with zeros between them, and 0 · NaN = NaN: a lost
    network would reach its neighbours, forward by its activations and backward by its gradients
    (seen on an H200 with 3 channels a group, not with 16 or more). What is not finite becomes 0
    there; that costs 7 % of a ResNet-32's step. The lost network's own weights stay as they are.
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


class StackedBatchNorm(nn.Module):
    """K batch normalisations, each with its own statistics: weight, bias, running_* [K, C]."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, layout: Layout) -> None:
        super().__init__()
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        self.num_batches_tracked: torch.Tensor
        if layer.momentum is None or not layer.affine or not layer.track_running_stats:
            raise UnsupportedLayerError(
                f"{layer}: only an affine batch norm with running statistics can be stacked"
            )
        self._layout, self._channels = layout, layer.num_features
        self._eps, self._momentum = layer.eps, layer.momentum
        self.weight = stacked_parameter(layer.weight, layout.members)
        self.bias = stacked_parameter(layer.bias, layout.members)
        for name, value in layer.named_buffers():
            self.register_buffer(name, value.expand(layout.members, *value.shape).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All members' x, or a shared one, → all members', each by its own statistics."""
        layout = self._layout
        if self.training:
            self.num_batches_tracked.add_(1)
        if layout.wide:
            if layout.is_shared(x, self._channels):
                x = x.repeat(1, layout.members, *[1] * (x.dim() - 2))
            return self._normalised(x, torch.Tensor.flatten)
        members = [x]
        if layout.members > 1:
            members = list(layout.unfold_input(x, self._channels).unbind())
        each = [self._normalised(xk, operator.itemgetter(k)) for k, xk in enumerate(members)]
        return each[0] if len(each) == 1 else torch.cat(each)

    def _normalised(
        self, x: torch.Tensor, part: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """`x` by a part of the statistics [K, C]."""
        return nn.functional.batch_norm(
            x,
            part(self.running_mean),
            part(self.running_var),
            part(self.weight),
            part(self.bias),
            training=self.training,
            momentum=self._momentum,
            eps=self._eps,
        )


class StackedPadChannels(nn.Module):
    """Zeros for channels that are new, after each member's own."""

    def __init__(self, layer: PadChannels, layout: Layout) -> None:
        super().__init__()
        self._layer, self._layout = layer, layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All members' images → all members', as the layout has them."""
        if not self._layout.wide:
            padded: torch.Tensor = self._layer(x)
            return padded
        apart = x.unflatten(1, (self._layout.members, -1))
        new = (0, 0, 0, 0, 0, self._layer.channels)
        return nn.functional.pad(apart, new).flatten(1, 2)
