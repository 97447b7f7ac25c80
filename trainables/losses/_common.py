"""What all losses share: broadcasting of member parameters, log-probabilities, the logit bias."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.losses._registry import Loss, Scalar

_SHORT_AXIS = 16  # classes; measured with torch 2.15, docs/engine.md


def per_example(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for values [..., batch]."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def per_class(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for logits [..., batch, classes]."""
    return value[..., None, None] if isinstance(value, Tensor) and value.ndim else value


def log1p(value: Scalar) -> Tensor:
    """Return log(1 + value) of a float or a tensor."""
    return torch.log1p(torch.as_tensor(value))


def pick(values: Tensor, labels: Tensor) -> Tensor:
    """Entry of the labelled class: [..., batch, classes] → [..., batch].

    Labels [batch] serve all members.
    """
    return values.gather(-1, labels.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Return the logarithm of the softmax over the last axis, [..., batch, classes]."""
    if logits.ndim > 1 and logits.shape[-1] <= _SHORT_AXIS and logits.device.type == "cpu":
        # torch takes ten times as long over a short last axis as over a strided one.
        return logits.transpose(-1, -2).log_softmax(-2).transpose(-1, -2)
    return logits.log_softmax(-1)


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log p of the labelled class, finite for finite logits: [..., batch]."""
    return pick(log_softmax(logits), labels)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return Δ = z_y − log Σ_{i≠y} exp(z_i), so that p = sigmoid(Δ): [..., batch].

    Keeps the relative precision of 1 − p that log p loses where p is near 1.
    """
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    others = logits.scatter(-1, index, float("-inf")).logsumexp(-1)
    return logits.gather(-1, index).squeeze(-1) - others


def complement(log_p: Tensor) -> Tensor:
    """Return 1 − p, never exactly 0, so that a fractional power of it has a finite gradient."""
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)


def add_logit_bias(logits: Tensor, labels: Tensor, epsilon: Scalar) -> Tensor:
    """Return logits [..., batch, classes] with `epsilon` added to the labelled class's.

    `epsilon` is a float or a tensor of the member dimensions. For the loss only: predictions use
    the logits as they are. The input is not modified (arXiv 2306.05497).
    """
    if not isinstance(epsilon, Tensor) and epsilon == 0.0:
        return logits
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    shaped = per_class(epsilon)
    if not isinstance(shaped, Tensor):
        shaped = logits.new_full((), shaped)
    return logits.scatter_add(-1, index, shaped.to(logits).expand(index.shape))


def evaluate(
    loss: Loss, logits: Tensor, labels: Tensor, epsilon: Scalar = 0.0, **params: Scalar
) -> Tensor:
    """Values [..., batch] of `loss` on logits that carry the logit bias `epsilon`."""
    return loss.function(add_logit_bias(logits, labels, epsilon), labels, **params)


def evaluate_rescaled(
    loss: Loss, logits: Tensor, labels: Tensor, scale: Scalar, **params: Scalar
) -> Tensor:
    """Values [..., batch] of `loss` with Ou & Zhang's rescaled weight function (2305.02139).

    A loss l of the labelled probability p = sigmoid(Δ) has gradient −w(Δ)∇Δ. Their `rescale`
    trains with w(scale · Δ) instead, which is the gradient of l(sigmoid(scale · Δ)) / scale.
    `scale` > 0 is a float or a tensor of the member dimensions; `logit_bias.rescale_factor`
    computes it from the number of classes. Their `shift` is the logit bias itself.

    Raises ValueError for a loss that does not depend on p alone.
    """
    if not loss.of_probability:
        raise ValueError(
            f"loss {loss.name}: rescale needs a loss of the labelled probability alone"
        )
    scale = per_example(scale)
    delta = log_odds(logits, labels) * scale
    two_classes = torch.stack([delta, torch.zeros_like(delta)], dim=-1)
    label = torch.zeros((), dtype=torch.int64, device=logits.device)
    return loss.function(two_classes, label, **params) / scale
