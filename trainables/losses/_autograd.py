"""The losses' own autograd functions; `_log_odds` imports this module, and PyTorch, on use."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from trainables.losses._common import SHORT_AXIS


class LogOdds(Function):
    """One pass over the logits; autograd's rules for scatter, logsumexp and gather need five."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        axis = -1
        if logits.ndim > 1 and logits.shape[-1] <= SHORT_AXIS and logits.device.type == "cpu":
            # torch reduces a short last axis several times as slowly as a strided one.
            axis, logits = -2, logits.transpose(-1, -2)
        index = labels.unsqueeze(axis)
        others = logits.clone(memory_format=torch.contiguous_format)
        labelled = others.gather(axis, index)
        others.scatter_(axis, index, -torch.inf)
        largest = others.amax(axis, keepdim=True)
        total = _exp_(others.sub_(largest)).sum(axis, keepdim=True)
        ctx.save_for_backward(others, total, index)
        ctx.axis = axis
        largest_other = largest.squeeze(axis)
        ctx.mark_non_differentiable(largest_other)
        return labelled.sub_(largest).sub_(total.log()).squeeze(axis), largest_other

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        others, total, index = ctx.saved_tensors
        of_delta = gradients[0].unsqueeze(ctx.axis)
        of_logits = others * (of_delta / total).neg_()
        of_logits.scatter_(ctx.axis, index, of_delta)
        return of_logits if ctx.axis == -1 else of_logits.transpose(-1, -2).contiguous(), None


class LogSigmoid(Function):
    """Log-sigmoid whose gradient does not depend on the tensor's size.

    In torch's own gradient the last bits at the end of a tensor differ from those before, so that
    a member's result would depend on the number of members.
    """

    @staticmethod
    def forward(ctx: Any, delta: Tensor) -> Tensor:
        log_p = torch.nn.functional.logsigmoid(delta)
        ctx.save_for_backward(delta, log_p)
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        delta, log_p = ctx.saved_tensors
        probability_of_others: Tensor = (log_p - delta).exp_()  # 1 − p = p e^−Δ
        return probability_of_others.mul_(gradients[0])


def _exp_(x: Tensor) -> Tensor:
    """`x.exp_()`; on a CPU NumPy takes half as long as torch."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        array = x.numpy()
        np.exp(array, out=array)
        return x
    return x.exp_()
