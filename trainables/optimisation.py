"""Optimisers and learning-rate schedules for stacked parameters, one setting per member."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": _cosine, "constant": _constant}
"""Factor on the learning rate against progress = step / total steps in [0, 1)."""


class StackedSGD:
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`, for K members at once.

    Parameters
    ----------
    parameters: tensors [K, …].
    lr, momentum, weight_decay: tensors [K].
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: torch.Tensor,
        momentum: torch.Tensor,
        weight_decay: torch.Tensor,
    ) -> None:
        self._parameters = list(parameters)
        self._velocity = [torch.zeros_like(p) for p in self._parameters]
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay
        self._decays = bool((weight_decay != 0).any())

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with learning rates lr · `factor`; gradients are then dropped."""
        for parameter, velocity in zip(self._parameters, self._velocity, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            if self._decays:
                gradient = gradient.addcmul(parameter, _per_member(self._weight_decay, parameter))
            velocity.mul_(_per_member(self._momentum, parameter)).add_(gradient)
            parameter.addcmul_(velocity, _per_member(self._lr * -factor, parameter))
            parameter.grad = None


def _per_member(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.view(-1, *[1] * (like.dim() - 1))
