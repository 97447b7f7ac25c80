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


def classifier(model: nn.Module) -> nn.Linear:
    """The last linear layer of a model, which computes the logits.

    Args:
        model: the model.

    Returns:
        The linear layer that the model registers last.

    Raises:
        ValueError: the model has no linear layer.
    """
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError("init_gain: the model has no torch.nn.Linear layer to multiply")
    return linear[-1]


@torch.no_grad()
def initialise(
    model: nn.Module,
    generator: torch.Generator,
    scheme: str = "glorot_uniform",
    gain: float = 1.0,
) -> None:
    """Draw the initial weights of a model in place; biases become 0.

    Weights of linear and convolutional layers follow `scheme`. Normalisation layers become the
    identity (scale 1, shift 0, fresh running statistics). Layers of other types keep the values
    from their constructors. `gain` then multiplies the classifier's weights, and with them every
    logit of a model that ends there; it changes no draw.

    Args:
        model: the model to modify.
        generator: the only source of randomness.
        scheme: one of `INITIALISATIONS`.
        gain: above 0, the factor on the weights of `classifier(model)`; 1 changes nothing.

    Raises:
        ValueError: `gain` is not 1 and the model has no linear layer.
    """
    draw = INITIALISATIONS[scheme]
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            draw(layer, generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.reset_parameters()
    if gain != 1.0:
        classifier(model).weight.mul_(gain)
