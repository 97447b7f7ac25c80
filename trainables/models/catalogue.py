"""The models that have a name, and the models that a user names by package and class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from trainables.errors import did_you_mean
from trainables.models.convolutional import CNN8, CifarResNet, imagenet_resnet
from trainables.models.mlp import MLP

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn8": CNN8,
    **{f"resnet{depth}": partial(CifarResNet, depth=depth) for depth in (20, 32, 44, 56)},
    **{f"resnet{layers}": partial(imagenet_resnet, layers=layers) for layers in (18, 34, 50)},
}


class UnknownModelError(ValueError):
    """No model of that name, or it does not take the options; the message lists what is allowed."""


def names() -> tuple[str, ...]:
    """Names of the models of this package."""
    return tuple(_MODELS)


def build(
    name: str, input_shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """Build an untrained model.

    Args:
        name: one of `names()`, or `package.module:Class`.
        input_shape: (C, H, W) of images, (F,) of features.
        classes: number of classes.
        options: keyword arguments of the class.

    Returns:
        a model that maps [batch, *input_shape] to logits [batch, classes].

    Raises:
        UnknownModelError: there is no such model, or its class refuses the arguments.
    """
    model_class = _find(name)
    try:
        return model_class(input_shape, classes, **options)
    except Exception as error:  # a user's class may raise anything
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnknownModelError(f"model {name} with {dict(options)}: {problem}") from error


def check(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that a model exists and has options of these names, without building it.

    Args:
        name: as in `build`.
        options: as in `build`.

    Raises:
        UnknownModelError: there is no such model, or it lacks an option.
    """
    model_class = _find(name)
    try:
        parameters = list(inspect.signature(model_class).parameters.values())
    except (TypeError, ValueError) as error:
        raise UnknownModelError(f"model {name}: {error}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    fixed = getattr(model_class, "keywords", {})  # of a `partial`
    allowed = [parameter.name for parameter in parameters[2:] if parameter.name not in fixed]
    for option in options:
        if option not in allowed:
            raise UnknownModelError(
                f"model {name} has no option {option!r}{did_you_mean(option, allowed)}"
            )


def label(name: str, options: Mapping[str, Any]) -> str:
    """A short text that identifies a model in tables, such as `mlp-256x2`.

    Args:
        name: as in `build`.
        options: as in `build`.

    Returns:
        the name without its package, and the options.
    """
    short = name.rpartition(":")[2]
    if name == "mlp":
        extra = {k: v for k, v in options.items() if k not in ("width", "depth")}
        short += f"-{options.get('width', 256)}x{options.get('depth', 2)}"
    else:
        extra = dict(options)
    return "-".join([short, *(f"{k}={v}" for k, v in sorted(extra.items()))])


def _find(name: str) -> Callable[..., nn.Module]:
    if name in _MODELS:
        return _MODELS[name]
    module_name, _, attribute = name.partition(":")
    if not attribute:
        allowed = (*_MODELS, "or package.module:Class")
        raise UnknownModelError(f"unknown model {name!r}{did_you_mean(name, allowed)}")
    try:
        model_class: Callable[..., nn.Module] = getattr(
            importlib.import_module(module_name), attribute
        )
    except Exception as error:  # importing runs the user's code
        raise UnknownModelError(f"model {name}: {error}") from error
    if not callable(model_class):
        raise UnknownModelError(f"model {name}: not a class or function")
    return model_class
