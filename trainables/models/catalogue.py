"""The models that have a name, and the models that a user names by package and class.

Importing this module does not import PyTorch; building a model, or naming a class of one's own,
does.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from trainables.errors import did_you_mean
from trainables.models.limits import check_image, check_mlp

if TYPE_CHECKING:
    from torch import nn


class UnknownModelError(ValueError):
    """No model of that name, or it does not take the options; the message lists what is allowed."""


@dataclass(frozen=True)
class _Named:
    """A model of this package, described without importing it.

    Attributes:
        place: `module:attribute` below this package.
        fixed: arguments that follow from the name.
        options: options that a user may give, with their defaults.
        smallest_image: smallest height and width of the images; None for inputs of any shape.
    """

    place: str
    fixed: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, int] = field(default_factory=dict)
    smallest_image: int | None = None

    def find(self) -> Callable[..., nn.Module]:
        """The class or function; imports it."""
        module, _, attribute = self.place.partition(":")
        found = getattr(importlib.import_module(f"trainables.models.{module}"), attribute)
        return partial(found, **self.fixed)


_NAMED: dict[str, _Named] = {
    "mlp": _Named("mlp:MLP", options={"width": 256, "depth": 2}),
    "cnn8": _Named("convolutional:CNN8", smallest_image=8),
    **{
        f"resnet{depth}": _Named("convolutional:CifarResNet", {"depth": depth}, smallest_image=4)
        for depth in (20, 32, 44, 56)
    },
    **{
        f"resnet{n}": _Named("convolutional:imagenet_resnet", {"layers": n}, smallest_image=8)
        for n in (18, 34, 50)
    },
}


def names() -> tuple[str, ...]:
    """Names of the models of this package."""
    return tuple(_NAMED)


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
    model_class = _NAMED[name].find() if name in _NAMED else _imported(name)
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
    if name in _NAMED:
        allowed = list(_NAMED[name].options)
    else:
        model_class = _imported(name)
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


def check_inputs(name: str, input_shape: tuple[int, ...], options: Mapping[str, Any]) -> None:
    """Make sure that a model of this package can be built for these inputs, without building it.

    Args:
        name: one of `names()`.
        input_shape: as in `build`.
        options: as in `build`, of names that `check` has accepted.

    Raises:
        UnknownModelError: the inputs do not fit, or an option is out of range.
    """
    named = _NAMED[name]
    try:
        if named.smallest_image is not None:
            check_image(name, input_shape, named.smallest_image)
        if name == "mlp":
            check_mlp(**{**named.options, **options})
    except ValueError as error:
        raise UnknownModelError(f"model {name} with {dict(options)}: {error}") from error


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


def _imported(name: str) -> Callable[..., nn.Module]:
    """The class that a user names; importing it runs the user's code."""
    module_name, _, attribute = name.partition(":")
    if not attribute:
        allowed = (*_NAMED, "or package.module:Class")
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
