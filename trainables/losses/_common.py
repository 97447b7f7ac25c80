"""What all losses share: broadcasting of member parameters, log-probabilities, the logit bias."""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = float | Tensor
_SHORT_AXIS = 16  # classes; measured with torch 2.15, docs/engine.md


def per_example(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for values [..., batch]."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def per_class(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for logits [..., batch, classes]."""
    return value[..., None, None] if isinstance(value, Tensor) and value.ndim else value


def as_tensor(value: Scalar, like: Tensor) -> Tensor:
    """Return `value` with the type and device of `like`, without a wait for the device."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)


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
