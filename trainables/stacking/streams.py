"""Members as ordinary networks side by side, on a GPU on several CUDA streams."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.func import functional_call

from trainables.stacking.layout import autocast_dtype

_STREAMS = 8  # at a time; 16 were no faster for 16 networks on an H200

Evaluate = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""(one member's parameters and buffers by name, inputs) → logits."""

new_stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream
"""A new CUDA stream of a device; torch's own constructor has no types."""


def evaluate_on_streams(
    evaluate: Evaluate,
    parameters: Mapping[str, torch.Tensor],
    buffers: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    *,
    is_shared: bool,
    channels_last: bool,
) -> torch.Tensor:
    """Evaluate K members one by one, on a GPU on up to eight streams at a time.

    Fastest where the kernels of one network nearly fill the device and a CUDA graph saves
    launching them one by one.

    Args:
        evaluate: evaluates one member.
        parameters: by name, each of shape [K, …].
        buffers: by name, each of shape [K, …].
        x: inputs, shape [B, …], or [K, B, …] where members have inputs of their own.
        is_shared: whether all members have the same inputs.
        channels_last: whether images are stored channels last.

    Returns:
        logits, shape [K, B, classes].
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    examples = x if is_shared else x.flatten(0, 1)
    if examples.dim() == 4:
        examples = examples.contiguous(memory_format=memory_format)
    stacked = {name: _prepared(p, memory_format) for name, p in parameters.items()} | dict(buffers)
    members = [
        dict(zip(stacked, values, strict=True))
        for values in zip(*map(_members, stacked.values()), strict=True)
    ]
    inputs = [examples] * len(members) if is_shared else list(examples.chunk(len(members)))
    if not x.is_cuda:
        return torch.stack([evaluate(m, xm) for m, xm in zip(members, inputs, strict=True)])
    current, streams = torch.cuda.current_stream(x.device), _streams(x.device)[: len(members)]
    for stream in streams:
        stream.wait_stream(current)
        for tensor in (examples, *stacked.values()):
            # Their memory must not be reused while another stream may still read it.
            tensor.record_stream(stream)
    logits = []
    try:
        for k, (member, xm) in enumerate(zip(members, inputs, strict=True)):
            with torch.cuda.stream(streams[k % len(streams)]):
                logits.append(evaluate(member, xm))
    finally:  # otherwise a failed recording of a CUDA graph could not be ended
        for stream in streams:
            current.wait_stream(stream)
    return torch.stack(logits)


def functional_module(network: nn.Module) -> Evaluate:
    """A function that evaluates `network` with the parameters and buffers it is given."""

    def evaluate(member: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(network, dict(member), (x,))
        return logits

    return evaluate


def _prepared(parameter: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """The members' filters [K, out, in, h, w] in the format and precision of the convolution.

    Converted for all members at once instead of member by member; other parameters are unchanged.
    """
    if parameter.dim() != 5:
        return parameter
    dtype = autocast_dtype(parameter) or parameter.dtype
    filters = parameter.flatten(0, 1).to(dtype=dtype, memory_format=memory_format)
    return torch.unflatten(filters, 0, parameter.shape[:2])


def _members(stacked: torch.Tensor) -> list[torch.Tensor]:
    """Each member's tensor; the gradients of filters then keep the order in memory."""
    if stacked.dim() != 5:
        return list(stacked.unbind())
    return [filters.permute(0, 3, 1, 2) for filters in stacked.permute(0, 1, 3, 4, 2).unbind()]


@functools.cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return [new_stream(device) for _ in range(_STREAMS)]
