"""How a process that trains is set up."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's settings, malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the largest that glibc takes
_NEVER_TRIM = 2**31 - 1


def configure_process() -> None:
    """One thread, no denormal numbers, and memory that stays.

    Small networks are faster on one thread a worker and one worker a core than on several threads
    (two were measured 3 to 30 times slower). Where a loss's gradient vanishes, weights' updates are
    denormal numbers, which a CPU computes many times slower than zeros. Memory that goes back to
    the system after each step comes back page by page (12 % of the time at 64 networks together).
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _one_blas_thread()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)


def in_training_thread(work: Callable[[], Result]) -> Result:
    """Do `work` in the one thread that does all training of this process, set up for it.

    Ray Tune starts a thread a trial. Each would allocate from a heap of its own and keep it: a
    worker grew by 13 MB a cohort.
    """
    return _TRAINING.submit(work).result()


_TRAINING = ThreadPoolExecutor(1, "training", initializer=configure_process)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only algorithms that add in the same order every time, where `wanted`.

    On a CPU the engine has no others. On a GPU it costs speed, and an operation that has no such
    algorithm raises RuntimeError.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    before = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def device_name(device: str) -> str:
    """What the column `device` holds: `cpu` or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _one_blas_thread() -> None:
    """NumPy's BLAS, which `trainables.stacking.matmul` may use, has threads of its own."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; Ray's workers are told by OMP_NUM_THREADS
        return
    threadpool_limits(limits=1, user_api="blas")
