"""Models: ordinary `torch.nn.Module`s, one network each; `trainables.stacking` stacks them.

A study file names a model as `{name: mlp, width: 256, depth: 2}`, or by a dotted name,
`{name: "my_package.nets:MyNet", hidden: 64}`; it is called as
`Class(input_shape, classes, **options)`.
"""

from trainables.models.catalogue import UnknownModelError as UnknownModelError
from trainables.models.catalogue import build as build
from trainables.models.catalogue import check as check
from trainables.models.catalogue import label as label
from trainables.models.catalogue import names as names
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
    "classifier",
    "initialise",
    "label",
    "names",
]
