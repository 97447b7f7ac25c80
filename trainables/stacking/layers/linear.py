"""K linear layers as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainables.stacking.layout import (
    Layout,
    UnsupportedLayerError,
    autocast_dtype,
    stacked_parameter,
)
from trainables.stacking.matmul import matrix_product


class StackedLinear(nn.Module):
    """K linear layers: weight [K, out, in], bias [K, out].

    Parameters
    ----------
    before: a ReLU that comes directly before the layer and is then done here. Its gradient is
        taken in place: a tensor of its own was 2 % of the time of a small MLP.
    """

    def __init__(self, layer: nn.Linear, layout: Layout, before: nn.ReLU | None = None) -> None:
        super().__init__()
        self._layout, self._relu = layout, before
        self.weight = stacked_parameter(layer.weight, layout.members)
        self.bias = None if layer.bias is None else stacked_parameter(layer.bias, layout.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All members' inputs, or shared ones, → all members' outputs, as the layout has them.

        Raises
        ------
        UnsupportedLayerError: inputs are not [examples, features].
        """
        if x.dim() != 2:
            raise UnsupportedLayerError(
                f"a linear layer is given {x.dim()} dimensions; stacked it takes two, "
                "examples and features"
            )
        layout, relu = replace(self._layout), self._relu
        found: torch.Tensor = _Linear.apply(x, self.weight, self.bias, layout, relu)
        return found

    def transpose_in_memory(self) -> None:
        """Let the weight lie as [K, in, out], which changes nothing but speed.

        The forward product then has no transposed matrix, which makes it a fifth faster, but the
        gradient of the inputs has one. A model's first layer needs none.
        """
        transposed = self.weight.detach().mT.contiguous().mT
        self.weight = nn.Parameter(transposed, requires_grad=self.weight.requires_grad)


class _Linear(torch.autograd.Function):
    """Weight [K, out, in], bias [K, out] or None; x and what comes out as the layout has them.

    Autograd's own rule for `baddbmm` makes the weight's gradient transposed and then copies it;
    here it is made as the weight lies in memory. The result is no view, so that an activation may
    work in place on it. With `relu` the layer is that of relu(x).
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
        found = x.new_empty(layout.shape(features))
        matrix_product(
            layout.unfold_input(x, inputs), weight.mT, bias=bias, out=layout.unfold(found)
        )
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layout = ctx.layout
        x, weight = (saved.to(gradients[0].dtype) for saved in ctx.saved_tensors)
        inputs = weight.shape[2]
        gradient = layout.unfold(gradients[0])
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient.new_empty(layout.shape(inputs))
            matrix_product(gradient, weight, out=layout.unfold(for_x))
            if layout.is_shared(x, inputs):
                for_x = layout.unfold(for_x).sum(0)
            if ctx.has_relu:
                torch.ops.aten.threshold_backward.grad_input(for_x, x, 0, grad_input=for_x)
        x = layout.unfold_input(x, inputs)
        return (
            for_x,
            matrix_product(gradient.mT, x)
            if weight.is_contiguous()
            else matrix_product(x.mT, gradient).mT,
            gradient.sum(1) if ctx.has_bias else None,
            None,
            None,
        )
