"""Optimisers for stacked parameters, with settings per member, and learning-rate schedules."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from trainables import kernels
from trainables.engine.spec import Recipe

Number = float | torch.Tensor
"""A number of a training step; a tensor where a CUDA graph reads it."""

_BETAS, _EPS = (0.9, 0.999), 1e-8  # of AdamW, the defaults of torch.optim.AdamW


def lr_factor(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """Factor on the learning rate at one step.

    It rises linearly to 1 during the warm-up; the schedule then runs over the remaining steps.

    Args:
        recipe: has the schedule and the warm-up.
        step: number of the step, from 0.
        steps: number of steps in all epochs.
        steps_per_epoch: number of steps in one epoch.

    Returns:
        in [0, 1] for a `gamma` up to 1.
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

    Args:
        parameters: each of shape [K, …].
        lr: learning rates, [K].
        weight_decay: coefficients of the weight decay, [K].
        weight_l1: coefficients of the absolute sum of the parameters, [K].

    Attributes:
        state: moments of each parameter, each of shape [K, …].
        steps: number of updates so far.
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
        self.state: list[list[torch.Tensor]] = []
        self.steps = 0

    def advance(self, factor: float) -> tuple[float, ...]:
        """Count one more step.

        Args:
            factor: on the learning rates, from the schedule.

        Returns:
            the numbers that `update` needs for this step.
        """
        self.steps += 1
        return self._numbers(factor)

    def step(self, factor: float) -> None:
        """Update the parameters; the gradients are then deleted.

        Args:
            factor: on the learning rates, from the schedule.
        """
        self.update(self.advance(factor))

    @torch.no_grad()
    def update(self, numbers: Sequence[Number]) -> None:
        """Update the parameters; the gradients are then deleted.

        Args:
            numbers: what `advance` returned, as numbers or tensors.

        Raises:
            ValueError: a parameter has no gradient.
        """
        rate = self.lr * -numbers[0]
        shaped: dict[int, torch.Tensor] = {}  # by number of dimensions
        for parameter, moments in zip(self.parameters, self.state, strict=True):
            gradient, dimensions = parameter.grad, parameter.dim()
            if gradient is None:
                raise ValueError(
                    f"a parameter of shape {tuple(parameter.shape[1:])} takes no part in the "
                    "model's output; remove it or freeze it (requires_grad = False)"
                )
            parameter.grad = None  # below, the gradient's memory is overwritten
            if dimensions not in shaped:
                shaped[dimensions] = _per_member(rate, parameter)
            if self.has_l1:
                l1 = _per_member(self.weight_l1, parameter)
                gradient.addcmul_(parameter.sign(), l1)
            self._update(parameter, gradient, moments, shaped[dimensions], numbers)

    def select(self, kept: list[int], parameters: Iterable[torch.nn.Parameter]) -> None:
        """Continue with some of the members.

        Args:
            kept: their indices.
            parameters: their parameters, each of shape [len(kept), …].
        """
        self.parameters = list(parameters)
        self.lr, self.weight_decay = self.lr[kept], self.weight_decay[kept]
        self.weight_l1 = self.weight_l1[kept]
        self.state = [[moment[kept] for moment in moments] for moments in self.state]

    def _numbers(self, factor: float) -> tuple[float, ...]:
        """The numbers of this step that all members share; the first is a factor on lr."""
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
        """Move `parameter` by `rate` (negative, [K, 1, …]) times its direction.

        May overwrite `gradient`.
        """


class StackedSGD(StackedOptimizer):
    """The same updates as `torch.optim.SGD` with momentum.

    Args:
        parameters: as in `StackedOptimizer`.
        lr: as in `StackedOptimizer`.
        weight_decay: as in `StackedOptimizer`.
        weight_l1: as in `StackedOptimizer`.
        momentum: the same for all members.
        nesterov: whether to use Nesterov's momentum.
    """

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
        # Compiling the kernel takes longer than it saves for models without convolutions.
        self._has_filters = any(p.dim() == 5 for p in self.parameters)
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
        if self._has_filters and _can_fuse(parameter, gradient, velocity):
            from trainables.kernels import sgd  # here, because it needs Triton

            decay = self.weight_decay if self.decays else None
            sgd.update(parameter, gradient, velocity, rate, decay, self._momentum, self._nesterov)
            return
        if self.decays:
            gradient.addcmul_(parameter, _per_member(self.weight_decay, parameter))
        torch.add(gradient, velocity, alpha=self._momentum, out=velocity)
        if self._nesterov:
            velocity = gradient.add_(velocity, alpha=self._momentum)
        parameter.addcmul_(velocity, rate)


class StackedAdamW(StackedOptimizer):
    """The same updates as `torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

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
    """The optimiser of a recipe, with the arguments of `StackedOptimizer`."""
    if recipe.optimizer == "adamw":
        return StackedAdamW(parameters, lr, weight_decay, weight_l1)
    return StackedSGD(parameters, lr, weight_decay, weight_l1, recipe.momentum, recipe.nesterov)


def norms(stacked: list[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm of each member's tensors.

    NumPy computes it on a CPU, as the product of each member's vector with itself: a reduction over
    [K, n] adds in another order for K = 1 than for K > 1.

    Args:
        stacked: each of shape [K, …].

    Returns:
        shape [K], the norm over all tensors of each member.
    """
    total = torch.zeros(len(stacked[0]), dtype=stacked[0].dtype, device=stacked[0].device)
    for tensor in stacked:
        # A linear weight may be transposed in memory, which does not change its norm.
        flat = (tensor if tensor.is_contiguous() else tensor.mT).detach().flatten(1)
        if flat.device.type == "cpu":
            vectors = flat.numpy()
            squares = np.matmul(vectors[:, None, :], vectors[:, :, None])
            total += torch.from_numpy(squares).view(-1)
        else:
            total += flat.square().sum(1)
    return total.sqrt_()


def clip(parameters: list[torch.nn.Parameter], largest: float) -> None:
    """Scale each member's gradient down to a largest norm, in place.

    Each member gets the result of `torch.nn.utils.clip_grad_norm_` for one network.

    Args:
        parameters: each of shape [K, …], with gradients.
        largest: the largest norm, above 0.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    factor = (largest / (norms(gradients) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(_per_member(factor, gradient))


def _can_fuse(parameter: torch.Tensor, *others: torch.Tensor) -> bool:
    """Whether `kernels.sgd` can update a parameter: member after member, without gaps."""
    if not kernels.are_available(parameter):
        return False
    last = sum((n - 1) * s for n, s in zip(parameter.shape, parameter.stride(), strict=True))
    return (
        last + 1 == parameter.numel()
        and (len(parameter) == 1 or parameter.stride(0) == parameter.numel() // len(parameter))
        and all(_strides(other) == _strides(parameter) for other in others)
    )


def _strides(tensor: torch.Tensor) -> list[int]:
    """Strides of the axes with more than one number; the others have any."""
    return [s for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]


def _per_member(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.view(-1, *[1] * (like.dim() - 1))
