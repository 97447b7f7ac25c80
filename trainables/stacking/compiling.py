"""torch.compile for one batch size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainables.stacking.layers.linear import StackedLinear

_VERSIONS = 256  # of a function in a process: one for each model, K and batch size


class Compiled:
    """`function`, compiled for the batch size that it first meets; others run as they are.

    The last argument is the batch.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._plain, self._batch = function, 0
        if isinstance(function, nn.Module):
            # Our rule for linear layers is none of the compiler's business: it multiplies matrices.
            for layer in function.modules():
                if isinstance(layer, StackedLinear):
                    layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[method-assign]
        self._compiled: Callable[..., torch.Tensor] = torch.compile(function, dynamic=False)
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, _VERSIONS)
        dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, _VERSIONS)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """What `function` returns."""
        self._batch = self._batch or len(arguments[-1])
        if len(arguments[-1]) != self._batch:
            return self._plain(*arguments)
        return self._compiled(*arguments)
