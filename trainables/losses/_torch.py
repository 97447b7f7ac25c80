"""PyTorch's names for the modules of this package, which are imported without importing PyTorch.

Listing the losses and checking a study file need no PyTorch, whose import takes seconds and which
the base installation lacks. Where it is not imported yet, `torch` and `Tensor` are stand-ins. The
first use of one imports PyTorch and puts its own names into every module of this package; without
PyTorch it raises `MissingExtraError`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from trainables.errors import MissingExtraError

_PACKAGE = "trainables.losses."


def use_torch() -> None:
    """Import PyTorch, and replace the stand-ins by it.

    Raises:
        MissingExtraError: PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":  # a broken installation, not an absent one
            raise
        raise MissingExtraError("this loss", "torch", "train") from error
    names = {"torch": torch, "Tensor": torch.Tensor}
    modules = [module for name, module in sys.modules.items() if name.startswith(_PACKAGE)]
    for module in modules:
        for name, value in names.items():
            if name in vars(module):
                setattr(module, name, value)


if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
elif sys.modules.get("torch") is not None:
    import torch
    from torch import Tensor
else:

    class _UnusedTorch:
        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):  # Python itself looks these up, for example `inspect`
                raise AttributeError(name)
            use_torch()
            return getattr(sys.modules["torch"], name)

    class _UnusedTensor(type):
        def __instancecheck__(cls, instance: object) -> bool:
            if sys.modules.get("torch") is None:  # then there are no tensors
                return False
            use_torch()
            return isinstance(instance, sys.modules["torch"].Tensor)

    torch = _UnusedTorch()

    class Tensor(metaclass=_UnusedTensor):
        """For annotations and `isinstance`; it has no instances."""
