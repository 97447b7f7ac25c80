"""The registry of stacked layers: which class replaces which layer of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

StackedLayer = TypeVar("StackedLayer", bound=nn.Module)

STACKED_LAYERS: dict[type[nn.Module], type[nn.Module]] = {}
"""{ordinary layer: stacked layer}; the latter is constructed with (layer, layout)."""


def stacks(*kinds: type[nn.Module]) -> Callable[[type[StackedLayer]], type[StackedLayer]]:
    """Register the decorated class as the stacked form of ordinary layers.

    The class is constructed with the ordinary layer, whose parameters all K members start from,
    and the model's `trainables.stacking.layout.Layout`. It holds the layer's parameters and buffers
    with shape [K, …] and the same names.

    Args:
        kinds: exact types of the ordinary layers; a subclass needs its own registration.
    """

    def register(stacked_layer: type[StackedLayer]) -> type[StackedLayer]:
        for kind in kinds:
            STACKED_LAYERS[kind] = stacked_layer
        return stacked_layer

    return register
