"""torch.compile for one batch size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainables.stacking.layers import StackedLinear

_VERSIONS = 256  # compiled forms of a function in a process: one per model, K and batch size
_exclude_from_compiling: Callable[[Any], Any] = torch.compiler.disable


class Compiled:
    """A function that is compiled for the first batch size it gets; other sizes run uncompiled.

    Args:
        function: called with any arguments, of which the last is the batch.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._plain, self._batch = function, 0
        if isinstance(function, nn.Module):
            # The compiler does not speed up our linear layers, which only multiply matrices.
            for layer in function.modules():
                if isinstance(layer, StackedLinear):
                    layer.forward = _exclude_from_compiling(layer.forward)  # type: ignore[method-assign]
        self._compiled: Callable[..., torch.Tensor] = torch.compile(function, dynamic=False)
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, _VERSIONS)
        dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, _VERSIONS)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """What the function returns."""
        self._batch = self._batch or len(arguments[-1])
        if len(arguments[-1]) != self._batch:
            return self._plain(*arguments)
        return self._compiled(*arguments)
