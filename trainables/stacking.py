"""K networks of one architecture, evaluated as one program.

`stack(model, K)` takes an ordinary module apart and puts it together again with every layer that
owns parameters replaced by its stacked twin, whose parameters have a leading member axis. What lies
between the layers (the module's own `forward`, activations, residual sums, pooling) runs as it is:
members are folded into the batch axis, so the module sees an ordinary batch of K·B examples
and need not know that it holds K networks.

    input [B, …]  ──first layer──▶  [K·B, …]  ──…──▶  logits [K, B, classes]

Up to its first layer with parameters all members see the same B examples, which are therefore not
copied K times. K = 1 runs the same code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainables.products import matrix_product


class UnsupportedLayerError(ValueError):
    """A model has a layer with parameters (or randomness) that has no stacked twin."""


@dataclass
class _Fold:
    """How a batch axis is to be read: `members` blocks of `batch` examples, or `batch` shared."""

    members: int
    batch: int = 0

    def unfold(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, …] or shared [B, …] → [K, B, …], without a copy."""
        if x.shape[0] == self.batch:
            return x.expand(self.members, *x.shape)
        return x.view(self.members, self.batch, *x.shape[1:])


class StackedLinear(nn.Module):
    """K linear layers: weight [K, out, in], bias [K, out]."""

    def __init__(self, layer: nn.Linear, fold: _Fold) -> None:
        super().__init__()
        self._fold = fold
        self.weight = _stacked(layer.weight, fold.members)
        self.bias = None if layer.bias is None else _stacked(layer.bias, fold.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, in] or shared [B, in] → [K·B, out]."""
        found: torch.Tensor = _Linear.apply(self._fold.unfold(x), self.weight, self.bias)
        return found


class _Linear(torch.autograd.Function):
    """x [K, B, in], weight [K, out, in], bias [K, out] or None → [K·B, out].

    Autograd's own rule for `baddbmm` makes the weight's gradient transposed and then copies it;
    here it is made the right way round. The result is no view, so that an activation may work in
    place on it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        kind = x.device.type  # `meta`, on which shapes are tried, has no autocast
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            lower = torch.get_autocast_dtype(kind)
            x, weight = x.to(lower), weight.to(lower)
            bias = None if bias is None else bias.to(lower)
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        members, batch, features = x.shape[0], x.shape[1], weight.shape[1]
        found = x.new_empty(members * batch, features)
        by_member = found.view(members, batch, features)
        matrix_product(x, weight.transpose(1, 2), bias=bias, out=by_member)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = (saved.to(gradients[0].dtype) for saved in ctx.saved_tensors)
        gradient = gradients[0].view(x.shape[0], x.shape[1], -1)
        return (
            matrix_product(gradient, weight) if ctx.needs_input_grad[0] else None,
            matrix_product(gradient.transpose(1, 2), x),
            gradient.sum(1) if ctx.has_bias else None,
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
        self._options = (layer.stride, layer.padding, layer.dilation, layer.groups)
        self.weight = _stacked(layer.weight, fold.members)
        self.bias = None if layer.bias is None else _stacked(layer.bias, fold.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[K·B, in, H, W] or shared [B, in, H, W] → [K·B, out, H', W']."""
        if self._fold.members == 1:
            bias = None if self.bias is None else self.bias[0]
            # Channels last: twice as fast on a CPU, and what follows a convolution keeps it.
            x = x.contiguous(memory_format=torch.channels_last)
            return nn.functional.conv2d(x, self.weight[0], bias, *self._options)
        return convolve(self._fold.unfold(x), self.weight, self.bias, *self._options)


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    *,
    grouped: bool | None = None,
) -> torch.Tensor:
    """Each member's own convolution of its own images: the one place that knows how.

    On a CPU member by member: fusing them was measured slower, and so a member's result does not
    depend on K. On a GPU as one grouped convolution, which saves K - 1 launches.

    Parameters
    ----------
    x: [K, B, in, H, W]. weight: [K, out, in/groups, h, w]. bias: [K, out].
    grouped: which way; None follows the device.

    Returns
    -------
    [K·B, out, H', W'].
    """
    members, batch, channels = x.shape[:3]
    biases = [None] * members if bias is None else list(bias.unbind())
    if not (x.is_cuda if grouped is None else grouped):
        images = [xk.contiguous(memory_format=torch.channels_last) for xk in x.unbind()]
        each = [
            nn.functional.conv2d(xk, wk, bk, stride, padding, dilation, groups)
            for xk, wk, bk in zip(images, weight.unbind(), biases, strict=True)
        ]
        return torch.cat(each)
    side_by_side = x.transpose(0, 1).reshape(batch, members * channels, *x.shape[3:])
    flat_bias = None if bias is None else bias.flatten()
    found = nn.functional.conv2d(
        side_by_side, weight.flatten(0, 1), flat_bias, stride, padding, dilation, members * groups
    )
    return found.unflatten(1, (members, -1)).transpose(0, 1).flatten(0, 1)


class StackedBatchNorm(nn.Module):
    """K batch normalisations, each with its own statistics: weight, bias, running_* [K, C]."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, fold: _Fold) -> None:
        super().__init__()
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
        """[K·B, C, …] → the same shape, each member by its own statistics."""
        members = [x] if self._fold.members == 1 else self._fold.unfold(x).unbind()
        if self.training:
            self.num_batches_tracked.add_(1)  # type: ignore[operator]
        each = [
            nn.functional.batch_norm(
                members[k],
                self.running_mean[k],  # type: ignore[index]
                self.running_var[k],  # type: ignore[index]
                self.weight[k],
                self.bias[k],
                training=self.training,
                momentum=self._momentum,
                eps=self._eps,
            )
            for k in range(self._fold.members)
        ]
        return each[0] if len(each) == 1 else torch.cat(each)


_TWINS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
}
_RANDOM = (nn.modules.dropout._DropoutNd,)


class StackedModel(nn.Module):
    """K independent networks of one architecture; made by `stack`."""

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

    @property
    def members(self) -> int:
        """Number of networks."""
        return self._fold.members

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, classes] of inputs [B, …] that all members share."""
        self._fold.batch = x.shape[0]
        logits: torch.Tensor = self.network(x)
        return logits.view(self._fold.members, self._fold.batch, -1)

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
    for name, child in module.named_children():
        setattr(module, name, _with_twins(child, fold, f"{path}.{name}".lstrip(".")))
    return module
