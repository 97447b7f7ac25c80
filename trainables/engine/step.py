"""One training step of a cohort; on a GPU as a CUDA graph.

ε enters here: `TrainingStep._gradients` takes the logit bias from `CohortLosses.bias` (ε of each
member times the schedule's factor), and `CohortLosses.__call__` adds it to the labelled logit
before the loss. ε has no other effect on training.

A step of small networks is some hundred kernels of a few microseconds, and launching each kernel
from Python takes longer than running it. A CUDA graph records the launches of one step and repeats
them in one call. Values that differ between steps are passed in tensors with fixed addresses.
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
from trainables.engine.optimizers import Number, StackedOptimizer, clip, norms
from trainables.engine.spec import Recipe
from trainables.stacking import StackedModel
from trainables.stacking.streams import new_stream

_SYNC_WARNING = "called a synchronizing CUDA operation"  # part of torch's warning
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


@dataclass
class _GraphedCall:
    """A step recorded as a CUDA graph, with the tensors that it reads and writes.

    Attributes:
        graph: repeats the step.
        batch: inputs and labels, which the step reads.
        numbers: the factor on ε, then the optimizer's numbers, which the step reads.
        observed: the fields of `Observed`, stacked, which the step writes.
        norm: the gradients' norms [K], which the step writes; None where they are not computed.
    """

    graph: torch.cuda.CUDAGraph
    batch: Batch
    numbers: torch.Tensor
    observed: torch.Tensor
    norm: torch.Tensor | None


class GraphedStep:
    """A step on a GPU: the first of each batch size runs eagerly, a later one is recorded.

    Before the first recording, one eager step is checked for operations that make the host wait for
    the GPU (in a loss that reads a value, for example). A step with such an operation cannot be
    recorded; it then always runs eagerly, and a warning says so.

    Args:
        step: the step to record.
    """

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._calls: dict[tuple[int, bool], _GraphedCall | None] = {}
        self._pool: Any = None  # memory that the graphs share
        self._can_record: bool | None = None  # None: not checked yet

    def __call__(self, batch: Batch, factors: ScheduleFactors) -> StepResult:
        """Train on one batch."""
        rates = self._step.optimizer.advance(factors.lr_factor)
        key = batch.examples, factors.is_last
        is_first = key not in self._calls
        if not is_first and self._calls[key] is None and self._can_record:
            self._calls[key] = self._record(batch, len(rates), factors.is_last)
        call = self._calls.setdefault(key, None)
        numbers = torch.tensor([factors.epsilon_factor, *rates], dtype=self._step.dtype)
        if call is None:
            epsilon_factor, *others = numbers.to(batch.inputs.device).unbind()
            # A first step always waits: it loads libraries and allocates memory.
            is_check = not is_first and self._can_record is None
            update = self._update_and_check if is_check else self._step.update
            return update(batch, epsilon_factor, others, factors.is_last)
        for source, target in zip(batch, call.batch, strict=True):
            target.copy_(source)
        call.numbers.copy_(numbers)
        call.graph.replay()
        observed = Observed(*call.observed.clone().unbind())
        return StepResult(observed, None if call.norm is None else call.norm.clone())

    def _update_and_check(
        self, batch: Batch, epsilon_factor: Number, rates: Sequence[Number], wants_norm: bool
    ) -> StepResult:
        """An eager step that also finds out whether such steps can be recorded."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = self._step.update(batch, epsilon_factor, rates, wants_norm)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        self._can_record = not any(_SYNC_WARNING in str(warning.message) for warning in caught)
        if not self._can_record:
            self._warn("it makes the host wait for the GPU")
        return result

    def _warn(self, reason: str) -> None:
        _log.warning(
            "a training step cannot be recorded as a CUDA graph and runs without one, which is "
            "slower: %s",
            reason,
        )

    def _record(self, batch: Batch, rates: int, is_last: bool) -> _GraphedCall | None:
        device = batch.inputs.device
        static_batch = Batch(*(tensor.clone() for tensor in batch))
        numbers = torch.zeros(1 + rates, dtype=self._step.dtype, device=device)
        epsilon_factor, *others = numbers.unbind()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # a graph allocates its own memory
        try:
            # Thread-local, so that other threads of the process cannot end the recording.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=new_stream(device),
                capture_error_mode="thread_local",
            ):
                result = self._step.update(static_batch, epsilon_factor, others, is_last)
                observed = torch.stack([field.to(self._step.dtype) for field in result.observed])
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
                raise error.__context__ from None  # it made the end of the recording fail
            self._can_record = False
            self._step.drop_gradients()
            self._warn(str(error).splitlines()[0])
            return None
        self._pool = self._pool or graph.pool()
        return _GraphedCall(graph, static_batch, numbers, observed, result.grad_norm)
