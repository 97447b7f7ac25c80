"""One training step of a cohort; on a GPU as a CUDA graph.

A step of small networks is some hundred kernels of a few microseconds, and launching each from
Python takes longer than running it. A CUDA graph records the launches of one step and repeats them
in one call. What differs between steps reaches it through tensors that stay where they are.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from trainables.engine.cohort_losses import CohortLosses
from trainables.engine.data import Batch
from trainables.engine.metrics import Observed, observe
from trainables.engine.optimizers import StackedOptimizer, clip, norms
from trainables.engine.spec import Recipe
from trainables.stacking import StackedModel

Number = float | torch.Tensor
_WAITS = "called a synchronizing CUDA operation"  # in the warning of torch
_log = logging.getLogger(__name__)


class ScheduleFactors(NamedTuple):
    """How far training is: factors on ε and the learning rate; whether the epoch ends here."""

    epsilon: float
    lr: float
    is_last: bool


class StepResult(NamedTuple):
    """What is recorded of a step; `grad_norm` [K] of an epoch's last step only."""

    observed: Observed
    grad_norm: torch.Tensor | None


class TrainingStep:
    """Forward and backward pass and update of K members.

    Parameters
    ----------
    dtype: in which losses are computed, whatever the precision of the forward pass.
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

    def __call__(self, batch: Batch, progress: ScheduleFactors) -> StepResult:
        """Train on one batch."""
        rates = self.optimizer.advance(progress.lr)
        return self.update(batch, progress.epsilon, rates, progress.is_last)

    def update(
        self, batch: Batch, epsilon: Number, rates: Sequence[Number], wants_norm: bool
    ) -> StepResult:
        """Train on one batch, by a factor on ε and what the optimiser's `advance` gave."""
        try:
            observed = self._gradients(batch, epsilon)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler has many of its own
            if not self._model.compiles:
                raise
            self._model.compiles = False
            self.drop_gradients()
            _log.warning(
                "torch.compile failed; training goes on without it: %s",
                (str(error).strip() or type(error).__name__).splitlines()[0],
            )
            observed = self._gradients(batch, epsilon)
        parameters = self.optimizer.parameters
        norm = norms([p.grad for p in parameters if p.grad is not None]) if wants_norm else None
        if self._clip_norm is not None:
            clip(parameters, self._clip_norm)
        self.optimizer.update(rates)
        return StepResult(observed, norm)

    def _gradients(self, batch: Batch, epsilon: Number) -> Observed:
        kind = batch.inputs.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self._mixed, cache_enabled=False):
            logits = self._model(batch.inputs)
        logits = logits.to(self.dtype)
        bias = self._losses.bias(epsilon, len(batch.clean))
        examples = self._losses(logits, batch.noisy, bias)
        # Before the backward pass: after it, the logits would have to be fetched from memory again.
        observed = observe(logits, examples, batch.noisy, batch.clean)
        # A given gradient of 1/B an example, rather than a mean over the members' losses,
        # keeps reductions over members out of the computation.
        examples.loss.backward(torch.full_like(examples.loss, 1.0 / len(batch.clean)))
        assert bias.grad is not None
        return observed._replace(delta=bias.grad)

    def drop_gradients(self) -> None:
        """Forget the gradients of a step that was broken off."""
        for parameter in self.optimizer.parameters:
            parameter.grad = None


@dataclass
class _Recorded:
    """A step as a CUDA graph, with the tensors through which it is told and tells."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    numbers: torch.Tensor
    observed: torch.Tensor
    norm: torch.Tensor | None


class GraphedStep:
    """A step on a GPU. The first step of each size runs as it is, a later one is recorded.

    Before the first recording a step is watched: one that makes the host wait for the GPU (a loss
    that asks for a number, for example) cannot be recorded. It goes on as it is, which is said.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._recorded: dict[tuple[int, bool], _Recorded | None] = {}
        self._pool: Any = None  # memory that the graphs share
        self._can_record: bool | None = None  # unknown

    def __call__(self, batch: Batch, progress: ScheduleFactors) -> StepResult:
        """Train on one batch."""
        rates = self._step.optimizer.advance(progress.lr)
        size = len(batch.clean), progress.is_last
        is_first = size not in self._recorded
        if not is_first and self._recorded[size] is None and self._can_record:
            self._recorded[size] = self._record(batch, len(rates), progress.is_last)
        recorded = self._recorded.setdefault(size, None)
        numbers = torch.tensor([progress.epsilon, *rates], dtype=self._step.dtype)
        if recorded is None:
            epsilon, *others = numbers.to(batch.inputs.device).unbind()
            watched = not is_first and self._can_record is None  # a first step waits for much
            update = self._watched if watched else self._step.update
            return update(batch, epsilon, others, progress.is_last)
        for here, there in zip(batch, recorded.batch, strict=True):
            there.copy_(here)
        recorded.numbers.copy_(numbers)
        recorded.graph.replay()
        observed = Observed(*recorded.observed.clone().unbind())
        return StepResult(observed, None if recorded.norm is None else recorded.norm.clone())

    def _watched(
        self, batch: Batch, epsilon: Number, rates: Sequence[Number], wants_norm: bool
    ) -> StepResult:
        """A step as it is, by which is found whether such steps can be recorded."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = self._step.update(batch, epsilon, rates, wants_norm)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        self._can_record = not any(_WAITS in str(one.message) for one in said)
        if not self._can_record:
            self._say_why_not("it makes the host wait for the GPU")
        return result

    def _say_why_not(self, reason: str) -> None:
        _log.warning(
            "a training step cannot be recorded as a CUDA graph and runs without, which is "
            "slower: %s",
            reason,
        )

    def _record(self, batch: Batch, rates: int, is_last: bool) -> _Recorded | None:
        device = batch.inputs.device
        still = Batch(*(part.clone() for part in batch))
        numbers = torch.zeros(1 + rates, dtype=self._step.dtype, device=device)
        epsilon, *others = numbers.unbind()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # a graph has memory of its own
        try:
            # Thread-local, so that what other threads of the process do cannot end the recording.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=torch.cuda.Stream(device),
                capture_error_mode="thread_local",
            ):
                found = self._step.update(still, epsilon, others, is_last)
                observed = torch.stack([part.to(self._step.dtype) for part in found.observed])
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
                raise error.__context__ from None  # ending the recording failed because of it
            self._can_record = False
            self._step.drop_gradients()
            self._say_why_not(str(error).splitlines()[0])
            return None
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, still, numbers, observed, found.grad_norm)
