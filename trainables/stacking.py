"""K networks of one architecture, evaluated as one program.

`stack(model, K)` takes an ordinary module apart and puts it together again with every layer that
owns parameters replaced by its stacked twin, whose parameters have a leading member axis. What lies
between the layers (the module's own `forward`, activations, residual sums, pooling) runs as it is:
members are folded into the batch axis, so the module sees an ordinary batch of K·B examples
and need not know that it holds K networks.

    input [B, …]  ──first layer──▶  [K·B, …]  ──…──▶  logits [K, B, classes]

Up to its first layer with parameters all members see the same B examples, which are therefore not
copied K times. K = 1 runs the same code.

The folded axis has two layouts. On a CPU each member's rows are neighbours (row k·B + b), and
convolutions run member by member: fusing them was measured slower, and so a member's result does
not depend on K. Elsewhere rows alternate between members (row b·K + k): then a batch of images
[B·K, C, H, W] is at the same time, without a copy, a batch [B, K·C, H, W], which a convolution with
K groups and a batch norm of K·C channels take in one call.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from trainables.products import matrix_product


class UnsupportedLayerError(ValueError):
    """A model has a layer with parameters (or randomness) that has no stacked twin."""


@dataclass
class _Fold:
    """How rows are to be read: `batch` rows are shared by the members, `members · batch` theirs."""

    members: int
    batch: int = 0
    interleaved: bool = False  # whether neighbouring rows are of different members

    def is_shared(self, x: torch.Tensor) -> bool:
        """Whether all members see the same rows."""
        return x.shape[0] == self.batch

    def unfold(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, …] or shared [B, …] → [K, B, …], without a copy."""
        if self.is_shared(x):
            return x.expand(self.members, *x.shape)
        if self.interleaved:
            return x.view(self.batch, self.members, *x.shape[1:]).transpose(0, 1)
        return x.view(self.members, self.batch, *x.shape[1:])

    def side_by_side(self, x: torch.Tensor) -> torch.Tensor:
        """Interleaved [B·K, C, …] → [B, K·C, …], without a copy."""
        return x.reshape(self.batch, self.members * x.shape[1], *x.shape[2:])

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        """[B, K·C, …] → interleaved [B·K, C, …], without a copy."""
        return x.reshape(self.batch * self.members, -1, *x.shape[2:])


class StackedLinear(nn.Module):
    """K linear layers: weight [K, out, in], bias [K, out].

    Parameters
    ----------
    before: a ReLU that comes directly before the layer and is then done here. Its gradient is
        taken in place: a tensor of its own was 2 % of the time of a small MLP.
    """

    def __init__(self, layer: nn.Linear, fold: _Fold, before: nn.ReLU | None = None) -> None:
        super().__init__()
        self._fold, self._relu = fold, before
        self.weight = _stacked(layer.weight, fold.members)
        self.bias = None if layer.bias is None else _stacked(layer.bias, fold.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, in] or shared [B, in] → [K·B, out]."""
        fold, relu = replace(self._fold), self._relu
        found: torch.Tensor = _Linear.apply(x, self.weight, self.bias, fold, relu)
        return found

    def transpose_in_memory(self) -> None:
        """Let the weight lie as [K, in, out], which changes nothing but speed.

        The forward product then has no transposed matrix, which makes it a fifth faster, but the
        gradient of the inputs has one. A model's first layer needs none.
        """
        self.weight = nn.Parameter(self.weight.detach().mT.contiguous().mT)


class _Linear(torch.autograd.Function):
    """x [K·B, in] or shared [B, in], weight [K, out, in], bias [K, out] or None → [K·B, out].

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
        fold: _Fold,
        relu: nn.ReLU | None,
    ) -> torch.Tensor:
        if relu is not None:
            x = relu(x)
        kind = x.device.type  # `meta`, on which shapes are tried, has no autocast
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            lower = torch.get_autocast_dtype(kind)
            x, weight = x.to(lower), weight.to(lower)
            bias = None if bias is None else bias.to(lower)
        ctx.save_for_backward(x, weight)
        ctx.has_bias, ctx.fold, ctx.has_relu = bias is not None, fold, relu is not None
        found = x.new_empty(fold.members * fold.batch, weight.shape[1])
        matrix_product(fold.unfold(x), weight.transpose(1, 2), bias=bias, out=fold.unfold(found))
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        fold = ctx.fold
        x, weight = (saved.to(gradients[0].dtype) for saved in ctx.saved_tensors)
        gradient = fold.unfold(gradients[0])
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient.new_empty(fold.members * fold.batch, weight.shape[2])
            matrix_product(gradient, weight, out=fold.unfold(for_x))
            if fold.is_shared(x):
                for_x = fold.unfold(for_x).sum(0)
            if ctx.has_relu:
                torch.ops.aten.threshold_backward.grad_input(for_x, x, 0, grad_input=for_x)
        return (
            for_x,
            matrix_product(gradient.mT, fold.unfold(x))
            if weight.is_contiguous()
            else matrix_product(fold.unfold(x).mT, gradient).mT,
            gradient.sum(1) if ctx.has_bias else None,
            None,
            None,
        )


