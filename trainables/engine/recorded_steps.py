"""A cohort's training steps on a GPU, recorded as CUDA graphs.

A step of small networks is some hundred kernels of a few microseconds, and launching each kernel
from Python takes longer than running it. A CUDA graph records the launches of one step and repeats
them in one call. The step takes its batch, its numbers and the place of its results from the
position in the epoch, which it counts itself; between two steps the host only starts the graph.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.engine.cuda_graphs import CannotRecordError, recorded
from trainables.engine.fixed_batches import FixedBatches
from trainables.engine.metrics import SUMMED_AT_ONCE, Observed
from trainables.engine.step import ScheduleFactors, StepResult, TrainingStep

_SYNC_WARNING = "called a synchronizing CUDA operation"  # part of torch's warning
_log = logging.getLogger(__name__)


@dataclass
class _Recording:
    """A step recorded as a CUDA graph, with the tensors that it writes.

    Attributes:
        graph: repeats the step.
        observed: the fields of `Observed` of the latest steps, [steps, fields, K, B].
        norm: the gradients' norms [K]; None where they are not computed.
    """

    graph: torch.cuda.CUDAGraph
    observed: torch.Tensor
    norm: torch.Tensor | None


class RecordedSteps:
    """Steps on a GPU: the first of each batch size runs eagerly, a later one is recorded.

    Before the first recording, one eager step is checked for operations that make the host wait for
    the GPU (in a loss that reads a value, for example). A step with such an operation cannot be
    recorded; it then always runs eagerly, and a warning says so.

    Args:
        step: the step to record.
        batches: the cohort's batches.
        sizes: number of examples in each batch of an epoch.
    """

    def __init__(self, step: TrainingStep, batches: FixedBatches, sizes: Sequence[int]) -> None:
        self._step, self._batches, self._sizes = step, batches, sizes
        self._recordings: dict[tuple[int, bool], _Recording | None] = {}
        self._pool: Any = None  # memory that the graphs share
        self._can_record: bool | None = None  # None: not checked yet
        self._device = step.optimizer.lr.device
        self._position = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._numbers = torch.empty(0)  # of each step: the factor on ε, then the optimizer's

    @property
    def pool(self) -> Any:
        """Memory of the recorded graphs; None before the first one."""
        return self._pool

    def run(self, epoch: int, factors: Sequence[ScheduleFactors]) -> Iterator[StepResult]:
        """Train the steps of an epoch.

        Args:
            epoch: from 1.
            factors: what the schedules give for each step; fewer than an epoch's steps are allowed.

        Yields:
            what is recorded of each step. It must be used before `SUMMED_AT_ONCE` further steps,
            which overwrite it.
        """
        self._batches.begin(epoch)
        advance = self._step.optimizer.advance
        rows = [[f.epsilon_factor, *advance(f.lr_factor)] for f in factors]
        numbers = torch.tensor(rows, dtype=self._step.dtype)
        if not len(self._numbers):
            self._numbers = torch.zeros(
                len(self._sizes), numbers.shape[1], dtype=numbers.dtype, device=self._device
            )
        self._numbers[: len(numbers)].copy_(numbers)
        self._position.zero_()
        for place, (size, factor) in enumerate(zip(self._sizes, factors, strict=False)):
            self._batches.load(size)
            yield self._run_one(place, size, factor.is_last)
        self._batches.end()

    def _run_one(self, place: int, size: int, is_last: bool) -> StepResult:
        key = size, is_last
        is_first = key not in self._recordings
        if not is_first and self._recordings[key] is None and self._can_record:
            self._recordings[key] = self._record(size, is_last)
        recording = self._recordings.setdefault(key, None)
        if recording is not None:
            recording.graph.replay()
            observed = recording.observed[place % len(recording.observed)]
            return StepResult(Observed(*observed.unbind()), recording.norm)
        # A first step always waits: it loads libraries and allocates memory.
        if is_first or self._can_record is not None:
            return self._next_step(size, is_last)
        return self._next_step_checked(size, is_last)

    def _next_step(self, size: int, is_last: bool) -> StepResult:
        """The step at the current position."""
        epsilon_factor, *rates = self._numbers.index_select(0, self._position)[0].unbind()
        batch = self._batches.batch(self._position, size)
        result = self._step.update(batch, epsilon_factor, rates, is_last)
        self._position += 1
        return result

    def _next_step_checked(self, size: int, is_last: bool) -> StepResult:
        """An eager step that also finds out whether such steps can be recorded."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = self._next_step(size, is_last)
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

    def _record(self, size: int, is_last: bool) -> _Recording | None:
        members, dtype = len(self._step.optimizer.lr), self._step.dtype
        places = 1 if is_last else SUMMED_AT_ONCE
        shape = places, len(Observed._fields), members, size
        observed = torch.zeros(shape, dtype=dtype, device=self._device)
        try:
            with recorded(self._device, self._pool) as graph:
                # Not `index_copy_`, whose deterministic form makes the host wait.
                is_here = torch.arange(places, device=self._device) == self._position % places
                result = self._next_step(size, is_last)
                fields = torch.stack([field.to(dtype) for field in result.observed])
                torch.where(is_here.view(-1, 1, 1, 1), fields, observed, out=observed)
        except CannotRecordError as error:
            self._can_record = False
            self._step.drop_gradients()
            self._warn(str(error))
            return None
        self._pool = self._pool or graph.pool()
        return _Recording(graph, observed, result.grad_norm)
