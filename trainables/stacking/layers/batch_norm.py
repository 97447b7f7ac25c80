"""K batch normalisations as one layer."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import nn

from trainables.kernels import RunningStatistics
from trainables.stacking.layers.registry import stacks
from trainables.stacking.layout import Layout, UnsupportedLayerError, stacked_parameter


@stacks(nn.BatchNorm1d, nn.BatchNorm2d)
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
        """Normalise each member by its own statistics.

        Args:
            x: shared by all members, or merged as the layout says.

        Returns:
            the members' results, merged as the layout says.
        """
        layout = self._layout
        if self.training:
            self.num_batches_tracked.add_(1)
        if layout.grouped:
            if layout.is_shared(x, self._channels):
                x = x.repeat(1, layout.members, *[1] * (x.dim() - 2))
            return self._normalised(x, torch.Tensor.flatten)
        inputs = [x]
        if layout.members > 1:
            inputs = list(layout.split_input(x, self._channels).unbind())
        outputs = [self._normalised(xk, operator.itemgetter(k)) for k, xk in enumerate(inputs)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def count_batch(self) -> RunningStatistics:
        """Count one more batch of training.

        Returns:
            the running statistics of all members, [K·C] each, in the memory of this layer.
        """
        self.num_batches_tracked.add_(1)
        return self.running_statistics()

    def running_statistics(self) -> RunningStatistics:
        """The running statistics of all members, [K·C] each, in the memory of this layer."""
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)
        return RunningStatistics(mean, var, self._momentum, self._eps)

    def _normalised(
        self, x: torch.Tensor, pick: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Normalise `x` by the statistics that `pick` takes from [K, C]."""
        return nn.functional.batch_norm(
            x,
            pick(self.running_mean),
            pick(self.running_var),
            pick(self.weight),
            pick(self.bias),
            training=self.training,
            momentum=self._momentum,
            eps=self._eps,
        )