class StackedConv2d(nn.Module):
    """K convolutions: weight [K, out, in/groups, …], bias [K, out]."""

    def __init__(self, layer: nn.Conv2d, fold: _Fold) -> None:
        super().__init__()
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise UnsupportedLayerError(
                f"{layer}: padding must be a number of zeros on each side to be stacked"
            )
        self._fold = fold
        self._options = (layer.stride, layer.padding, layer.dilation)
        self._groups = layer.groups
        self.weight = _stacked(layer.weight, fold.members)
        self.bias = None if layer.bias is None else _stacked(layer.bias, fold.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, in, H, W] or shared [B, in, H, W] → [K·B, out, H', W']."""
        if self._fold.interleaved and self._fold.members > 1:
            return self._fused(x)
        images = [x] if self._fold.members == 1 else self._fold.unfold(x).unbind()
        biases = [None] * len(images) if self.bias is None else self.bias.unbind()
        each = [
            # Channels last: twice as fast on a CPU, and what follows a convolution keeps it.
            nn.functional.conv2d(
                xk.contiguous(memory_format=torch.channels_last),
                wk,
                bk,
                *self._options,
                self._groups,
            )
            for xk, wk, bk in zip(images, self.weight.unbind(), biases, strict=True)
        ]
        return each[0] if len(each) == 1 else torch.cat(each)

    def _fused(self, x: torch.Tensor) -> torch.Tensor:
        """All members' convolutions in one call: ordinary for shared images, else grouped."""
        members, groups = self._fold.members, self._groups
        if not self._fold.is_shared(x):
            x, groups = self._fold.side_by_side(x), groups * members
        elif groups > 1:
            x, groups = x.repeat(1, members, 1, 1), groups * members
        bias = None if self.bias is None else self.bias.flatten()
        weight = self.weight.flatten(0, 1)
        return self._fold.apart(nn.functional.conv2d(x, weight, bias, *self._options, groups))


class StackedBatchNorm(nn.Module):
    """K batch normalisations, each with its own statistics: weight, bias, running_* [K, C]."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, fold: _Fold) -> None:
        super().__init__()
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        self.num_batches_tracked: torch.Tensor
        if layer.momentum is None or not layer.affine or not layer.track_running_stats:
            raise UnsupportedLayerError(
                f"{layer}: only an affine batch norm with running statistics can be stacked"
            )
        self._fold, self._eps, self._momentum = fold, layer.eps, layer.momentum
        self.weight = _stacked(layer.weight, fold.members)
        self.bias = _stacked(layer.bias, fold.members)
        for name, value in layer.named_buffers():
            self.register_buffer(name, value.expand(fold.members, *value.shape).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, C, …] or shared [B, C, …] → [K·B, C, …], each member by its own statistics."""
        fold = self._fold
        if self.training:
            self.num_batches_tracked.add_(1)
        if fold.interleaved and fold.members > 1:
            if fold.is_shared(x):
                x = x.repeat_interleave(fold.members, 0)
            return fold.apart(self._normalised(fold.side_by_side(x), torch.Tensor.flatten))
        members = [x] if fold.members == 1 else fold.unfold(x).unbind()
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


_TWINS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
}
_RANDOM = (nn.modules.dropout._DropoutNd,)


class StackedModel(nn.Module):
    """K independent networks of one architecture; made by `stack`.

    Attributes:
        interleaved: which layout (see this module) the rows between the layers have; None follows
            the device.
    """

    interleaved: bool | None = None

    def __init__(self, model: nn.Module, members: int) -> None:
        super().__init__()
        everywhere = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        shared = set(everywhere) - {name for name, _ in model.named_parameters()}
        if shared:
            raise UnsupportedLayerError(
                f"model parameters {', '.join(sorted(shared))} are shared between layers"
            )
        self._fold = _Fold(members)
        self.network = _with_twins(copy.deepcopy(model), self._fold, path="")
        first = next((m for m in self.network.modules() if type(m) in _TWINS.values()), None)
        if isinstance(first, StackedLinear):
            first.transpose_in_memory()

    @property
    def members(self) -> int:
        """Number of networks."""
        return self._fold.members

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, classes] of inputs [B, …] that all members share."""
        self._fold.batch = x.shape[0]
        by_device = x.device.type != "cpu"
        self._fold.interleaved = by_device if self.interleaved is None else self.interleaved
        logits: torch.Tensor = self._fold.unfold(self.network(x))
        return logits.contiguous()

    def select(self, kept: list[int]) -> StackedModel:
        """The same networks without those that are not in `kept`."""
        smaller = copy.deepcopy(self)
        smaller._fold.members = len(kept)
        for module in smaller.network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach()[kept].clone()))
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer[kept].clone())
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


def _stacked(parameter: torch.Tensor, members: int) -> nn.Parameter:
    return nn.Parameter(parameter.detach().expand(members, *parameter.shape).clone())


def _with_twins(module: nn.Module, fold: _Fold, path: str) -> nn.Module:
    twin = _TWINS.get(type(module))
    if twin is not None:
        return twin(module, fold)
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
            setattr(module, name, StackedLinear(child, fold, before[1]))
        else:
            setattr(module, name, _with_twins(child, fold, f"{path}.{name}".lstrip(".")))
        before = name, child
    return module
