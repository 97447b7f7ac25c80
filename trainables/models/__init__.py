"""Models: ordinary `torch.nn.Module`s, one network each; `trainables.stacking` stacks them.

A study file names a model as `{name: mlp, width: 256, depth: 2}`, or by a dotted name,
`{name: "my_package.nets:MyNet", hidden: 64}`; it is called as
`Class(input_shape, classes, **options)`.

Importing the package does not import PyTorch; building or initialising a model does.
"""

from typing import TYPE_CHECKING

from trainables.models.catalogue import UnknownModelError as UnknownModelError
from trainables.models.catalogue import build as build
from trainables.models.catalogue import check as check
from trainables.models.catalogue import check_inputs as check_inputs
from trainables.models.catalogue import label as label
from trainables.models.catalogue import names as names

if TYPE_CHECKING:
    from trainables.models.initialisation import INITIALISATIONS as INITIALISATIONS
    from trainables.models.initialisation import classifier as classifier
    from trainables.models.initialisation import initialise as initialise
    from trainables.models.mlp import MLP as MLP

__all__ = [
    "INITIALISATIONS",
    "MLP",
    "UnknownModelError",
    "build",
    "check",
    "check_inputs",
    "classifier",
    "initialise",
    "label",
    "names",
]


def __getattr__(name: str) -> object:
    """Import on use what needs PyTorch."""
    if name == "MLP":
        from trainables.models.mlp import MLP

        return MLP
    if name in ("INITIALISATIONS", "classifier", "initialise"):
        from trainables.models import initialisation

        return getattr(initialisation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
