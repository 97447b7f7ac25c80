"""PyTorch, or stand-ins where it is not installed.

The base installation has no PyTorch, but can list the losses with their parameters. The modules of
this package import torch's names from here; the first use of the stand-in `torch` raises
`MissingExtraError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.errors import MissingExtraError

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
    from torch.autograd import Function as Function
    from torch.autograd.function import once_differentiable as once_differentiable
else:
    try:
        import torch
        from torch import Tensor
        from torch.autograd import Function
        from torch.autograd.function import once_differentiable
    except ModuleNotFoundError as error:
        if error.name != "torch":  # a broken installation, not an absent one
            raise

        class _MissingTorch:
            def __getattr__(self, name: str) -> object:
                if name.startswith("__"):  # Python itself looks these up, for example `inspect`
                    raise AttributeError(name)
                raise MissingExtraError("this loss", "torch", "train")

        torch = _MissingTorch()

        class Tensor:
            """For annotations and `isinstance`; it has no instances."""

        class Function:
            """Base class of the autograd functions, which are never applied."""

        def once_differentiable(function: object) -> object:
            """Return `function`."""
            return function
