"""The registry of losses: what is known about each, and how to add one."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from trainables.errors import did_you_mean
from trainables.losses._log_odds import OfProbability
from trainables.losses._torch import Tensor

LossFunction = Callable[..., Tensor]


class UnknownLossError(ValueError):
    """No loss has that name; the message lists the allowed names."""


class LossParameterError(ValueError):
    """A parameter that the loss does not have, or a value outside its domain."""


@dataclass(frozen=True)
class Parameter:
    """A scalar parameter of a loss.

    Attributes:
        name: name of the keyword argument.
        default: value where none is given.
        low: lower end of the usual range. The conformance suite draws values from this range, and
            the analytic rules look for a solution around it.
        high: upper end of the usual range; equal to `low` for a convention of the source that is
            not tuned.
        log: whether the usual range spans orders of magnitude, so that draws are log-uniform.
        minimum: smallest value that the formula allows, inclusive.
        maximum: largest value that the formula allows, inclusive.

    Raises:
        LossParameterError: not minimum ≤ low ≤ default ≤ high ≤ maximum.
    """

    name: str
    default: float
    low: float
    high: float
    log: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf

    def __post_init__(self) -> None:
        if not self.minimum <= self.low <= self.default <= self.high <= self.maximum:
            raise LossParameterError(
                f"parameter {self.name}: need minimum ≤ low ≤ default ≤ high ≤ maximum, got "
                f"{self.minimum:g}, {self.low:g}, {self.default:g}, {self.high:g}, "
                f"{self.maximum:g}"
            )


@dataclass(frozen=True)
class Preset:
    """Parameter values that a publication or a repository used.

    Attributes:
        name: unique among the presets of a loss.
        params: parameter name → value; the other parameters keep their defaults.
        source: publication or repository.
        weight_l1: coefficient of ‖θ‖₁ that the source adds to the mean loss. It depends on the
            network, so the trainer adds it, not the loss.
    """

    name: str
    params: Mapping[str, float]
    source: str
    weight_l1: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A loss function, and what a study and a reader need to know about it.

    Attributes:
        name: name in the registry and in study files.
        function: `function(logits, labels, *, parameter…)` with logits [..., batch, classes] and
            int64 labels [..., batch], or [batch] shared by all members; returns values
            [..., batch]. Each parameter is a number or a tensor of the member dimensions [...].
        parameters: its parameters.
        bounded: whether the values are bounded over all logits, for a given number of classes.
        symmetric: whether Σ_k L(·, k) is independent of the logits, for all parameter values
            (Ghosh et al., arXiv 1712.09482).
        searches_epsilon: whether a study searches a logit bias for it.
        reference: publication.
        asymmetric: whether it is asymmetric in the sense of Zhou et al. (arXiv 2106.03110) for
            some parameter values.
        presets: published parameter values.
        exact: parameter values at which the gradient is the derivative of the value, where the
            source defines another gradient (a detached weight) or approximates both (a truncated
            iteration).
        of_distribution: what the source computes for a label distribution t, where that is not
            the mean Σ_k t_k L(·, k); empty where it is, or where the source has labels only.
    """

    name: str
    function: LossFunction
    parameters: tuple[Parameter, ...] = ()
    bounded: bool = False
    symmetric: bool = False
    searches_epsilon: bool = False
    reference: str = ""
    asymmetric: bool = False
    presets: tuple[Preset, ...] = ()
    exact: Mapping[str, float] = field(default_factory=dict)
    of_distribution: str = ""

    @property
    def of_probability(self) -> bool:
        """Whether the value depends on the labelled class's softmax probability alone."""
        return isinstance(self.function, OfProbability)

    @property
    def defaults(self) -> dict[str, float]:
        """Parameter name → default value."""
        return {p.name: p.default for p in self.parameters}

    def preset(self, name: str) -> dict[str, float]:
        """Parameter values of a preset.

        Args:
            name: name of the preset.

        Returns:
            Parameter name → value, for all parameters.

        Raises:
            LossParameterError: the loss has no such preset.
        """
        for preset in self.presets:
            if preset.name == name:
                return self.check(**preset.params)
        allowed = did_you_mean(name, [p.name for p in self.presets])
        raise LossParameterError(f"loss {self.name} has no preset {name!r}{allowed}")

    def check(self, **params: float) -> dict[str, float]:
        """Validate parameter values, and complete them with the defaults.

        Args:
            **params: parameter name → value.

        Returns:
            Parameter name → value, for all parameters.

        Raises:
            LossParameterError: unknown name, or a value outside the domain.
        """
        known = {p.name: p for p in self.parameters}
        for name, value in params.items():
            if name not in known:
                raise LossParameterError(
                    f"loss {self.name} has no parameter {name}{did_you_mean(name, known)}"
                )
            minimum, maximum = known[name].minimum, known[name].maximum
            if not minimum <= value <= maximum:  # also rejects NaN
                raise LossParameterError(
                    f"loss {self.name}: {name} = {value:g} must lie in [{minimum:g}, {maximum:g}]"
                )
        return self.defaults | params


