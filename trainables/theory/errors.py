"""The initial back-propagation error δ_k = ∂L/∂z_k of the labelled class, without training.

Of a loss that depends on the labelled probability a alone, δ_k = L'(a) a (1 − a) is a function of
the log-odds Δ = z_k − log Σ_{i≠k} exp(z_i) alone, with a = sigmoid(Δ + ε). `ERRORS` has that
function for each such loss, in NumPy, so that theory needs no torch. (A test compares each with
autograd.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from trainables.theory.distribution import ErrorCurve, InitialError
from trainables.theory.logits import InitialLogits

_Array = NDArray[np.floating]
ErrorFunction = Callable[..., _Array]
"""`(log_odds, classes, **params) -> δ_k`, elementwise."""


@dataclass(frozen=True)
class ParameterRange:
    """A loss's parameter: default, what a search explores, and what the formula allows."""

    default: float
    low: float
    high: float
    minimum: float = -math.inf
    maximum: float = math.inf

    @property
    def wide(self) -> tuple[float, float]:
        """Where a rule looks: far beyond what a search explores, as far as the formula allows.

        Class counts go over orders of magnitude, and so do the parameters that suit them.
        """
        return max(self.minimum, self.low / 100), min(self.maximum, self.high * 10)


@dataclass(frozen=True)
class ErrorFormula:
    """δ_k of a loss as a function of the log-odds.

    `kinks` gives the log-odds at which δ_k is not smooth.
    """

    function: ErrorFunction
    parameters: Mapping[str, ParameterRange] = field(default_factory=dict)
    kinks: Callable[..., Sequence[float]] = lambda **_: ()

    @property
    def defaults(self) -> dict[str, float]:
        """Parameter name → default value."""
        return {name: range_.default for name, range_ in self.parameters.items()}


def _ce(x: _Array, classes: int) -> _Array:
    return -expit(-x)


def _label_smoothing(x: _Array, classes: int, *, smoothing: float) -> _Array:
    return expit(x) - (1.0 - smoothing) - smoothing / classes


def _focal(x: _Array, classes: int, *, gamma: float, modulator_gradient: float) -> _Array:
    own = gamma * expit(x) * log_expit(x) * modulator_gradient
    return (own - expit(-x)) * np.exp(gamma * log_expit(-x))


def _mae(x: _Array, classes: int, *, scale: float) -> _Array:
    return -scale * expit(x) * expit(-x)


def _rce(x: _Array, classes: int, *, log_zero: float) -> _Array:
    return log_zero * expit(x) * expit(-x)


def _sce(x: _Array, classes: int, *, alpha: float, beta: float, log_zero: float) -> _Array:
    return alpha * _ce(x, classes) + beta * _rce(x, classes, log_zero=log_zero)


def _gce(x: _Array, classes: int, *, q: float) -> _Array:
    return -np.exp(q * log_expit(x)) * expit(-x)


def _truncated_gce(x: _Array, classes: int, *, q: float, k: float) -> _Array:
    return np.where(log_expit(x) > math.log(k), _gce(x, classes, q=q), 0.0)


def _js(x: _Array, classes: int, *, weight: float) -> _Array:
    # The derivative of π + (1 − π)p inside the logarithm cancels against that outside.
    log_mixture = np.log1p(-(1.0 - weight) * expit(-x))
    slope = (log_expit(x) - log_mixture + math.log1p(-weight)) / -math.log1p(-weight)
    return slope * expit(x) * expit(-x)


def _unhinged(x: _Array, classes: int) -> _Array:
    return np.full_like(x, 1.0 / classes - 1.0)


def _alpha_mae(x: _Array, classes: int, *, alpha: float) -> _Array:
    return alpha * _mae(x, classes, scale=1.0) + (1.0 - alpha) * _unhinged(x, classes)


def _taylor_ce(x: _Array, classes: int, *, order: float) -> _Array:
    terms = range(1, math.ceil(order) + 1)
    slope = sum(min(1.0, order - i + 1) * expit(-x) ** (i - 1) for i in terms)
    return -slope * expit(x) * expit(-x)


def _phuber_ce(x: _Array, classes: int, *, tau: float) -> _Array:
    slope = np.where(log_expit(x) > -math.log(tau), 1.0, tau * expit(x))
    return -slope * expit(-x)


def _bounded_ce(x: _Array, classes: int) -> _Array:
    a = expit(x)
    return -4.0 * a**2 * expit(-x) / (1.0 + a**2) ** 2


def _agce(x: _Array, classes: int, *, a: float, q: float) -> _Array:
    return -((a + expit(x)) ** (q - 1.0)) * expit(x) * expit(-x)


def _aul(x: _Array, classes: int, *, a: float, q: float) -> _Array:
    return -((a - expit(x)) ** (q - 1.0)) * expit(x) * expit(-x)


def _ael(x: _Array, classes: int, *, a: float) -> _Array:
    return -np.exp(-expit(x) / a) * expit(x) * expit(-x) / a


def _log_odds(p: float) -> float:
    return math.log(p) - math.log1p(-p)


_FIXED_MODULATOR = ParameterRange(1.0, 1.0, 1.0, 0.0, 1.0)
_LOG_ZERO = ParameterRange(-4.0, -4.0, -4.0, maximum=0.0)
_Q = ParameterRange(0.7, 0.05, 1.0, 1e-6, 1.0)

