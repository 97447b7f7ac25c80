"""Optimisers and learning-rate schedules for stacked parameters, one setting per member."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from trainables.engine.spec import Recipe

Number = float | torch.Tensor

SCHEDULES = ("cosine", "constant", "step")
OPTIMIZERS = ("sgd", "adamw")
_BETAS, _EPS = (0.9, 0.999), 1e-8  # of AdamW, as torch.optim.AdamW has them


def lr_factor(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate at `step` (from 0) of `steps` in all.

    Warm-up rises linearly to 1; the schedule then runs over what is left.
    """
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    if recipe.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if recipe.schedule == "step":
        passed = bisect.bisect_right(sorted(recipe.milestones), progress)
        return recipe.gamma**passed
    return 1.0


class StackedOptimizer(ABC):
    """Updates K members at once, each with its own learning rate and weight decay.

    Parameters
    ----------
    parameters: tensors [K, …]. lr, weight_decay, weight_l1: tensors [K].
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: torch.Tensor,
        weight_decay: torch.Tensor,
        weight_l1: torch.Tensor,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.weight_decay, self.weight_l1 = lr, weight_decay, weight_l1
        self.decays = bool((weight_decay != 0).any())
        self.has_l1 = bool((weight_l1 != 0).any())
        self.state: list[list[torch.Tensor]] = []  # moments of each parameter, [K, …]
        self.steps = 0

    def advance(self, factor: float) -> tuple[float, ...]:
        """Count one more step; what `update` is to be given for learning rates lr · `factor`."""
        self.steps += 1
        return self._numbers(factor)

    def step(self, factor: float) -> None:
        """One update with learning rates lr · `factor`; gradients are then dropped."""
        self.update(self.advance(factor))

    @torch.no_grad()
    def update(self, numbers: Sequence[Number]) -> None:
        """One update, by what `advance` gave, as numbers or tensors; gradients are then dropped."""
        rate = self.lr * -numbers[0]
        shaped: dict[int, torch.Tensor] = {}  # by number of dimensions
        for parameter, moments in zip(self.parameters, self.state, strict=True):
            gradient, dimensions = parameter.grad, parameter.dim()
            if gradient is None:
                raise ValueError(
                    f"a parameter of shape {tuple(parameter.shape[1:])} takes no part in the "
                    "model's output; remove it or freeze it (requires_grad = False)"
                )
            parameter.grad = None  # the gradient's memory is the optimiser's now
            if dimensions not in shaped:
                shaped[dimensions] = _per_member(rate, parameter)
            if self.has_l1:
                l1 = _per_member(self.weight_l1, parameter)
                gradient.addcmul_(parameter.sign(), l1)
            self._update(parameter, gradient, moments, shaped[dimensions], numbers)

    def select(self, kept: list[int], parameters: Iterable[torch.nn.Parameter]) -> None:
        """Go on with the members in `kept`, whose parameters are now `parameters`."""
        self.parameters = list(parameters)
        self.lr, self.weight_decay = self.lr[kept], self.weight_decay[kept]
        self.weight_l1 = self.weight_l1[kept]
        self.state = [[moment[kept] for moment in moments] for moments in self.state]

    def _numbers(self, factor: float) -> tuple[float, ...]:
        """What is the same for all members in this step; the first is multiplied by lr."""
        return (factor,)

    @abstractmethod
    def _update(
        self,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        moments: list[torch.Tensor],
        rate: torch.Tensor,
        numbers: Sequence[Number],
    ) -> None:
        """Move `parameter` by `rate` times its direction; may write to `gradient`."""


class StackedSGD(StackedOptimizer):
    """As `torch.optim.SGD` with momentum, and Nesterov's if asked."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: torch.Tensor,
        weight_decay: torch.Tensor,
        weight_l1: torch.Tensor,
        momentum: float,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, lr, weight_decay, weight_l1)
        self._momentum, self._nesterov = momentum, nesterov
        self.state = [[torch.zeros_like(p)] for p in self.parameters]

    def _update(
        self,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        moments: list[torch.Tensor],
        rate: torch.Tensor,
        numbers: Sequence[Number],
    ) -> None:
        (velocity,) = moments
        if self.decays:
            gradient.addcmul_(parameter, _per_member(self.weight_decay, parameter))
        torch.add(gradient, velocity, alpha=self._momentum, out=velocity)
        if self._nesterov:
            velocity = gradient.add_(velocity, alpha=self._momentum)
        parameter.addcmul_(velocity, rate)


class StackedAdamW(StackedOptimizer):
    """As `torch.optim.AdamW` (Loshchilov & Hutter 2019)."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: torch.Tensor,
        weight_decay: torch.Tensor,
        weight_l1: torch.Tensor,
    ) -> None:
        super().__init__(parameters, lr, weight_decay, weight_l1)
        self.state = [[torch.zeros_like(p), torch.zeros_like(p)] for p in self.parameters]

    def _update(
        self,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        moments: list[torch.Tensor],
        rate: torch.Tensor,
        numbers: Sequence[Number],
    ) -> None:
        mean, square = moments
        _, factor, scale = numbers
        if self.decays:
            parameter.mul_(_per_member(1.0 - self.lr * factor * self.weight_decay, parameter))
        mean.lerp_(gradient, 1.0 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1.0 - _BETAS[1])
        parameter.addcmul_(mean / (square.sqrt() / scale + _EPS), rate)

    def _numbers(self, factor: float) -> tuple[float, ...]:
        scale = math.sqrt(1.0 - _BETAS[1] ** self.steps)
        return factor / (1.0 - _BETAS[0] ** self.steps), factor, scale


def make_optimizer(
    recipe: Recipe,
    parameters: Iterable[torch.nn.Parameter],
    lr: torch.Tensor,
    weight_decay: torch.Tensor,
    weight_l1: torch.Tensor,
) -> StackedOptimizer:
    """The optimiser that a recipe asks for."""
    if recipe.optimizer == "adamw":
        return StackedAdamW(parameters, lr, weight_decay, weight_l1)
    return StackedSGD(parameters, lr, weight_decay, weight_l1, recipe.momentum, recipe.nesterov)


def norms(stacked: list[torch.Tensor]) -> torch.Tensor:
    """Norm of each member's part of tensors [K, …]: [K].

    On a CPU by NumPy, which multiplies each member's vector with itself: a reduction over [K, n]
    adds in another order for K = 1 than for K > 1.
    """
    total = torch.zeros(len(stacked[0]), dtype=stacked[0].dtype, device=stacked[0].device)
    for tensor in stacked:
        # A linear weight may lie transposed; a norm does not care for the order.
        flat = (tensor if tensor.is_contiguous() else tensor.mT).detach().flatten(1)
        if flat.device.type == "cpu":
            vectors = flat.numpy()
            squares = np.matmul(vectors[:, None, :], vectors[:, :, None])
            total += torch.from_numpy(squares).view(-1)
        else:
            total += flat.square().sum(1)
    return total.sqrt_()


def clip(parameters: list[torch.nn.Parameter], largest: float) -> None:
    """Scale each member's gradient down to norm `largest`, as `clip_grad_norm_` does for one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    factor = (largest / (norms(gradients) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(_per_member(factor, gradient))


def _per_member(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.view(-1, *[1] * (like.dim() - 1))
