"""Tests run as workers do: one thread a process."""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> Iterator[None]:
    """Keep them after a test that trains in this process: hypothesis draws floats."""
    yield
    torch.set_flush_denormal(False)