# Defaults and ranges are those of `trainables.losses`, which needs torch; a test compares them.
ERRORS: dict[str, ErrorFormula] = {
    "ce": ErrorFormula(_ce),
    "label_smoothing": ErrorFormula(
        _label_smoothing, {"smoothing": ParameterRange(0.1, 0.0, 0.9, 0.0, 0.999)}
    ),
    "focal": ErrorFormula(
        _focal,
        {"gamma": ParameterRange(0.5, 0.0, 5.0, 0.0), "modulator_gradient": _FIXED_MODULATOR},
    ),
    "mae": ErrorFormula(_mae, {"scale": ParameterRange(1.0, 1.0, 1.0, 0.0)}),
    "rce": ErrorFormula(_rce, {"log_zero": _LOG_ZERO}),
    "sce": ErrorFormula(
        _sce,
        {
            "alpha": ParameterRange(0.1, 0.01, 10.0, 0.0),
            "beta": ParameterRange(1.0, 0.01, 10.0, 0.0),
            "log_zero": _LOG_ZERO,
        },
    ),
    "gce": ErrorFormula(_gce, {"q": _Q}),
    "truncated_gce": ErrorFormula(
        _truncated_gce,
        {"q": _Q, "k": ParameterRange(0.5, 0.05, 0.9, 1e-6, 0.999)},
        lambda q, k: (_log_odds(k),),
    ),
    "js": ErrorFormula(_js, {"weight": ParameterRange(0.5, 0.05, 0.95, 1e-4, 0.9999)}),
    "unhinged": ErrorFormula(_unhinged),
    "alpha_mae": ErrorFormula(_alpha_mae, {"alpha": ParameterRange(0.5, 0.0, 1.0, 0.0, 1.0)}),
    "taylor_ce": ErrorFormula(_taylor_ce, {"order": ParameterRange(2.0, 1.0, 8.0, 1.0, 20.0)}),
    "phuber_ce": ErrorFormula(
        _phuber_ce,
        {"tau": ParameterRange(10.0, 1.5, 100.0, 1.001)},
        lambda tau: (_log_odds(1.0 / tau),),
    ),
    "bounded_ce": ErrorFormula(_bounded_ce),
    "agce": ErrorFormula(
        _agce,
        {"a": ParameterRange(0.6, 1e-5, 10.0, 1e-8), "q": ParameterRange(0.6, 0.1, 4.0, 1e-3)},
    ),
    "aul": ErrorFormula(
        _aul, {"a": ParameterRange(5.5, 1.1, 10.0, 1.001), "q": ParameterRange(3.0, 0.1, 4.0, 1e-3)}
    ),
    "ael": ErrorFormula(_ael, {"a": ParameterRange(2.5, 0.5, 10.0, 1e-2)}),
}


def parameters_of(loss: str) -> Mapping[str, ParameterRange]:
    """Parameters of any loss. Imports torch for one without a closed δ_k.

    Raises ValueError for an unknown loss.
    """
    if loss in ERRORS:
        return ERRORS[loss].parameters
    from trainables import losses  # imports torch

    return {
        p.name: ParameterRange(p.default, p.low, p.high, p.minimum, p.maximum)
        for p in losses.get(loss).parameters
    }


def mean_error(loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float) -> float:
    """E[δ_k] of `loss` at initialisation, with logit bias `epsilon`.

    Of a loss in `ERRORS`; `sampled.mean_error` is for the others. Raises ValueError.
    """
    error, kinks, points_of = _bind(loss, logits, params)
    points, weights = points_of(epsilon, kinks)
    return float(weights @ error(points))


def initial_error(
    loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float
) -> InitialError:
    """The distribution of δ_k of any loss at initialisation, with logit bias `epsilon`.

    By quadrature for a loss in `ERRORS`, else sampled. Raises ValueError for an unknown loss or
    parameter.
    """
    if loss not in ERRORS:
        from trainables.theory import sampled  # imports torch

        return sampled.initial_error(loss, logits, epsilon, params)
    error, kinks, points_of = _bind(loss, logits, params)
    points, weights = points_of(epsilon, kinks)
    values = error(points)
    mean = float(weights @ values)
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    low, middle, high = np.interp((0.05, 0.5, 0.95), reached - weights[order] / 2, values[order])
    largest = float(np.abs(error(np.linspace(-60.0, 60.0, 24_001))).max())
    curve = error_curve(loss, logits, epsilon, **params)
    seen = np.trapezoid(np.nan_to_num(np.abs(curve.error)) * curve.density, curve.z)
    seen /= np.trapezoid(curve.density, curve.z)
    return InitialError(
        mean=mean,
        std=math.sqrt(float(weights @ (values - mean) ** 2)),
        quantiles=(float(low), float(middle), float(high)),
        overlap=float(seen) / largest,
    )


def error_curve(
    loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float
) -> ErrorCurve:
    """Return E[δ_k | z_k] of any loss over z_k, and the density of z_k.

    By quadrature for a loss in `ERRORS`, else sampled. Raises ValueError for an unknown loss or
    parameter.
    """
    if loss not in ERRORS:
        from trainables.theory import sampled  # imports torch

        return sampled.error_curve(loss, logits, epsilon, params)
    error, _, _ = _bind(loss, logits, params)
    z, density = logits.z_grid()
    return ErrorCurve(z, logits.given_z(error, epsilon), density)


def _bind(loss: str, logits: InitialLogits, params: Mapping[str, float]) -> Any:
    if loss not in ERRORS:
        raise ValueError(f"loss {loss!r}: no closed δ_k; there is one for {', '.join(ERRORS)}")
    found = ERRORS[loss]
    unknown = set(params) - set(found.defaults)
    if unknown:
        allowed = ", ".join(found.defaults) or "none"
        raise ValueError(f"loss {loss} has no parameter {unknown.pop()}: allowed are {allowed}")
    settings = {**found.defaults, **params}

    def error(x: ArrayLike) -> _Array:
        return found.function(np.asarray(x, dtype=np.float64), logits.classes, **settings)

    return error, found.kinks(**settings), logits.log_odds
