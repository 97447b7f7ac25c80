"""A loss's values with the logit bias or Ou & Zhang's rescaling, from logits or from log-odds."""

from __future__ import annotations

from trainables.losses._common import Scalar, add_logit_bias, as_tensor, log_softmax, per_example
from trainables.losses._log_odds import OfProbability, log_odds, log_sigmoid
from trainables.losses._registry import Loss
from trainables.losses._torch import Tensor, torch


def evaluate(
    loss: Loss, logits: Tensor, labels: Tensor, epsilon: Scalar = 0.0, **params: Scalar
) -> Tensor:
    """Values of a loss on logits with the logit bias added (arXiv 2306.05497).

    Args:
        loss: the loss.
        logits: shape [..., batch, classes], without the logit bias.
        labels: int64, shape [..., batch] or [batch].
        epsilon: the logit bias ε, a number or a tensor of the member dimensions [...].
        **params: the loss's parameters, likewise.

    Returns:
        Shape [..., batch].

    Example:
        MAE of an untrained network of 100 classes is 0.99; ε = 3.01 brings it to 0.83.

        >>> import torch
        >>> from trainables import losses
        >>> logits, labels = torch.zeros(1, 100), torch.tensor([7])
        >>> [round(evaluate(losses.get("mae"), logits, labels, e).item(), 2) for e in (0.0, 3.01)]
        [0.99, 0.83]
    """
    return loss.function(add_logit_bias(logits, labels, epsilon), labels, **params)


def evaluate_every_label(
    loss: Loss, logits: Tensor, epsilon: Scalar = 0.0, **params: Scalar
) -> Tensor:
    """Values of a loss for every label that an example could have.

    The loss of a label distribution t is the mean of these values, Σ_k t_k L(z + ε e_k, k). A loss
    of p alone needs one pass over the logits; any other loss is evaluated once per class.

    Args:
        loss: the loss.
        logits: shape [batch, classes], without the logit bias.
        epsilon: the logit bias ε, a number or a tensor of shape [].
        **params: the loss's parameters, likewise.

    Returns:
        Shape [batch, classes]; column k equals `evaluate` with all labels k, up to rounding.
    """
    if isinstance(loss.function, OfProbability):
        log_p = log_softmax(logits)
        if isinstance(epsilon, Tensor) or epsilon != 0.0:
            bias = as_tensor(epsilon, logits)
            # The bias multiplies a_k by e^ε, and the sum of all by 1 + a_k (e^ε − 1).
            log_p = log_p + bias - torch.log1p(log_p.exp() * torch.expm1(bias))
            log_p = log_p.clamp_max(0.0)
        return loss.function.of_log_p(log_p, **params)
    examples, classes = logits.shape
    labels = torch.arange(classes, device=logits.device).unsqueeze(-1).expand(classes, examples)
    repeated = logits.expand(classes, examples, classes)
    return evaluate(loss, repeated, labels, epsilon, **params).transpose(0, 1)


def evaluate_log_odds(
    loss: Loss, delta: Tensor, scale: Scalar | None = None, /, **params: Scalar
) -> Tensor:
    """Values of a loss of p alone at p = sigmoid(Δ).

    Args:
        loss: a loss with `of_probability`.
        delta: log-odds Δ, shape [..., batch]; a logit bias is already added:
            `log_odds(logits, labels) + epsilon`.
        scale: factor of `evaluate_rescaled`, or None for the loss itself.
        **params: the loss's parameters, numbers or tensors of the member dimensions [...].

    Returns:
        Shape [..., batch].

    Raises:
        ValueError: the loss does not depend on p alone.
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
    """Values of a loss with the rescaled weight function of Ou & Zhang (arXiv 2305.02139).

    A loss l of the labelled probability p = sigmoid(Δ) has the gradient −w(Δ)∇Δ. The method
    `rescale` trains with w(scale · Δ) instead, which is the gradient of
    l(sigmoid(scale · Δ)) / scale. Their other method, `shift`, is the logit bias.

    Args:
        loss: a loss with `of_probability`.
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        scale: above 0, a number or a tensor of the member dimensions [...];
            `theory.logit_bias.rescale_factor` computes it from the number of classes.
        **params: the loss's parameters, likewise.

    Returns:
        Shape [..., batch].

    Raises:
        ValueError: the loss does not depend on p alone.
    """
    return evaluate_log_odds(loss, log_odds(logits, labels), scale, **params)
