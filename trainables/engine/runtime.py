"""How a process that trains is set up."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from trainables.errors import BadInputError

Result = TypeVar("Result")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's settings, malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the largest that glibc accepts
_NEVER_TRIM = 2**31 - 1


def configure_process() -> None:
    """Use one thread, flush denormal numbers to zero and keep freed memory.

    Small networks train faster on one thread per worker and one worker per core than on several
    threads (two were measured 3 to 30 times slower). Where a loss's gradient vanishes, updates of
    the weights are denormal numbers, which a CPU computes many times slower than zeros. Memory that
    is returned to the system after each step comes back page by page, which took 12 % of the time
    with 64 networks in a cohort.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _limit_blas_threads()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)


def in_training_thread(work: Callable[[], Result]) -> Result:
    """Run `work` in the one thread of this process that trains, which `configure_process` sets up.

    Ray Tune starts a thread per trial. Each thread would allocate from its own heap and keep it: a
    worker grew by 13 MB per cohort.

    Returns:
        what `work` returns; its exceptions are raised here.
    """
    return _TRAINING.submit(work).result()


_TRAINING = ThreadPoolExecutor(1, "training", initializer=configure_process)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Allow only algorithms that add numbers in the same order every time.

    On a CPU the engine uses no others. On a GPU this costs speed, and an operation without such an
    algorithm raises RuntimeError.

    Args:
        enabled: False changes nothing.
    """
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
    before = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


class PrecisionError(BadInputError, ValueError):
    """A recipe asks for a precision that the device lacks; the message is one line for the user."""


def check_precision(precision: str, device: str) -> None:
    """Refuse bf16 where a device lacks it: emulated, a step takes many times as long as in float32.

    Args:
        precision: of the recipe, `float32` or `bf16`.
        device: `cpu`, or a CUDA device such as `cuda`.

    Raises:
        PrecisionError: the device does not compute in this precision.
    """
    if precision == "bf16" and not has_bf16(device):
        name = "processor" if device == "cpu" else device_name(device)
        raise PrecisionError(
            f"recipe.precision = bf16: this machine's {name} does not compute bf16, which would "
            "take many times as long; write `precision: float32`, or use a device that has it"
        )


def has_bf16(device: str) -> bool:
    """Whether a device computes bf16 itself.

    For a processor this is oneDNN's answer (AVX-512 or Arm's bf16 instructions); for a GPU, compute
    capability 8.0 or later.

    Args:
        device: `cpu`, or a CUDA device such as `cuda`.
    """
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device_name(device: str) -> str:
    """The value of the column `device`: `cpu`, or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _limit_blas_threads() -> None:
    """Limit NumPy's BLAS, which `trainables.stacking.matmul` may use, to one thread."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; Ray sets OMP_NUM_THREADS for its workers
        return
    threadpool_limits(limits=1, user_api="blas")
