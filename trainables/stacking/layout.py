"""How K networks share one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


class UnsupportedLayerError(ValueError):
    """A model has a layer with parameters (or randomness) that has no stacked twin."""


@dataclass
class Layout:
    """Where members are in the tensors between layers, for the batch in hand.

    Folded: [K·B, C, …], each member's rows are neighbours. Wide: [B, K·C, …], each member's
    channels are. In both, tensors that come before the first layer with parameters are shared:
    [B, C, …], the same for all members.

    Images lie with channels last: twice as fast on a CPU, three times on an H200, and what follows
    a convolution keeps it.
    """

    members: int
    batch: int = 0
    wide: bool = False
    channels_last: bool = True

    def is_shared(self, x: torch.Tensor, channels: int) -> bool:
        """Whether all members see the same `x`, which a layer of so many channels is given."""
        return x.shape[1] == channels if self.wide else x.shape[0] == self.batch

    def shape(self, features: int) -> tuple[int, int]:
        """Of a tensor with so many features a member and example."""
        if self.wide:
            return self.batch, self.members * features
        return self.members * self.batch, features

    def unfold(self, x: torch.Tensor) -> torch.Tensor:
        """All members' [K·B, …] or [B, K·F] → [K, B, …], without a copy."""
        if self.wide:
            return x.unflatten(1, (self.members, -1)).transpose(0, 1)
        return x.view(self.members, self.batch, *x.shape[1:])

    def unfold_input(self, x: torch.Tensor, channels: int) -> torch.Tensor:
        """As `unfold`, where `x` may also be shared."""
        if self.is_shared(x, channels):
            return x.expand(self.members, *x.shape)
        return self.unfold(x)


def autocast_dtype(x: torch.Tensor) -> torch.dtype | None:
    """The lower precision in which autocast wants layers to compute; None where it is off."""
    kind = x.device.type  # `meta`, on which shapes are tried, has no autocast
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None


def stacked_parameter(parameter: torch.Tensor, members: int) -> nn.Parameter:
    """A parameter with a leading member axis, each member starting with a copy."""
    stacked = parameter.detach().expand(members, *parameter.shape).clone()
    return nn.Parameter(stacked, requires_grad=parameter.requires_grad)
