"""K linear layers as one layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainables.stacking.layers.registry import stacks
from trainables.stacking.layout import (
    Layout,
    UnsupportedLayerError,
    autocast_dtype,
    stacked_parameter,
)
from trainables.stacking.matmul import matmul


@stacks(nn.Linear)
class StackedLinear(nn.Module):
    """K linear layers: weight [K, out, in], bias [K, out].

    Args:
        layer: the ordinary layer.
        layout: where members lie.
        relu: a ReLU directly before the layer, which the layer then applies itself and
            differentiates in place: a separate tensor took 2 % of the time of a small MLP.
    """

    def __init__(self, layer: nn.Linear, layout: Layout, relu: nn.ReLU | None = None) -> None:
        super().__init__()
        self._layout, self._relu = layout, relu
        self.weight = stacked_parameter(layer.weight, layout.members)
        self.bias = None if layer.bias is None else stacked_parameter(layer.bias, layout.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply each member's layer to its inputs.

        Args:
            x: two axes, examples and features; shared by all members, or merged as the layout
                says.

        Returns:
            the members' results, merged as the layout says.

        Raises:
            UnsupportedLayerError: `x` has another number of axes.
        """
        if x.dim() != 2:
            raise UnsupportedLayerError(
                f"the input of a linear layer has {x.dim()} dimensions; a stacked one takes two, "
                "examples and features"
            )
        output: torch.Tensor = _Linear.apply(
            x, self.weight, self.bias, replace(self._layout), self._relu
        )
        return output

    def transpose_in_memory(self) -> None:
        """Store the weight as [K, in, out]; only speed changes.

        The forward product then has no transposed matrix, which makes it a fifth faster, but the
        product for the inputs' gradient has one. A model's first layer does not compute the latter.
        """
        transposed = self.weight.detach().mT.contiguous().mT
        self.weight = nn.Parameter(transposed, requires_grad=self.weight.requires_grad)


class _Linear(torch.autograd.Function):
    """The layer of `StackedLinear` with its gradients.

    Autograd's own rule for `baddbmm` computes the weight's gradient transposed and then copies it;
    here it is computed in the memory order of the weight. The result is not a view, so an
    activation may work on it in place. With `relu` the function is that of relu(x).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        layout: Layout,
        relu: nn.ReLU | None,
    ) -> torch.Tensor:
        if relu is not None:
            x = relu(x)
        lower = autocast_dtype(x)
        if lower is not None:
            x, weight = x.to(lower), weight.to(lower)
            bias = None if bias is None else bias.to(lower)
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.layout, ctx.has_relu = bias is not None, layout, relu is not None
        _, features, inputs = weight.shape
        output = x.new_empty(layout.merged_shape(features))
        matmul(
            layout.split_input(x, inputs), weight.mT, bias=bias, out=layout.split_members(output)
        )
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layout = ctx.layout
        x, weight = (saved.to(gradients[0].dtype) for saved in ctx.saved_tensors)
        inputs = weight.shape[2]
        gradient = layout.split_members(gradients[0])
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient.new_empty(layout.merged_shape(inputs))
            matmul(gradient, weight, out=layout.split_members(for_x))
            if layout.is_shared(x, inputs):
                for_x = layout.split_members(for_x).sum(0)
            if ctx.has_relu:
                torch.ops.aten.threshold_backward.grad_input(for_x, x, 0, grad_input=for_x)
        x = layout.split_input(x, inputs)
        return (
            for_x,
            matmul(gradient.mT, x) if weight.is_contiguous() else matmul(x.mT, gradient).mT,
            gradient.sum(1) if ctx.has_bias else None,
            None,
            None,
        )
