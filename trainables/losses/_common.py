"""What all losses share: broadcasting of member parameters, and log-probabilities."""

from __future__ import annotations

from torch import Tensor

from trainables.losses._registry import Loss, Scalar


def per_example(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for values [..., batch]."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def per_class(value: Scalar) -> Scalar:
    """Shape a parameter of the member dimensions for logits [..., batch, classes]."""
    return value[..., None, None] if isinstance(value, Tensor) and value.ndim else value


def pick(values: Tensor, labels: Tensor) -> Tensor:
    """Entry of the labelled class: [..., batch, classes] → [..., batch].

    Labels [batch] serve all members.
    """
    return values.gather(-1, labels.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log p of the labelled class, finite for finite logits: [..., batch]."""
    return pick(logits.log_softmax(-1), labels)


def add_logit_bias(logits: Tensor, labels: Tensor, epsilon: Scalar) -> Tensor:
    """Return logits [..., batch, classes] with `epsilon` added to the labelled class's.

    `epsilon` is a float or a tensor of the member dimensions. For the loss only: predictions use
    the logits as they are. The input is not modified (arXiv 2306.05497).
    """
    if not isinstance(epsilon, Tensor) and epsilon == 0.0:
        return logits
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    if isinstance(epsilon, Tensor):
        shaped = epsilon[..., None, None] if epsilon.ndim else epsilon
        source = shaped.to(logits).expand(index.shape)
    else:
        source = logits.new_full((), epsilon).expand(index.shape)
    return logits.scatter_add(-1, index, source)


def evaluate(
    loss: Loss, logits: Tensor, labels: Tensor, epsilon: Scalar = 0.0, **params: Scalar
) -> Tensor:
    """Values [..., batch] of `loss` on logits that carry the logit bias `epsilon`."""
    return loss.function(add_logit_bias(logits, labels, epsilon), labels, **params)
