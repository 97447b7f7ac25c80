"""Where K members lie in the tensors between layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


class UnsupportedLayerError(ValueError):
    """A model that cannot be stacked; the message is one line for the user."""


@dataclass
class Layout:
    """Where members lie in the tensors between layers, for the current batch.

    Members are merged into the batch axis, [K·B, C, …], where the rows of one member are adjacent,
    or into the channel axis, [B, K·C, …], where the channels of one member are adjacent. Before
    the first layer with parameters a tensor is shared: [B, C, …], the same for all members.

    Images are stored channels last: twice as fast on a CPU, three times on an H200, and the layers
    after a convolution keep that memory format.

    Attributes:
        members: K.
        batch: B, the number of examples in the current batch.
        grouped: whether members lie in the channel axis instead of the batch axis.
        channels_last: whether images are stored channels last.
    """

    members: int
    batch: int = 0
    grouped: bool = False
    channels_last: bool = True

    def is_shared(self, x: torch.Tensor, channels: int) -> bool:
        """Whether the input `x` of a layer with `channels` inputs is the same for all members."""
        return x.shape[1] == channels if self.grouped else x.shape[0] == self.batch

    def merged_shape(self, features: int) -> tuple[int, int]:
        """Shape of a merged tensor that has `features` numbers per member and example."""
        if self.grouped:
            return self.batch, self.members * features
        return self.members * self.batch, features

    def split_members(self, x: torch.Tensor) -> torch.Tensor:
        """Give a merged tensor a leading member axis, without a copy.

        Args:
            x: shape [K·B, …], or [B, K·F] where members lie in the channel axis.

        Returns:
            shape [K, B, …], a view.
        """
        if self.grouped:
            return torch.unflatten(x, 1, (self.members, -1)).transpose(0, 1)
        return x.view(self.members, self.batch, *x.shape[1:])

    def merge_members(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `split_members`.

        Args:
            x: shape [K, B, …].

        Returns:
            shape [K·B, …], or [B, K·F, …] where members lie in the channel axis.
        """
        if self.grouped:
            return x.transpose(0, 1).flatten(1, 2)
        return x.flatten(0, 1)

    def split_input(self, x: torch.Tensor, channels: int) -> torch.Tensor:
        """Give a layer's input a leading member axis, without a copy.

        Args:
            x: merged, or shared by all members.
            channels: number of inputs of the layer, per member.

        Returns:
            shape [K, B, …], a view.
        """
        if self.is_shared(x, channels):
            return x.expand(self.members, *x.shape)
        return self.split_members(x)


def autocast_dtype(x: torch.Tensor) -> torch.dtype | None:
    """The lower precision in which autocast wants layers to compute; None where it is off."""
    kind = x.device.type  # `meta`, on which shapes are computed, has no autocast
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def stacked_parameter(parameter: torch.Tensor, members: int) -> nn.Parameter:
    """K copies of a parameter, one per member: shape [K, …]."""
    stacked = parameter.detach().expand(members, *parameter.shape).clone()
    return nn.Parameter(stacked, requires_grad=parameter.requires_grad)
