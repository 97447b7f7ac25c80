"""How a process that trains is set up."""

from __future__ import annotations

import torch


def configure_process() -> None:
    """One thread, and no denormal numbers.

    Small networks are faster on one thread a worker and one worker a core than on several threads
    (two were measured 3 to 30 times slower). Where a loss's gradient vanishes, weights' updates are
    denormal numbers, which a CPU computes many times slower than zeros.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def device_name(device: str) -> str:
    """What the column `device` holds: `cpu` or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
