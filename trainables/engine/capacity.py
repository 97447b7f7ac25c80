"""How many networks of a cohort train at once on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from trainables import models
from trainables.engine.spec import CohortSpec

_MARGIN = 0.8  # share of the free memory that may be planned for
_MOST_ON_A_CPU = 16  # with more, the caches are used less well (measured; docs/engine.md)


def members_that_fit(spec: CohortSpec, device: str, step_bytes: Callable[[CohortSpec], int]) -> int:
    """The largest useful number of members to train at once; the others train after them.

    On a CPU up to 16 members, but one at a time where the model convolves: convolutions are not
    faster for several members there (measured; see docs/engine.md), and one member needs the least
    memory. On a GPU as many as its free memory holds, estimated from the memory that a small cohort
    and one of twice its size take. A cohort with rungs is never split: its members are all needed
    at once, whether they fit or not.

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
        return 1 if _convolves(spec) else min(members, _MOST_ON_A_CPU)
    few = 2 if members >= 4 else 1
    used = []
    for size in (few, few, 2 * few):  # the first also loads data and libraries
        try:
            used.append(step_bytes(replace(spec, members=spec.members[:size])))
        except torch.cuda.OutOfMemoryError:
            return max(1, size // 2)
    per_member = max(1, (used[2] - used[1]) // few)
    free, _ = torch.cuda.mem_get_info(device)
    fixed = max(0, used[1] - few * per_member)
    return max(1, min(members, int((_MARGIN * free - fixed) / per_member)))


def _convolves(spec: CohortSpec) -> bool:
    dataset = spec.data.load()
    with torch.device("meta"):
        model = models.build(
            spec.model.name, dataset.input_shape, dataset.classes, spec.model.options
        )
    return any(isinstance(layer, nn.Conv2d) for layer in model.modules())
