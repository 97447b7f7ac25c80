"""The log-odds Δ of the labelled class, and losses that depend on nothing else.

The labelled class's probability is p = sigmoid(Δ), and a logit bias ε moves Δ to Δ + ε. For a loss
of p alone, Δ [K, B] is therefore all that a cohort needs of its logits [K, B, C].
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec

from trainables.losses._common import log_probability, per_example
from trainables.losses._torch import Tensor

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
    from trainables.losses._autograd import LogOdds

    delta_and_largest: tuple[Tensor, Tensor] = LogOdds.apply(
        logits, labels.expand(logits.shape[:-1])
    )
    return delta_and_largest


def log_sigmoid(delta: Tensor) -> Tensor:
    """Return log p of p = sigmoid(Δ), elementwise.

    Args:
        delta: log-odds Δ, any shape.

    Returns:
        The shape of `delta`, at most 0.
    """
    from trainables.losses._autograd import LogSigmoid

    log_p: Tensor = LogSigmoid.apply(delta)
    return log_p
