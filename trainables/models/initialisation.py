"""Schemes of initial weights, drawn from an explicit random generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def _glorot_uniform(layer: nn.Module, generator: torch.Generator) -> None:
    nn.init.xavier_uniform_(layer.weight, generator=generator)  # type: ignore[arg-type]


def _kaiming_normal(layer: nn.Module, generator: torch.Generator) -> None:
    nn.init.kaiming_normal_(
        layer.weight,  # type: ignore[arg-type]
        nonlinearity="relu",
        generator=generator,
    )


def _kaiming_glorot(layer: nn.Module, generator: torch.Generator) -> None:
    draw = _kaiming_normal if isinstance(layer, nn.Conv2d) else _glorot_uniform
    draw(layer, generator)


INITIALISATIONS: dict[str, Callable[[nn.Module, torch.Generator], None]] = {
    "glorot_uniform": _glorot_uniform,  # as in arXiv 2306.05497, with zero bias
    "kaiming_normal": _kaiming_normal,
    "kaiming_glorot": _kaiming_glorot,  # convolutions Kaiming, linear layers Glorot
}


@torch.no_grad()
def initialise(
    model: nn.Module, generator: torch.Generator, scheme: str = "glorot_uniform"
) -> None:
    """Draw the initial weights of a model in place; biases become 0.

    Weights of linear and convolutional layers follow `scheme`. Normalisation layers become the
    identity (scale 1, shift 0, fresh running statistics). Layers of other types keep the values
    from their constructors.

    Args:
        model: the model to modify.
        generator: the only source of randomness.
        scheme: one of `INITIALISATIONS`.
    """
    draw = INITIALISATIONS[scheme]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            draw(layer, generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.reset_parameters()
