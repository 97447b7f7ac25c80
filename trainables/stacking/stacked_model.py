"""A module whose layers hold the parameters of K networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from trainables.stacking.arrangements import Arrangement, fastest_arrangement
from trainables.stacking.compiling import Compiled
from trainables.stacking.layers import STACKED_LAYERS, StackedConv2d, StackedLinear
from trainables.stacking.layout import Layout, UnsupportedLayerError
from trainables.stacking.streams import evaluate_on_streams, functional_module
from trainables.stacking.verification import why_not_grouped

_RANDOM = (nn.modules.dropout._DropoutNd,)


class StackedModel(nn.Module):
    """K independent networks of one architecture; made by `stack`.

    Attributes:
        arrangement: how members are evaluated; None until the first batch, whose device and
            the model then decide.
        compiles: whether training uses torch.compile where that is supported, which is in the
            arrangements GROUPED and STREAMS.
        network: the module with stacked layers; all parameters have shape [K, …].
    """

    arrangement: Arrangement | None = None
    compiles: bool = False

    def __init__(self, model: nn.Module, members: int) -> None:
        super().__init__()
        _refuse_shared_parameters(model)
        self._layout = Layout(members)
        self._compiled: Compiled | None = None
        self._template = (copy.deepcopy(model),)  # a tuple, so that torch does not register it
        self.network = _with_stacked_layers(copy.deepcopy(model), self._layout, path="")
        kinds = tuple(STACKED_LAYERS.values())
        first = next((m for m in self.network.modules() if type(m) in kinds), None)
        if isinstance(first, StackedLinear):
            first.transpose_in_memory()

    @property
    def members(self) -> int:
        """Number of networks, K."""
        return self._layout.members

    def forward(self, x: torch.Tensor, *, is_shared: bool = True) -> torch.Tensor:
        """Evaluate all members, on the same inputs or each on its own.

        Args:
            x: shape [B, …], or [K, B, …] where members have inputs of their own.
            is_shared: whether all members have the same inputs.

        Returns:
            logits, shape [K, B, classes].
        """
        if self.arrangement is None:
            self.arrangement = self._fastest_arrangement(x if is_shared else x[0])
        try:
            return self._logits(x, is_shared)
        except RuntimeError as error:
            # `view` after a convolution needs the memory format of plain PyTorch.
            if not (self._layout.channels_last and "view size is not compatible" in str(error)):
                raise
            self._layout.channels_last = False
            return self._logits(x, is_shared)

    def _logits(self, x: torch.Tensor, is_shared: bool) -> torch.Tensor:
        layout = self._layout
        if self.arrangement is Arrangement.STREAMS:
            self._template[0].train(self.training)
            parameters = dict(self.network.named_parameters())
            buffers = dict(self.network.named_buffers())
            return evaluate_on_streams(
                self._evaluate,
                parameters,
                buffers,
                x,
                is_shared=is_shared,
                channels_last=layout.channels_last,
            )
        layout.batch = x.shape[0] if is_shared else x.shape[1]
        layout.grouped = self.arrangement is Arrangement.GROUPED and self.members > 1
        if not is_shared:
            x = layout.merge_members(x)
        return layout.split_members(self._evaluate(x)).contiguous()

    @property
    def _evaluate(self) -> Callable[..., torch.Tensor]:
        """On streams one member's (parameters and buffers, x) → its logits; else x → all logits."""
        uses_streams = self.arrangement is Arrangement.STREAMS
        plain = functional_module(self._template[0]) if uses_streams else self.network
        is_training = self.training and torch.is_grad_enabled()
        if not (self.compiles and is_training) or self.arrangement is Arrangement.BATCH:
            return plain
        if self._compiled is None:
            self._compiled = Compiled(plain)
        return self._compiled

    def _fastest_arrangement(self, x: torch.Tensor) -> Arrangement:
        widths = [m.weight.shape[1] for m in self.modules() if isinstance(m, StackedConv2d)]
        return fastest_arrangement(
            on_gpu=x.is_cuda,
            members=self.members,
            widest=max(widths, default=0),
            can_be_grouped=lambda: why_not_grouped(self, x.shape) is None,
        )

    def select(self, kept: list[int]) -> StackedModel:
        """A new model of some of the members.

        Args:
            kept: their indices, in the new order.
        """
        smaller = StackedModel(self._template[0], len(kept)).train(self.training)
        smaller.arrangement, smaller.compiles = self.arrangement, self.compiles
        smaller._layout.channels_last = self._layout.channels_last
        parameter = next(self.parameters())
        smaller.to(parameter.device, parameter.dtype)
        if parameter.is_cuda:
            smaller.store_filters_channels_last()
        stacked = self.network.state_dict()
        for name, value in smaller.network.state_dict().items():
            value.copy_(stacked[name][kept])
        return smaller

    @torch.no_grad()
    def store_filters_channels_last(self) -> None:
        """Store the filters of convolutions channels last, as a GPU's convolutions need them.

        Nothing but the order in memory changes. Otherwise each step converts filters and gradients.
        """
        for module in self.modules():
            if isinstance(module, StackedConv2d):
                module.store_filters_channels_last()

    @torch.no_grad()
    def load_member(self, member: int, model: nn.Module) -> None:
        """Copy an ordinary model's parameters and buffers into a member.

        Args:
            member: index of the member, from 0 to K − 1.
            model: a model of the same architecture.
        """
        stacked = self.network.state_dict()
        for name, value in model.state_dict().items():
            stacked[name][member].copy_(value)

    @torch.no_grad()
    def store_member(self, member: int, model: nn.Module) -> None:
        """Copy a member's parameters and buffers into an ordinary model.

        Args:
            member: index of the member, from 0 to K − 1.
            model: a model of the same architecture; modified.
        """
        stacked = self.network.state_dict()
        for name, value in model.state_dict().items():
            value.copy_(stacked[name][member])


def stack(model: nn.Module, members: int) -> StackedModel:
    """Stack copies of an ordinary model.

    Args:
        model: left unchanged.
        members: number of copies, K.

    Returns:
        K networks, each with the parameters of `model`.

    Raises:
        UnsupportedLayerError: a layer has parameters, buffers or randomness and no stacked form,
            or layers share parameters.
    """
    return StackedModel(model, members)


def _refuse_shared_parameters(model: nn.Module) -> None:
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    shared = names - {name for name, _ in model.named_parameters()}
    if shared:
        raise UnsupportedLayerError(
            f"model parameters {', '.join(sorted(shared))} are shared between layers"
        )


def _with_stacked_layers(module: nn.Module, layout: Layout, path: str) -> nn.Module:
    stacked_layer = STACKED_LAYERS.get(type(module))
    if stacked_layer is not None:
        return stacked_layer(module, layout)
    tensors = [name for name, _ in module.named_parameters(recurse=False)]
    tensors += [name for name, _ in module.named_buffers(recurse=False)]
    if tensors or isinstance(module, _RANDOM):
        obstacle = f"parameters or buffers ({', '.join(tensors)})" if tensors else "randomness"
        raise UnsupportedLayerError(
            f"model layer {path or 'itself'} ({type(module).__name__}) has {obstacle} and no "
            f"stacked form; layers that have one: {', '.join(t.__name__ for t in STACKED_LAYERS)}"
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
            setattr(module, name, _with_stacked_layers(child, layout, f"{path}.{name}".lstrip(".")))
        before = name, child
    return module
