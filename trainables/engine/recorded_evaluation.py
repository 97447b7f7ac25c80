"""The evaluation of a cohort on a GPU, recorded as CUDA graphs.

Evaluating small networks, or deep ones member by member, takes the host longer than the GPU. A
graph repeats all kernels of a batch in one call; `trainables.engine.recorded_steps` explains this
for training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from trainables.engine.cuda_graphs import CannotRecordError, recorded
from trainables.stacking import StackedModel

_log = logging.getLogger(__name__)


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    logits: torch.Tensor


class RecordedEvaluation:
    """Logits of a model in evaluation; a shape of inputs runs eagerly once and is then recorded.

    Nothing is recorded before a training step is: that one has been checked for operations that
    make the host wait, with which a recording fails and harms torch's allocator.

    Args:
        model: the stacked members, on a GPU.
        pool: gives the memory of the recorded training steps, which the graphs share, because they
            never run at the same time; None where no step is recorded.
    """

    def __init__(self, model: StackedModel, pool: Callable[[], Any]) -> None:
        self._model, self._pool = model, pool
        self._seen: set[torch.Size] = set()
        self._recordings: dict[torch.Size, _Recording] = {}
        self._can_record = True

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Evaluate all members on the same inputs.

        Args:
            inputs: shape [B, …].

        Returns:
            logits [K, B, classes], which the next call overwrites.
        """
        shape, pool = inputs.shape, self._pool()
        is_due = shape in self._seen and shape not in self._recordings
        if is_due and self._can_record and pool is not None:
            self._record(inputs, pool)
        self._seen.add(shape)
        recording = self._recordings.get(shape)
        if recording is None:
            logits: torch.Tensor = self._model(inputs)
            return logits
        recording.inputs.copy_(inputs)
        recording.graph.replay()
        return recording.logits

    def _record(self, inputs: torch.Tensor, pool: Any) -> None:
        place = inputs.clone()
        try:
            with recorded(inputs.device, pool) as graph:
                logits = self._model(place)
        except CannotRecordError as error:
            self._can_record = False
            _log.warning(
                "the evaluation cannot be recorded as a CUDA graph and runs without one, which is "
                "slower: %s",
                error,
            )
            return
        self._recordings[inputs.shape] = _Recording(graph, place, logits)
