"""How many networks of a cohort to train together on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from trainables import models
from trainables.engine.spec import CohortSpec

_MARGIN = 0.8  # share of the free memory that may be planned for
_ON_A_CPU = 16  # members at a time; more share the caches worse (measured; see docs/engine.md)


def members_that_fit(spec: CohortSpec, device: str, step_bytes: Callable[[CohortSpec], int]) -> int:
    """The largest useful number of members to train at once; the rest waits its turn.

    On a CPU, up to 16, but one by one where the model convolves: convolutions gain nothing from
    company there (measured; see docs/engine.md), and one at a time needs the least memory.
    On a GPU, as many as its free memory holds, by what a few and twice as many members take.
    A race is never split: with rungs the answer is all members, whether they fit or not.

    Parameters
    ----------
    step_bytes: peak memory that training a cohort takes on the device; raises OutOfMemoryError.
    """
    members = len(spec.members)
    if members == 1 or spec.rungs:
        return members
    if not device.startswith("cuda"):
        return 1 if _convolves(spec) else min(members, _ON_A_CPU)
    few = 2 if members >= 4 else 1
    used = []
    for tried in (few, few, 2 * few):  # the first also loads data and libraries
        try:
            used.append(step_bytes(replace(spec, members=spec.members[:tried])))
        except torch.cuda.OutOfMemoryError:
            return max(1, tried // 2)
    each = max(1, (used[2] - used[1]) // few)
    free, _ = torch.cuda.mem_get_info(device)
    fixed = max(0, used[1] - few * each)
    return max(1, min(members, int((_MARGIN * free - fixed) / each)))


def _convolves(spec: CohortSpec) -> bool:
    dataset = spec.data.load()
    with torch.device("meta"):
        model = models.build(
            spec.model.name, dataset.input_shape, dataset.classes, spec.model.options
        )
    return any(isinstance(layer, nn.Conv2d) for layer in model.modules())
