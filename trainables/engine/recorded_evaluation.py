"""The evaluation of a cohort on a GPU, recorded as CUDA graphs.

Evaluating small networks, or deep ones member by member, takes the host longer than the GPU. A
graph repeats all kernels of a batch in one call; `trainables.engine.recorded_steps` explains this
for training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from trainables.stacking import StackedModel
from trainables.stacking.streams import new_stream


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    logits: torch.Tensor


class RecordedEvaluation:
    """Logits of a model in evaluation; a shape of inputs runs eagerly once and is then recorded.

    Args:
        model: the stacked members, on a GPU.
        pool: gives the memory that the graphs share with those of the training steps, which never
            run at the same time; None for memory of their own.
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
        shape = inputs.shape
        if shape in self._seen and self._can_record and shape not in self._recordings:
            self._record(inputs)
        self._seen.add(shape)
        recording = self._recordings.get(shape)
        if recording is None:
            logits: torch.Tensor = self._model(inputs)
            return logits
        recording.inputs.copy_(inputs)
        recording.graph.replay()
        return recording.logits

    def _record(self, inputs: torch.Tensor) -> None:
        graph, place = torch.cuda.CUDAGraph(), inputs.clone()
        torch.cuda.synchronize(inputs.device)
        try:
            # Thread-local, so that other threads of the process cannot end the recording.
            with torch.cuda.graph(
                graph,
                pool=self._pool(),
                stream=new_stream(inputs.device),
                capture_error_mode="thread_local",
            ):
                logits = self._model(place)
        except RuntimeError:  # a model that makes the host wait, or too little memory
            self._can_record = False
            return
        self._recordings[inputs.shape] = _Recording(graph, place, logits)
