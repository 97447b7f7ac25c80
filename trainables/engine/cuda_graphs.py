"""Recording what runs on a GPU as a CUDA graph, which repeats its kernels in one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from trainables.stacking.streams import new_stream


class CannotRecordError(Exception):
    """The operations cannot be recorded; the message is one line."""


@contextlib.contextmanager
def recorded(device: torch.device, pool: Any) -> Iterator[torch.cuda.CUDAGraph]:
    """Record the operations of the block instead of running them.

    Args:
        device: the GPU.
        pool: memory of other graphs, to share with them; None for memory of its own.

    Yields:
        the graph, complete after the block.

    Raises:
        CannotRecordError: the operations cannot be recorded.
        torch.cuda.OutOfMemoryError: the GPU's memory does not suffice.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # a graph allocates its own memory
        # Thread-local, so that other threads of the process cannot end the recording.
        with torch.cuda.graph(
            graph, pool=pool, stream=new_stream(device), capture_error_mode="thread_local"
        ):
            yield graph
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
            raise error.__context__ from None  # it made the end of the recording fail
        raise CannotRecordError(str(error).splitlines()[0]) from error
