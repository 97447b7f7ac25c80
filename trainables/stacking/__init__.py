"""K networks of one architecture, evaluated as one program.

`stack(model, K)` takes an ordinary module apart and puts it together again with every layer that
owns parameters replaced by its stacked twin, whose parameters have a leading member axis. What lies
between the layers (the module's own `forward`, activations, residual sums, pooling) runs as it is:
members are folded into the batch axis, so the module sees an ordinary batch of K·B examples
and need not know that it holds K networks, as long as it leaves the batch axis to its layers.

    input [B, …]  ──first layer──▶  [K·B, …]  ──…──▶  logits [K, B, classes]

Up to its first layer with parameters all members see the same B examples, which are therefore not
copied K times. K = 1 runs the same code.

That is the arrangement `folded`: a CPU's, where a member's result does not depend on K. On a GPU,
networks that convolve have one of two others:

- `wide`: members lie in the channel axis, [B, K·C, H, W], so that K convolutions are one grouped
  convolution and K batch norms one. Fastest for narrow layers. A module whose `forward` does
  something with channels by itself would mix its members up; a trial finds that (`trial.py`).
- `apart`: each member is evaluated by itself, on a stream of its own (`apart.py`). For the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from trainables.models.convolutional import PadChannels
from trainables.stacking.compiling import Compiled
from trainables.stacking.layers.convolutional import (
    StackedBatchNorm,
    StackedConv2d,
    StackedPadChannels,
)
from trainables.stacking.layers.linear import StackedLinear
from trainables.stacking.layout import Layout, UnsupportedLayerError
from trainables.stacking.streams import evaluate_apart, ordinary
from trainables.stacking.verification import check_stacking, why_not_wide

__all__ = ["StackedModel", "UnsupportedLayerError", "check_stacking", "stack"]

_TWINS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
    PadChannels: StackedPadChannels,
}
_NARROW = 64  # channels of a convolution up to which K of them are faster as one, on an H200
_RANDOM = (nn.modules.dropout._DropoutNd,)


class StackedModel(nn.Module):
    """K independent networks of one architecture; made by `stack`.

    Attributes:
        arrangement: how members are evaluated, `folded`, `wide` or `apart` (see this module); None
            chooses by device and model.
        compiles: whether training uses torch.compile where that is supported: wide or apart.
    """

    arrangement: str | None = None
    compiles: bool = False

    def __init__(self, model: nn.Module, members: int) -> None:
        super().__init__()
        everywhere = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        shared = set(everywhere) - {name for name, _ in model.named_parameters()}
        if shared:
            raise UnsupportedLayerError(
                f"model parameters {', '.join(sorted(shared))} are shared between layers"
            )
        self._layout = Layout(members)
        self._compiled: Compiled | None = None
        self._one = (copy.deepcopy(model),)  # in a tuple, so that its parameters are not this one's
        self.network = _with_twins(copy.deepcopy(model), self._layout, path="")
        first = next((m for m in self.network.modules() if type(m) in _TWINS.values()), None)
        if isinstance(first, StackedLinear):
            first.transpose_in_memory()

    @property
    def members(self) -> int:
        """Number of networks."""
        return self._layout.members

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, classes] of inputs [B, …] that all members share."""
        if self.arrangement is None:
            self.arrangement = self._best(x)
        try:
            return self._logits(x)
        except RuntimeError as error:
            # `view` after a convolution counts on channels where plain PyTorch has them.
            if not (self._layout.channels_last and "view size is not compatible" in str(error)):
                raise
            self._layout.channels_last = False
            return self._logits(x)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        layout = self._layout
        if self.arrangement == "apart":
            self._one[0].train(self.training)
            own = dict(self.network.named_parameters()), dict(self.network.named_buffers())
            return evaluate_apart(self._evaluate, *own, x, layout.channels_last)
        layout.batch = x.shape[0]
        layout.wide = self.arrangement == "wide" and self.members > 1
        return layout.unfold(self._evaluate(x)).contiguous()

    @property
    def _evaluate(self) -> Callable[..., torch.Tensor]:
        """Of a member apart, (parameters and buffers, x) → logits; else x → all logits."""
        apart = self.arrangement == "apart"
        plain = ordinary(self._one[0]) if apart else self.network
        trains = self.training and torch.is_grad_enabled()
        if not (self.compiles and trains) or self.arrangement == "folded":
            return plain
        if self._compiled is None:
            self._compiled = Compiled(plain)
        return self._compiled

    def _best(self, x: torch.Tensor) -> str:
        """The fastest arrangement, as measured; docs/engine.md has the numbers."""
        filters = [m.weight for m in self.modules() if isinstance(m, StackedConv2d)]
        if not x.is_cuda or not filters:
            return "folded"
        if self.members == 1 or max(weight.shape[1] for weight in filters) > _NARROW:
            return "apart"
        return "wide" if why_not_wide(self, x.shape) is None else "apart"

    def select(self, kept: list[int]) -> StackedModel:
        """The same networks without those that are not in `kept`."""
        smaller = StackedModel(self._one[0], len(kept)).train(self.training)
        smaller.arrangement, smaller.compiles = self.arrangement, self.compiles
        smaller._layout.channels_last = self._layout.channels_last
        parameter = next(self.parameters())
        smaller.to(parameter.device, parameter.dtype)
        own = self.network.state_dict()
        for name, value in smaller.network.state_dict().items():
            value.copy_(own[name][kept])
        return smaller

    @torch.no_grad()
    def load_member(self, member: int, model: nn.Module) -> None:
        """Copy an ordinary model's parameters and buffers into member `member`."""
        own = self.network.state_dict()
        for name, value in model.state_dict().items():
            own[name][member].copy_(value)

    @torch.no_grad()
    def store_member(self, member: int, model: nn.Module) -> None:
        """Copy member `member` into an ordinary model of the same architecture."""
        own = self.network.state_dict()
        for name, value in model.state_dict().items():
            value.copy_(own[name][member])


def stack(model: nn.Module, members: int) -> StackedModel:
    """K = `members` networks with the architecture of `model`, each starting as its copy.

    Raises
    ------
    UnsupportedLayerError: a layer has parameters or randomness of its own and no stacked twin.
    """
    return StackedModel(model, members)


def _with_twins(module: nn.Module, layout: Layout, path: str) -> nn.Module:
    twin = _TWINS.get(type(module))
    if twin is not None:
        return twin(module, layout)
    own = [name for name, _ in module.named_parameters(recurse=False)]
    own += [name for name, _ in module.named_buffers(recurse=False)]
    if own or isinstance(module, _RANDOM):
        what = f"parameters or buffers ({', '.join(own)})" if own else "randomness"
        raise UnsupportedLayerError(
            f"model layer {path or 'itself'} ({type(module).__name__}) has {what} of its own; "
            f"layers that can: {', '.join(t.__name__ for t in _TWINS)}"
        )
    in_sequence = type(module).forward is nn.Sequential.forward
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module._modules.items()):  # `named_children` leaves repetitions out
        if child is None:
            continue
        if in_sequence and before and type(before[1]) is nn.ReLU and type(child) is nn.Linear:
            setattr(module, before[0], nn.Identity())
            setattr(module, name, StackedLinear(child, layout, before[1]))
        else:
            setattr(module, name, _with_twins(child, layout, f"{path}.{name}".lstrip(".")))
        before = name, child
    return module
