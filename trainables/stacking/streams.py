"""Members one beside the other: each an ordinary network, on a GPU each on a stream of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.func import functional_call

from trainables.stacking.layout import autocast_dtype

_STREAMS = 8  # at a time; 16 were no faster for 16 networks on an H200

Evaluate = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""(a member's parameters and buffers by name, inputs) → logits."""


def evaluate_apart(
    evaluate: Evaluate,
    parameters: Mapping[str, torch.Tensor],
    buffers: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    channels_last: bool,
) -> torch.Tensor:
    """Logits [K, B, classes] of K members at inputs [B, …].

    Worth it where one network's kernels nearly fill the device, and where a CUDA graph saves
    launching them one by one.

    Parameters
    ----------
    parameters, buffers: each [K, …], by name.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if x.dim() == 4:
        x = x.contiguous(memory_format=layout)
    together = {name: _ready(p, layout) for name, p in parameters.items()} | dict(buffers)
    members = [
        dict(zip(together, values, strict=True))
        for values in zip(*(tensor.unbind() for tensor in together.values()), strict=True)
    ]
    if not x.is_cuda:
        return torch.stack([evaluate(member, x) for member in members])
    here, streams = torch.cuda.current_stream(x.device), _streams(x.device)[: len(members)]
    for stream in streams:
        stream.wait_stream(here)
        for tensor in (x, *together.values()):
            # They are let go of while another stream may still read them.
            tensor.record_stream(stream)
    logits = []
    try:
        for k, member in enumerate(members):
            with torch.cuda.stream(streams[k % len(streams)]):
                logits.append(evaluate(member, x))
    finally:  # or a recording that fails could not be ended
        for stream in streams:
            here.wait_stream(stream)
    return torch.stack(logits)


def ordinary(network: nn.Module) -> Evaluate:
    """Evaluate `network` with parameters and buffers that are given."""

    def evaluate(member: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(network, dict(member), (x,))
        return logits

    return evaluate


def _ready(parameter: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """All members' parameter [K, …] as layers want it, made at once instead of member by member.

    Filters of images [K, out, in, h, w] in that memory format and, under autocast, in the lower
    precision; everything else as it is.
    """
    if parameter.dim() != 5:
        return parameter
    dtype = autocast_dtype(parameter) or parameter.dtype
    filters = parameter.flatten(0, 1).to(dtype=dtype, memory_format=layout)
    return filters.unflatten(0, parameter.shape[:2])


@functools.cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(_STREAMS)]
