"""How many networks of a cohort train at once on a device."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from trainables import losses, models
from trainables.engine.spec import CohortSpec, DataSpec, ModelSpec

_MARGIN = 0.8  # share of the free memory that may be planned for
_MOST_ON_A_CPU = 16  # with more, the caches are used less well (measured; docs/engine.md)


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of a GPU that members of one group take while they train.

    Attributes:
        fixed: bytes, whatever the number of members.
        per_member: bytes of each member.
        most: largest number of members that can train at once, whatever the free memory; None
            where no limit was found.
    """

    fixed: int
    per_member: int
    most: int | None = None


_measured: dict[str, MemoryNeed] = {}
"""What this process has measured, by group; measuring takes longer than training small networks."""


def members_that_fit(spec: CohortSpec, device: str, step_bytes: Callable[[CohortSpec], int]) -> int:
    """The largest useful number of members to train at once; the others train after them.

    On a CPU up to 16 members, but one at a time where the model convolves: convolutions are not
    faster for several members there (measured; see docs/engine.md), and one member needs the least
    memory. On a GPU as many as its free memory holds, estimated from the memory that a small cohort
    and one of twice its size take; a process measures once per group. A cohort with rungs is never
    split: its members are all needed at once, whether they fit or not.

    Args:
        spec: the cohort.
        device: name of the device, such as `cpu` or `cuda`.
        step_bytes: peak memory in bytes that training a cohort takes on the device; raises
            torch.cuda.OutOfMemoryError where it does not fit.

    Returns:
        from 1 to the number of members.
    """
    members = len(spec.members)
    if members == 1 or spec.rungs:
        return members
    if not device.startswith("cuda"):
        return 1 if convolves(spec.data, spec.model) else min(members, _MOST_ON_A_CPU)
    key = _group_key(spec, device)
    if key not in _measured:
        _measured[key] = _measure(spec, step_bytes)
    need = _measured[key]
    fitting = int((_MARGIN * free_bytes(device) - need.fixed) / need.per_member)
    return max(1, min(members, fitting, need.most or members))


def free_bytes(device: str) -> int:
    """Memory of a GPU that this process may still use, its allocator's unused memory included."""
    index = torch.device(device).index
    index = torch.cuda.current_device() if index is None else index
    free, total = torch.cuda.mem_get_info(index)
    used = torch.cuda.memory_allocated(index)
    allowed = int(torch.cuda.get_per_process_memory_fraction(index) * total)
    return min(free + torch.cuda.memory_reserved(index) - used, allowed - used)


def _measure(spec: CohortSpec, step_bytes: Callable[[CohortSpec], int]) -> MemoryNeed:
    few = 2 if len(spec.members) >= 4 else 1
    used = []
    for size in (few, few, 2 * few):  # the first also loads data and libraries
        try:
            used.append(step_bytes(replace(spec, members=spec.members[:size])))
        except torch.cuda.OutOfMemoryError:
            return MemoryNeed(0, 1, most=max(1, size // 2))
    per_member = max(1, (used[2] - used[1]) // few)
    return MemoryNeed(max(0, used[1] - few * per_member), per_member)


def _group_key(spec: CohortSpec, device: str) -> str:
    """Members with the same key take the same memory."""
    has_own_batches = len({member.order_seed for member in spec.members}) > 1
    needs_logits = any(not losses.get(member.loss).of_probability for member in spec.members)
    parts = asdict(spec.data), asdict(spec.model), asdict(spec.recipe)
    return json.dumps([device, parts, spec.reads_test, has_own_batches, needs_logits], default=str)


def convolves(data: DataSpec, model: ModelSpec) -> bool:
    """Whether a model has convolutions."""
    return _convolves(json.dumps(asdict(data)), json.dumps(asdict(model)))


@functools.lru_cache(maxsize=64)
def _convolves(data: str, model: str) -> bool:
    dataset, spec = DataSpec(**json.loads(data)).load(), ModelSpec(**json.loads(model))
    with torch.device("meta"):
        built = models.build(spec.name, dataset.input_shape, dataset.classes, spec.options)
    return any(isinstance(layer, nn.Conv2d) for layer in built.modules())
