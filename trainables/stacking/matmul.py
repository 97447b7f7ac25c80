"""Matrix products of stacked layers, and which library computes them.

torch's CPU builds multiply with Intel's MKL, which takes its AVX2 path on processors of other
vendors. There, NumPy's OpenBLAS, which uses AVX-512 where available, is up to twice as fast
(docs/engine.md has the numbers). The processor alone decides between the two, not a timing, because
a network's numbers must be the same whenever it is trained on a machine.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

LIBRARIES = ("torch", "numpy")
VARIABLE = "LOGIT_BIAS_MATMUL"
"""Environment variable that overrides the choice; its value is a name in `LIBRARIES`."""

_NUMPY_DTYPES = (torch.float32, torch.float64)
_NARROW = 32  # most columns at which copying a transposed matrix saves time (83 → 60 µs)


@functools.cache
def library() -> str:
    """The library that multiplies matrices on this machine's CPU, a name in `LIBRARIES`.

    Raises:
        ValueError: the environment variable has another value.
    """
    override = os.environ.get(VARIABLE)
    if override is not None:
        if override not in LIBRARIES:
            raise ValueError(f"{VARIABLE} = {override!r}; allowed: {', '.join(LIBRARIES)}")
        return override
    return "numpy" if _has_mkl() and _is_amd() else "torch"


def matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Multiply K pairs of matrices; no gradient is recorded.

    Each member's product is computed separately, so it does not depend on K.

    Args:
        a: shape [K, n, m].
        b: shape [K, m, p].
        bias: shape [K, p], added to every row.
        out: tensor of shape [K, n, p] for the result; a new one by default.

    Returns:
        the products, shape [K, n, p].
    """
    if out is None:
        out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    if a.device.type == "cpu" and a.dtype in _NUMPY_DTYPES and library() == "numpy":
        if b.shape[2] <= _NARROW:
            b = b.contiguous()
        np.matmul(_array(a), _array(b), out=out.numpy())
        return out if bias is None else out.add_(bias.unsqueeze(1))
    if bias is None:
        return torch.bmm(a, b, out=out)
    return torch.baddbmm(bias.unsqueeze(1), a, b, out=out)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.detach() if tensor.requires_grad else tensor).numpy()
    return array


def _has_mkl() -> bool:
    is_available: Callable[[], bool] = torch.backends.mkl.is_available
    return is_available()


def _is_amd() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return "AuthenticAMD" in platform.processor()
