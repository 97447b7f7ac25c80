"""A loss's values with the logit bias or Ou & Zhang's rescaling, from logits or from log-odds."""

from __future__ import annotations

from torch import Tensor

from trainables.losses._common import Scalar, add_logit_bias, per_example
from trainables.losses._log_odds import OfProbability, log_odds, log_sigmoid
from trainables.losses._registry import Loss


def evaluate(
    loss: Loss, logits: Tensor, labels: Tensor, epsilon: Scalar = 0.0, **params: Scalar
) -> Tensor:
    """Values [..., batch] of `loss` on logits that carry the logit bias `epsilon`."""
    return loss.function(add_logit_bias(logits, labels, epsilon), labels, **params)


def evaluate_log_odds(
    loss: Loss, delta: Tensor, scale: Scalar | None = None, /, **params: Scalar
) -> Tensor:
    """Values [..., batch] of a loss of p alone at p = sigmoid(`delta`).

    A logit bias is already in `delta`: `log_odds(logits, labels) + epsilon`. With `scale`,
    `evaluate_rescaled`.

    Raises ValueError for a loss that does not depend on p alone.
    """
    if not isinstance(loss.function, OfProbability):
        raise ValueError(f"loss {loss.name} does not depend on the labelled probability alone")
    if scale is None:
        return loss.function.of_log_p(log_sigmoid(delta), **params)
    scale = per_example(scale)
    return loss.function.of_log_p(log_sigmoid(delta * scale), **params) / scale


def evaluate_rescaled(
    loss: Loss, logits: Tensor, labels: Tensor, scale: Scalar, /, **params: Scalar
) -> Tensor:
    """Values [..., batch] of `loss` with Ou & Zhang's rescaled weight function (2305.02139).

    A loss l of the labelled probability p = sigmoid(Δ) has gradient −w(Δ)∇Δ. Their `rescale`
    trains with w(scale · Δ) instead, which is the gradient of l(sigmoid(scale · Δ)) / scale.
    `scale` > 0 is a float or a tensor of the member dimensions; `logit_bias.rescale_factor`
    computes it from the number of classes. Their `shift` is the logit bias itself.

    Raises ValueError for a loss that does not depend on p alone.
    """
    return evaluate_log_odds(loss, log_odds(logits, labels), scale, **params)
