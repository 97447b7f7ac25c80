"""What all losses share: broadcasting of member parameters, log-probabilities, the logit bias."""

from __future__ import annotations

from trainables.losses._torch import Tensor, torch

Scalar = float | Tensor
"""A parameter: one number, or a tensor of the member dimensions."""

SHORT_AXIS = 16
"""Classes up to which the class axis goes before the batch on a CPU (docs/engine.md)."""


def per_example(value: Scalar) -> Scalar:
    """Shape a parameter for values [..., batch].

    Args:
        value: a number, or a tensor of the member dimensions [...].

    Returns:
        The number, or a tensor of shape [..., 1].
    """
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def per_class(value: Scalar) -> Scalar:
    """Shape a parameter for logits [..., batch, classes].

    Args:
        value: a number, or a tensor of the member dimensions [...].

    Returns:
        The number, or a tensor of shape [..., 1, 1].
    """
    return value[..., None, None] if isinstance(value, Tensor) and value.ndim else value


def as_tensor(value: Scalar, like: Tensor) -> Tensor:
    """Convert a parameter to a tensor without waiting for the device.

    Args:
        value: a number or a tensor.
        like: the tensor whose dtype and device the result has.

    Returns:
        A tensor of shape [] for a number, else of the shape of `value`.
    """
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)


def pick(values: Tensor, labels: Tensor) -> Tensor:
    """Entry of the labelled class.

    Args:
        values: shape [..., batch, classes].
        labels: int64, shape [..., batch], or [batch] for labels that all members share.

    Returns:
        Shape [..., batch].
    """
    return values.gather(-1, labels.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Logarithm of the softmax over the last axis.

    Args:
        logits: shape [..., batch, classes].

    Returns:
        Shape [..., batch, classes].
    """
    if logits.ndim > 1 and logits.shape[-1] <= SHORT_AXIS and logits.device.type == "cpu":
        # torch takes ten times as long over a short last axis as over a strided one.
        return logits.transpose(-1, -2).log_softmax(-2).transpose(-1, -2)
    return logits.log_softmax(-1)


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Logarithm of the labelled class's softmax probability, finite for finite logits.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].

    Returns:
        Shape [..., batch], at most 0.
    """
    return pick(log_softmax(logits), labels)


def complement(log_p: Tensor) -> Tensor:
    """Return 1 − p, never exactly 0, so that a fractional power of it has a finite gradient.

    Args:
        log_p: logarithm of p, any shape.

    Returns:
        The shape of `log_p`, in (0, 1].
    """
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)


def add_logit_bias(logits: Tensor, labels: Tensor, epsilon: Scalar) -> Tensor:
    """Add the logit bias ε to the labelled class's logit (arXiv 2306.05497).

    Only the loss sees these logits; predictions use the unbiased ones.

    Args:
        logits: shape [..., batch, classes]; not modified.
        labels: int64, shape [..., batch] or [batch].
        epsilon: ε, a number or a tensor of the member dimensions [...].

    Returns:
        Shape [..., batch, classes].
    """
    if not isinstance(epsilon, Tensor) and epsilon == 0.0:
        return logits
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    shaped = per_class(epsilon)
    if not isinstance(shaped, Tensor):
        shaped = logits.new_full((), shaped)
    return logits.scatter_add(-1, index, shaped.to(logits).expand(index.shape))
