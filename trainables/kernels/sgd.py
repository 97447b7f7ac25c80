"""Updates of parameters by stochastic gradient descent, in one pass over the memory."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BLOCK = 1024  # numbers of one program


def update(
    parameter: torch.Tensor,
    gradient: torch.Tensor,
    velocity: torch.Tensor,
    rate: torch.Tensor,
    weight_decay: torch.Tensor | None,
    momentum: float,
    nesterov: bool,
) -> None:
    """The update of `torch.optim.SGD` for K members, each with a learning rate of its own.

    Args:
        parameter: shape [K, …]; modified. The three tensors have the same strides, without gaps.
        gradient: like the parameter.
        velocity: like the parameter; modified.
        rate: minus the learning rates, K numbers.
        weight_decay: shape [K]; None for none.
        momentum: the same for all members.
        nesterov: whether to use Nesterov's momentum.
    """
    members = len(parameter)
    numbers = parameter.numel() // members
    decays = weight_decay is not None
    _update[(triton.cdiv(numbers, _BLOCK), members)](
        parameter, gradient, velocity, rate, weight_decay if decays else rate, numbers, momentum,
        decays, nesterov, _BLOCK,
    )  # fmt: skip


@triton.jit
def _update(
    parameter, gradient, velocity, rate, weight_decay, numbers, momentum,
    DECAYS: tl.constexpr, NESTEROV: tl.constexpr, BLOCK: tl.constexpr,
) -> Any:  # fmt: skip
    member = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < numbers
    place = member.to(tl.int64) * numbers + i
    p = tl.load(parameter + place, mask=inside)
    g = tl.load(gradient + place, mask=inside)
    v = tl.load(velocity + place, mask=inside)
    if DECAYS:
        g += p * tl.load(weight_decay + member)
    v = momentum * v + g
    tl.store(velocity + place, v, mask=inside)
    if NESTEROV:
        v = g + momentum * v
    tl.store(parameter + place, p + v * tl.load(rate + member), mask=inside)
