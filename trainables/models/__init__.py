"""Models: ordinary `torch.nn.Module`s that know nothing of cohorts.

A model is named in a study file as `{name: mlp, width: 256, depth: 2}`, or by a dotted name,
`{name: "my_package.nets:MyNet", hidden: 64}`; it is called as
`Class(input_shape, classes, **options)`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from trainables.models.convolutional import CNN8, CifarResNet, imagenet_resnet
from trainables.models.initialisation import INITIALISATIONS, initialise
from trainables.models.mlp import MLP

__all__ = [
    "INITIALISATIONS",
    "MLP",
    "UnknownModelError",
    "build",
    "check",
    "initialise",
    "label",
    "names",
]

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn8": CNN8,
    **{f"resnet{depth}": partial(CifarResNet, depth=depth) for depth in (20, 32, 44, 56)},
    **{f"resnet{layers}": partial(imagenet_resnet, layers=layers) for layers in (18, 34, 50)},
}


class UnknownModelError(ValueError):
    """No model of that name, or options it does not take; the message says what is allowed."""


def names() -> tuple[str, ...]:
    """Names of the models that ship with the package."""
    return tuple(_MODELS)


def build(
    name: str, input_shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """An untrained model mapping [batch, *input_shape] to logits [batch, classes].

    Raises
    ------
    UnknownModelError: `name` is neither a shipped model nor an importable `package.module:Class`,
        or the class does not take `options`.
    """
    cls = _find(name)
    try:
        return cls(input_shape, classes, **options)
    except Exception as error:  # whatever a user's class raises is about what the user wrote
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnknownModelError(f"model {name} with {dict(options)}: {problem}") from error


def check(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that a model exists and takes options of these names; builds nothing.

    Raises
    ------
    UnknownModelError: it does not; the message names what is allowed.
    """
    model = _find(name)
    try:
        taken = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError) as error:
        raise UnknownModelError(f"model {name}: {error}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return
    fixed = getattr(_find(name), "keywords", {})
    allowed = [parameter.name for parameter in taken[2:] if parameter.name not in fixed]
    for option in options:
        if option not in allowed:
            close = difflib.get_close_matches(option, allowed, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            there = ", ".join(allowed) or "none"
            raise UnknownModelError(
                f"model {name} has no option {option!r}; allowed: {there}{hint}"
            )


def label(name: str, options: Mapping[str, Any]) -> str:
    """Short text that identifies a model in tables: `mlp-256x2`."""
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
    if attribute:
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing runs the user's code
            raise UnknownModelError(f"model {name}: {error}") from error
        if not callable(found):
            raise UnknownModelError(f"model {name}: not a class or function")
        return found
    close = difflib.get_close_matches(name, _MODELS, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UnknownModelError(
        f"unknown model {name!r}; allowed: {', '.join(_MODELS)}, or package.module:Class{hint}"
    )
