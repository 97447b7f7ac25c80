"""What a loss is, and the table of all of them."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from trainables.losses._common import Scalar as Scalar
from trainables.losses._log_odds import OfProbability

LossFunction = Callable[..., Tensor]


class UnknownLossError(ValueError):
    """No loss of that name; the message lists what is allowed."""


class LossParameterError(ValueError):
    """A parameter that the loss does not have, or a value outside its domain."""


@dataclass(frozen=True)
class Parameter:
    """A scalar parameter of a loss.

    `low`, `high` and `log` are what a search explores. `minimum` and `maximum` are what the
    formula allows, both inclusive.
    """

    name: str
    default: float
    low: float
    high: float
    log: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf

    @property
    def searched(self) -> bool:
        """Whether a search explores it; otherwise it stays at its default."""
        return self.low < self.high

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

    `weight_l1` is the coefficient of ‖θ‖₁ that the source adds to the mean loss; it depends on
    the network, so a trainer adds it, not the loss.
    """

    name: str
    params: Mapping[str, float]
    source: str
    weight_l1: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A loss function with what a study and a reader must know about it.

    `function(logits, labels, *, parameter…)` takes logits [..., batch, classes] and labels
    [..., batch] (int64) and returns values [..., batch]; each parameter is a float or a tensor
    of the leading member dimensions (…).

    `bounded`: for a given number of classes the values are, for any logits.
    `symmetric`: Σ_k L(·, k) does not depend on the logits, for any parameter values
    (Ghosh et al., 1712.09482).
    `asymmetric`: asymmetric in the sense of Zhou et al. (2106.03110), for some parameter values.
    `searches_epsilon`: a study searches a logit bias for it.
    `exact`: settings at which the gradient is the derivative of the value, where the source
    defines another (a detached weight) or both are approximations (a truncated iteration).
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

    @property
    def of_probability(self) -> bool:
        """Whether the value depends on the labelled class's softmax probability alone."""
        return isinstance(self.function, OfProbability)

    @property
    def defaults(self) -> dict[str, float]:
        """Parameter name → default value."""
        return {p.name: p.default for p in self.parameters}

    def preset(self, name: str) -> dict[str, float]:
        """All parameter values of the preset called `name`.

        Raises LossParameterError where there is none.
        """
        for preset in self.presets:
            if preset.name == name:
                return self.check(**preset.params)
        allowed = ", ".join(p.name for p in self.presets) or "none"
        raise LossParameterError(f"loss {self.name} has no preset {name!r}: allowed are {allowed}")

    def check(self, **params: float) -> dict[str, float]:
        """Return the defaults updated with `params`.

        Raises LossParameterError for an unknown name or a value outside the domain.
        """
        known = {p.name: p for p in self.parameters}
        for name, value in params.items():
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise LossParameterError(
                    f"loss {self.name} has no parameter {name}: allowed are {allowed}"
                )
            low, high = known[name].minimum, known[name].maximum
            if not low <= value <= high:  # also refuses NaN
                raise LossParameterError(
                    f"loss {self.name}: {name} = {value:g} must lie in [{low:g}, {high:g}]"
                )
        return self.defaults | params


_LOSSES: dict[str, Loss] = {}


def register(loss: Loss) -> Loss:
    """Add `loss` to the table, so that `get` and study files find it by name.

    A worker process sees only what it has imported: in a study file name a loss of your own as
    'package.module:attribute' instead, which `get` imports wherever it runs.

    Raises ValueError where the name is taken.
    """
    if loss.name in _LOSSES:
        raise ValueError(f"loss {loss.name}: the name is taken")
    _LOSSES[loss.name] = loss
    return loss


@contextmanager
def registered(loss: Loss) -> Iterator[Loss]:
    """Like `register`, for the length of a `with` block."""
    register(loss)
    try:
        yield loss
    finally:
        del _LOSSES[loss.name]


def names() -> tuple[str, ...]:
    """Names of all registered losses, in alphabetical order."""
    return tuple(sorted(_LOSSES))


def get(name: str) -> Loss:
    """Return the loss called `name`, or the one at 'package.module:attribute'.

    The attribute is a `Loss`, or a plain function; of a function the keyword-only arguments with
    a numeric default become parameters that are not searched, nothing is claimed about bounds
    or symmetry, and a study searches a logit bias for it.

    Raises UnknownLossError where there is none.
    """
    if name in _LOSSES:
        return _LOSSES[name]
    if ":" in name:
        return _imported(name)
    close = difflib.get_close_matches(name, _LOSSES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UnknownLossError(
        f"unknown loss {name!r}{hint}: allowed are {', '.join(names())}, or package.module:function"
    )


def _imported(name: str) -> Loss:
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UnknownLossError(
            f"unknown loss {name!r}: {error}; is its folder installed or on PYTHONPATH?"
        ) from error
    except Exception as error:  # a user's module may fail in any way
        raise UnknownLossError(f"unknown loss {name!r}: {error}") from error
    if isinstance(found, Loss):
        return found
    if not callable(found):
        raise UnknownLossError(f"unknown loss {name!r}: it is neither a function nor a Loss")
    parameters = tuple(
        Parameter(p.name, float(p.default), float(p.default), float(p.default))
        for p in inspect.signature(found).parameters.values()
        if p.kind is p.KEYWORD_ONLY
        and isinstance(p.default, int | float)
        and not isinstance(p.default, bool)
    )
    return Loss(name, found, parameters, searches_epsilon=True, reference="the user's own")
