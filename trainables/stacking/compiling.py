"""torch.compile with a way back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_log = logging.getLogger(__name__)


class Compiled:
    """`function`, compiled for the batch size that it first meets; others run as they are.

    The last argument is the batch. Where compiling fails (no C compiler, a forward that it does not
    understand), everything runs as it is, which is said once.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._plain, self._batch = function, 0
        if isinstance(function, nn.Module):
            # Our rule for linear layers is none of the compiler's business: it multiplies matrices.
            from trainables.stacking.linear import StackedLinear

            for layer in function.modules():
                if isinstance(layer, StackedLinear):
                    layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[method-assign]
        self._compiled: Callable[..., torch.Tensor] | None = torch.compile(function, dynamic=False)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """What `function` returns."""
        size = len(arguments[-1])
        if self._compiled is None or self._batch not in (0, size):
            return self._plain(*arguments)
        try:
            found = self._compiled(*arguments)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler has many of its own
            _log.warning(
                "torch.compile failed; training goes on without it: %s",
                (str(error).strip() or type(error).__name__).splitlines()[0],
            )
            self._compiled = None
            return self._plain(*arguments)
        self._batch = size
        return found
