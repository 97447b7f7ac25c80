"""One training step of a cohort.

ε enters here: `TrainingStep._gradients` takes the logit bias from `CohortLosses.bias` (ε of each
member times the schedule's factor), and `CohortLosses.__call__` adds it to the labelled logit
before the loss. ε has no other effect on training. On a GPU the step is recorded as a CUDA graph
(`trainables.engine.recorded_steps`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from trainables.engine.cohort_losses import CohortLosses
from trainables.engine.data import Batch, CohortData
from trainables.engine.metrics import Observed, observe
from trainables.engine.optimizers import Number, StackedOptimizer, clip, norms
from trainables.engine.spec import Recipe
from trainables.stacking import StackedModel

_log = logging.getLogger(__name__)


class ScheduleFactors(NamedTuple):
    """What the schedules give for one step.

    Attributes:
        epsilon_factor: factor on every member's logit bias ε.
        lr_factor: factor on every member's learning rate.
        is_last: whether this is the epoch's last step.
    """

    epsilon_factor: float
    lr_factor: float
    is_last: bool


class StepResult(NamedTuple):
    """What is recorded of a step.

    Attributes:
        observed: what is recorded of every example.
        grad_norm: norm of each member's gradient, [K]; None unless it is an epoch's last step.
    """

    observed: Observed
    grad_norm: torch.Tensor | None


class TrainingStep:
    """Forward pass, backward pass and update of K members.

    Args:
        model: the stacked members.
        losses: the members' losses, in the model's order.
        optimizer: optimiser of the model's parameters.
        recipe: has the precision and the largest gradient norm.
        dtype: type of the losses, whatever the precision of the forward pass.
    """

    def __init__(
        self,
        model: StackedModel,
        losses: CohortLosses,
        optimizer: StackedOptimizer,
        recipe: Recipe,
        dtype: torch.dtype,
    ) -> None:
        self.optimizer, self.dtype = optimizer, dtype
        self._model, self._losses = model, losses
        self._mixed, self._clip_norm = recipe.precision == "bf16", recipe.clip_norm

    def __call__(self, batch: Batch, factors: ScheduleFactors) -> StepResult:
        """Train on one batch."""
        rates = self.optimizer.advance(factors.lr_factor)
        return self.update(batch, factors.epsilon_factor, rates, factors.is_last)

    def update(
        self, batch: Batch, epsilon_factor: Number, rates: Sequence[Number], wants_norm: bool
    ) -> StepResult:
        """Train on one batch.

        Args:
            batch: inputs and labels.
            epsilon_factor: factor on every member's ε.
            rates: the numbers that the optimizer's `advance` returned for this step.
            wants_norm: whether to compute the gradients' norms.

        Returns:
            what is recorded of the step.
        """
        try:
            observed = self._gradients(batch, epsilon_factor)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler raises many types of its own
            if not self._model.compiles:
                raise
            self._model.compiles = False
            self.drop_gradients()
            _log.warning(
                "torch.compile failed; training goes on without it: %s",
                (str(error).strip() or type(error).__name__).splitlines()[0],
            )
            observed = self._gradients(batch, epsilon_factor)
        parameters = self.optimizer.parameters
        norm = norms([p.grad for p in parameters if p.grad is not None]) if wants_norm else None
        if self._clip_norm is not None:
            clip(parameters, self._clip_norm)
        self.optimizer.update(rates)
        return StepResult(observed, norm)

    def _gradients(self, batch: Batch, epsilon_factor: Number) -> Observed:
        kind = batch.inputs.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self._mixed, cache_enabled=False):
            logits = self._model(batch.inputs, is_shared=batch.is_shared)
        logits = logits.to(self.dtype)
        bias = self._losses.bias(epsilon_factor, batch.examples)  # ε enters here
        examples = self._losses(logits, batch.noisy, bias)
        # Before the backward pass: after it, the logits would have to be read from memory again.
        observed = observe(logits, examples, batch.noisy, batch.clean)
        # A given gradient of 1/B per example, instead of a mean over the members' losses, avoids
        # reductions over members.
        gradient = torch.full_like(examples.loss, 1.0 / batch.examples)
        torch.autograd.backward(examples.loss, gradient)
        assert bias.grad is not None
        return observed._replace(delta=bias.grad)

    def drop_gradients(self) -> None:
        """Delete the gradients of an interrupted step."""
        for parameter in self.optimizer.parameters:
            parameter.grad = None


class EagerSteps:
    """Steps that run operation by operation, as on a CPU.

    Args:
        step: the step.
        data: the cohort's data.
        batch_size: examples per batch.
    """

    def __init__(self, step: TrainingStep, data: CohortData, batch_size: int) -> None:
        self._step, self._data, self._batch_size = step, data, batch_size

    def run(self, epoch: int, factors: Sequence[ScheduleFactors]) -> Iterator[StepResult]:
        """Train the steps of an epoch.

        Args:
            epoch: from 1.
            factors: what the schedules give for each step; fewer than an epoch's steps are allowed.

        Yields:
            what is recorded of each step.
        """
        batches = self._data.epoch(epoch, self._batch_size)
        # Batches first: their generator then also comes to its end.
        for batch, factor in zip(batches, factors, strict=False):
            yield self._step(batch, factor)
