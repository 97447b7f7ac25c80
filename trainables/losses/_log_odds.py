"""The log-odds Δ of the labelled class, and losses that depend on nothing else.

The labelled class's probability is p = sigmoid(Δ), and a logit bias ε moves Δ to Δ + ε. For a loss
of p alone, Δ [K, B] is therefore all that a cohort needs of its logits [K, B, C].
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec

import numpy as np

from trainables.losses._common import SHORT_AXIS, log_probability, per_example
from trainables.losses._torch import Function, Tensor, once_differentiable, torch

P = ParamSpec("P")

_LOGITS_AND_LABELS = [
    inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Tensor)
    for name in ("logits", "labels")
]


class OfProbability(Generic[P]):
    """A loss that depends on the labelled class's probability p alone; see `of_probability`.

    Args:
        function: elementwise function of log p, `function(log_p, *, parameter…)`.
    """

    def __init__(self, function: Callable[Concatenate[Tensor, P], Tensor]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        _, *parameters = inspect.signature(function).parameters.values()
        self.__signature__ = inspect.Signature([*_LOGITS_AND_LABELS, *parameters])

    def __call__(self, logits: Tensor, labels: Tensor, *args: P.args, **params: P.kwargs) -> Tensor:
        """Values of the loss.

        Args:
            logits: shape [..., batch, classes].
            labels: int64, shape [..., batch] or [batch].
            *args: none; the parameters are keyword-only.
            **params: numbers or tensors of the member dimensions [...].

        Returns:
            Shape [..., batch].
        """
        return self.of_log_p(log_probability(logits, labels), *args, **params)

    def of_log_p(self, log_p: Tensor, *args: P.args, **params: P.kwargs) -> Tensor:
        """Values of the loss as a function of log p, elementwise.

        Args:
            log_p: shape [..., batch].
            *args: none; the parameters are keyword-only.
            **params: numbers or tensors of the member dimensions [...].

        Returns:
            Shape [..., batch].
        """
        given: Any = params
        shaped: Any = {name: per_example(value) for name, value in given.items()}
        return self._function(log_p, *args, **shaped)


def of_probability(function: Callable[Concatenate[Tensor, P], Tensor]) -> OfProbability[P]:
    """Turn an elementwise function of log p into a loss; p is the labelled class's probability.

    Args:
        function: `function(log_p, *, parameter…)`, elementwise in log_p [..., batch]. A parameter
            that is a tensor of the member dimensions [...] reaches it with shape [..., 1].

    Returns:
        The loss, which is called like any other loss: `loss(logits, labels, *, parameter…)`.
    """
    return OfProbability(function)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds Δ = z_y − log Σ_{i≠y} exp(z_i) of the labelled class, so that p = sigmoid(Δ).

    Δ keeps the relative precision of 1 − p, which log p loses where p is near 1.

    Args:
        logits: shape [..., batch, classes], at least two classes.
        labels: int64, shape [..., batch] or [batch].

    Returns:
        Shape [..., batch].
    """
    return log_odds_and_largest_other(logits, labels)[0]


def log_odds_and_largest_other(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds of the labelled class, and the largest logit of the other classes.

    Args:
        logits: shape [..., batch, classes], at least two classes.
        labels: int64, shape [..., batch] or [batch].

    Returns:
        Δ as in `log_odds`, and max_{i≠y} z_i, which has no gradient; each of shape [..., batch].
    """
    delta_and_largest: tuple[Tensor, Tensor] = _LogOdds.apply(
        logits, labels.expand(logits.shape[:-1])
    )
    return delta_and_largest


class _LogOdds(Function):
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


def log_sigmoid(delta: Tensor) -> Tensor:
    """Return log p of p = sigmoid(Δ), elementwise.

    Args:
        delta: log-odds Δ, any shape.

    Returns:
        The shape of `delta`, at most 0.
    """
    log_p: Tensor = _LogSigmoid.apply(delta)
    return log_p


class _LogSigmoid(Function):
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
