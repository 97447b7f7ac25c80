"""Matrix products of stacked layers: the one place that knows which library computes them.

torch's CPU builds multiply with Intel's MKL, which on other vendors' processors takes its AVX2
path. There NumPy's OpenBLAS, which uses AVX-512 where it is, is up to twice as fast (docs/engine.md
has the numbers). Which of the two is used follows from the processor alone and not from a timing,
because a network's numbers must be the same whenever it is trained on a machine.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

LIBRARIES = ("torch", "numpy")
VARIABLE = "LOGIT_BIAS_PRODUCTS"
"""Environment variable that overrules the choice, with a name of `LIBRARIES`."""

_BY_NUMPY = (torch.float32, torch.float64)
_NARROW = 32  # columns up to which it pays to copy a transposed matrix: 60 for 83 µs at 128 × 10


@functools.cache
def library() -> str:
    """Which library multiplies on this machine's CPU: a name of `LIBRARIES`.

    Raises
    ------
    ValueError: the environment variable names another.
    """
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        if asked not in LIBRARIES:
            raise ValueError(f"{VARIABLE} = {asked!r}; allowed: {', '.join(LIBRARIES)}")
        return asked
    return "numpy" if torch.backends.mkl.is_available() and _is_amd() else "torch"


def matrix_product(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Products of K matrices, [K, n, m] and [K, m, p] → [K, n, p]; no gradient is recorded.

    Each member's product is computed by itself, so it does not depend on K.

    Parameters
    ----------
    bias: [K, p], added to every row. out: where the result goes.
    """
    if out is None:
        out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    if a.device.type == "cpu" and a.dtype in _BY_NUMPY and library() == "numpy":
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


def _is_amd() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return "AuthenticAMD" in platform.processor()
