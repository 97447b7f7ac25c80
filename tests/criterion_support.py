"""Batches and comparisons that the tests of `Criterion` share."""

import torch
from torch import nn

from trainables import losses

CLASSES = 7
SOFT = [name for name in losses.names() if not losses.get(name).of_distribution]
HARD_ONLY = [name for name in losses.names() if losses.get(name).of_distribution]


def batch(
    shape: tuple[int, ...] = (16, CLASSES), seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a shape, and class indices for them."""
    generator = torch.Generator().manual_seed(seed)
    axis = 0 if len(shape) == 1 else 1
    of_indices = shape[:axis] + shape[axis + 1 :]
    logits = 3 * torch.randn(shape, generator=generator, dtype=dtype)
    return logits, torch.randint(shape[axis], of_indices, generator=generator)


def soft_labels(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    """Label distributions for logits of a shape."""
    axis = 0 if len(shape) == 1 else 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).softmax(axis)


def weights() -> torch.Tensor:
    return torch.linspace(0.2, 2.0, CLASSES)


def value_and_gradient(
    criterion: nn.Module, logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    value = criterion(leaf, labels)
    cotangent = torch.linspace(1.0, 2.0, max(1, value.numel()), dtype=value.dtype)
    cotangent = cotangent[: value.numel()].reshape(value.shape)
    (gradient,) = torch.autograd.grad(value, leaf, cotangent)
    return value.detach(), gradient


LOGITS, LABELS = batch()
