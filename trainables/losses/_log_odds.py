"""The log-odds Δ of the labelled class, and losses that depend on nothing else.

The labelled class's probability is p = sigmoid(Δ), and a logit bias ε moves Δ to Δ + ε: for a loss
of p alone all that a cohort needs of its logits [K, B, C] is Δ [K, B].
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec

import numpy as np
import torch
from torch import Tensor

from trainables.losses._common import log_probability, per_example

_SHORT_AXIS = 16  # classes up to which the class axis goes before the batch; docs/engine.md

P = ParamSpec("P")


class OfProbability(Generic[P]):
    """A loss of p alone, made by `of_probability`: `loss(logits, labels, *, parameter…)`."""

    def __init__(self, function: Callable[Concatenate[Tensor, P], Tensor]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        _, *parameters = inspect.signature(function).parameters.values()
        self.__signature__ = inspect.Signature([*_LOGITS_AND_LABELS, *parameters])

    def __call__(self, logits: Tensor, labels: Tensor, *args: P.args, **params: P.kwargs) -> Tensor:
        return self.of_log_p(log_probability(logits, labels), *args, **params)

    def of_log_p(self, log_p: Tensor, *args: P.args, **params: P.kwargs) -> Tensor:
        """The same loss of log p, elementwise: [..., batch] → [..., batch]."""
        given: Any = params
        shaped: Any = {name: per_example(value) for name, value in given.items()}
        return self._function(log_p, *args, **shaped)


_LOGITS_AND_LABELS = [
    inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Tensor)
    for name in ("logits", "labels")
]


def of_probability(function: Callable[Concatenate[Tensor, P], Tensor]) -> OfProbability[P]:
    """Make a loss of an elementwise function of log p, p being the labelled class's probability.

    The loss is called like any other, with logits [..., batch, classes] and labels [..., batch].
    Parameters that are tensors of the member dimensions reach the function shaped for log p.
    """
    return OfProbability(function)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return Δ = z_y − log Σ_{i≠y} exp(z_i), so that p = sigmoid(Δ): [..., batch].

    Keeps the relative precision of 1 − p that log p loses where p is near 1. logits
    [..., batch, classes], at least two classes; labels [..., batch] or [batch].
    """
    return log_odds_and_rival(logits, labels)[0]


def log_odds_and_rival(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`log_odds`, and the largest logit of the other classes, max_{i≠y} z_i: each [..., batch].

    Of the second no gradient can be asked.
    """
    found: tuple[Tensor, Tensor] = _LogOdds.apply(logits, labels.expand(logits.shape[:-1]))
    return found


class _LogOdds(torch.autograd.Function):
    """One pass where autograd's own rules for scatter, logsumexp and gather would make five."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        axis = -1
        if logits.ndim > 1 and logits.shape[-1] <= _SHORT_AXIS and logits.device.type == "cpu":
            # torch reduces a short last axis several times as slowly as a strided one.
            axis, logits = -2, logits.transpose(-1, -2)
        index = labels.unsqueeze(axis)
        others = logits.clone(memory_format=torch.contiguous_format)
        labelled = others.gather(axis, index)
        others.scatter_(axis, index, -torch.inf)
        rival = others.amax(axis, keepdim=True)
        total = _exp_(others.sub_(rival)).sum(axis, keepdim=True)
        ctx.save_for_backward(others, total, index)
        ctx.axis = axis
        rival_found = rival.squeeze(axis)
        ctx.mark_non_differentiable(rival_found)
        return labelled.sub_(rival).sub_(total.log()).squeeze(axis), rival_found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        others, total, index = ctx.saved_tensors
        gradient = gradients[0].unsqueeze(ctx.axis)
        found = others * (gradient / total).neg_()
        found.scatter_(ctx.axis, index, gradient)
        return found if ctx.axis == -1 else found.transpose(-1, -2).contiguous(), None


def log_sigmoid(delta: Tensor) -> Tensor:
    """Return log p of p = sigmoid(`delta`), elementwise."""
    found: Tensor = _LogSigmoid.apply(delta)
    return found


class _LogSigmoid(torch.autograd.Function):
    """torch's own gradient has other last bits at the end of a tensor than before, so with K."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor) -> Tensor:
        log_p = torch.nn.functional.logsigmoid(delta)
        ctx.save_for_backward(delta, log_p)
        return log_p

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        delta, log_p = ctx.saved_tensors
        return (log_p - delta).exp_().mul_(gradients[0])  # 1 − p = p e^−Δ


def _exp_(x: Tensor) -> Tensor:
    """`x.exp_()`; on a CPU NumPy takes half as long over it as torch."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        array = x.numpy()
        np.exp(array, out=array)
        return x
    return x.exp_()