_LOSSES: dict[str, Loss] = {}


def register(loss: Loss) -> Loss:
    """Add a loss to the registry, so that `get` and study files find it by name.

    A worker process knows only the modules that it imports itself. In a study file, name a
    user-defined loss as 'package.module:attribute': `get` then imports it on every worker.

    Args:
        loss: the loss.

    Returns:
        `loss`.

    Raises:
        ValueError: the name is taken.
    """
    if loss.name in _LOSSES:
        raise ValueError(f"loss {loss.name}: the name is taken")
    _LOSSES[loss.name] = loss
    return loss


@contextmanager
def registered(loss: Loss) -> Iterator[Loss]:
    """Register a loss for the duration of a `with` block.

    Args:
        loss: the loss.

    Yields:
        `loss`.

    Raises:
        ValueError: the name is taken.
    """
    register(loss)
    try:
        yield loss
    finally:
        del _LOSSES[loss.name]


def names() -> tuple[str, ...]:
    """Names of all registered losses, in alphabetical order."""
    return tuple(sorted(_LOSSES))


def get(name: str) -> Loss:
    """Look up a loss.

    Args:
        name: name of a registered loss, or 'package.module:attribute'. The attribute is a `Loss`
            or a plain function. The keyword-only arguments of a function that have a numeric
            default become its parameters; it is taken as neither bounded nor symmetric, and a
            study searches a logit bias for it.

    Returns:
        The loss.

    Raises:
        UnknownLossError: there is no such loss, or it cannot be imported.
    """
    if name in _LOSSES:
        return _LOSSES[name]
    if ":" in name:
        return _imported(name)
    allowed = did_you_mean(name, [*names(), "package.module:function"])
    raise UnknownLossError(f"unknown loss {name!r}{allowed}")


def _imported(name: str) -> Loss:
    module_name, _, attribute = name.partition(":")
    try:
        loss_or_function = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UnknownLossError(
            f"unknown loss {name!r}: {error}; is its folder installed or on PYTHONPATH?"
        ) from error
    except Exception as error:  # a user's module may fail in any way
        raise UnknownLossError(f"unknown loss {name!r}: {error}") from error
    if isinstance(loss_or_function, Loss):
        return loss_or_function
    if not callable(loss_or_function):
        raise UnknownLossError(f"unknown loss {name!r}: it is neither a function nor a Loss")
    parameters = tuple(
        Parameter(p.name, float(p.default), float(p.default), float(p.default))
        for p in inspect.signature(loss_or_function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
        and isinstance(p.default, int | float)
        and not isinstance(p.default, bool)
    )
    return Loss(name, loss_or_function, parameters, searches_epsilon=True, reference="user-defined")
