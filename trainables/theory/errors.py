"""The initial back-propagation error δ_k = ∂L/∂z_k of the labelled class, without training.

For a loss that depends on the labelled probability a alone, δ_k = L'(a) a (1 − a) is a function of
the log-odds Δ = z_k − log Σ_{i≠k} exp(z_i) alone, with a = sigmoid(Δ + ε). `ERRORS` contains this
function for each such loss, in NumPy, so that it needs no torch; a test compares each with
autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from trainables.errors import did_you_mean
from trainables.theory.distribution import ErrorCurve, InitialError
from trainables.theory.logits import InitialLogits

FloatArray = NDArray[np.float64]
ErrorFunction = Callable[..., FloatArray]
"""`(log_odds, classes, **params) -> δ_k`, elementwise."""

_sigmoid: Callable[[FloatArray], FloatArray] = special.expit
_log_sigmoid: Callable[[FloatArray], FloatArray] = special.log_expit


@dataclass(frozen=True)
class ParameterRange:
    """Default and ranges of a loss's parameter, as in `losses.Parameter`.

    Attributes:
        default: value where none is given.
        low: lower end of the usual range.
        high: upper end of the usual range; equal to `low` for a parameter that is not tuned.
        minimum: smallest value that the formula allows.
        maximum: largest value that the formula allows.
    """

    default: float
    low: float
    high: float
    minimum: float = -math.inf
    maximum: float = math.inf

    @property
    def solution_range(self) -> tuple[float, float]:
        """Interval in which a rule looks for a solution.

        It extends far beyond the usual range, up to what the formula allows: class counts span
        orders of magnitude, and so do the parameters that suit them.
        """
        return max(self.minimum, self.low / 100), min(self.maximum, self.high * 10)


@dataclass(frozen=True)
class ErrorFormula:
    """δ_k of a loss as a function of the log-odds.

    Attributes:
        function: the formula.
        parameters: parameter name → default and ranges.
        kinks: `(**params) ->` the log-odds at which δ_k is not smooth.
    """

    function: ErrorFunction
    parameters: Mapping[str, ParameterRange] = field(default_factory=dict)
    kinks: Callable[..., Sequence[float]] = lambda **_: ()

    @property
    def defaults(self) -> dict[str, float]:
        """Parameter name → default value."""
        return {name: range_.default for name, range_ in self.parameters.items()}


def _ce(x: FloatArray, classes: int) -> FloatArray:
    return -_sigmoid(-x)


def _label_smoothing(x: FloatArray, classes: int, *, smoothing: float) -> FloatArray:
    return _sigmoid(x) - (1.0 - smoothing) - smoothing / classes


def _focal(x: FloatArray, classes: int, *, gamma: float, modulator_gradient: float) -> FloatArray:
    of_modulator = gamma * _sigmoid(x) * _log_sigmoid(x) * modulator_gradient
    return (of_modulator - _sigmoid(-x)) * np.exp(gamma * _log_sigmoid(-x))


def _mae(x: FloatArray, classes: int, *, scale: float) -> FloatArray:
    return -scale * _sigmoid(x) * _sigmoid(-x)


def _rce(x: FloatArray, classes: int, *, log_zero: float) -> FloatArray:
    return log_zero * _sigmoid(x) * _sigmoid(-x)


def _sce(x: FloatArray, classes: int, *, alpha: float, beta: float, log_zero: float) -> FloatArray:
    return alpha * _ce(x, classes) + beta * _rce(x, classes, log_zero=log_zero)


def _gce(x: FloatArray, classes: int, *, q: float) -> FloatArray:
    return -np.exp(q * _log_sigmoid(x)) * _sigmoid(-x)


def _truncated_gce(x: FloatArray, classes: int, *, q: float, k: float) -> FloatArray:
    return np.where(_log_sigmoid(x) > math.log(k), _gce(x, classes, q=q), 0.0)


def _js(x: FloatArray, classes: int, *, weight: float) -> FloatArray:
    # The derivative of the mixture π + (1 − π)p cancels between its two logarithms.
    log_mixture = np.log1p(-(1.0 - weight) * _sigmoid(-x))
    slope = (_log_sigmoid(x) - log_mixture + math.log1p(-weight)) / -math.log1p(-weight)
    return slope * _sigmoid(x) * _sigmoid(-x)


def _unhinged(x: FloatArray, classes: int) -> FloatArray:
    return np.full_like(x, 1.0 / classes - 1.0)


def _alpha_mae(x: FloatArray, classes: int, *, alpha: float) -> FloatArray:
    return alpha * _mae(x, classes, scale=1.0) + (1.0 - alpha) * _unhinged(x, classes)


def _taylor_ce(x: FloatArray, classes: int, *, order: float) -> FloatArray:
    terms = range(1, math.ceil(order) + 1)
    slope = sum(min(1.0, order - i + 1) * _sigmoid(-x) ** (i - 1) for i in terms)
    return -slope * _sigmoid(x) * _sigmoid(-x)


def _phuber_ce(x: FloatArray, classes: int, *, tau: float) -> FloatArray:
    slope = np.where(_log_sigmoid(x) > -math.log(tau), 1.0, tau * _sigmoid(x))
    return -slope * _sigmoid(-x)


def _bounded_ce(x: FloatArray, classes: int) -> FloatArray:
    a = _sigmoid(x)
    return -4.0 * a**2 * _sigmoid(-x) / (1.0 + a**2) ** 2


def _agce(x: FloatArray, classes: int, *, a: float, q: float) -> FloatArray:
    return -((a + _sigmoid(x)) ** (q - 1.0)) * _sigmoid(x) * _sigmoid(-x)


def _aul(x: FloatArray, classes: int, *, a: float, q: float) -> FloatArray:
    return -((a - _sigmoid(x)) ** (q - 1.0)) * _sigmoid(x) * _sigmoid(-x)


def _ael(x: FloatArray, classes: int, *, a: float) -> FloatArray:
    return -np.exp(-_sigmoid(x) / a) * _sigmoid(x) * _sigmoid(-x) / a


def _log_odds(p: float) -> float:
    return math.log(p) - math.log1p(-p)


_FIXED_MODULATOR = ParameterRange(1.0, 1.0, 1.0, 0.0, 1.0)
_LOG_ZERO = ParameterRange(-4.0, -4.0, -4.0, maximum=0.0)
_Q = ParameterRange(0.7, 0.05, 1.0, 1e-6, 1.0)

# A copy of what `trainables.losses` declares, which this package does not need; a test compares.
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
    """Parameters of a loss.

    Args:
        loss: a loss of `trainables.losses`, or 'package.module:function'.

    Returns:
        Parameter name → default and ranges.

    Raises:
        ValueError: unknown loss.
    """
    if loss in ERRORS:
        return ERRORS[loss].parameters
    from trainables import losses

    return {
        p.name: ParameterRange(p.default, p.low, p.high, p.minimum, p.maximum)
        for p in losses.get(loss).parameters
    }


def mean_error(loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float) -> float:
    """Mean initial error E[δ_k], by quadrature.

    Args:
        loss: a loss in `ERRORS`; for the others, see `sampled.mean_error`.
        logits: the initial logits.
        epsilon: the logit bias ε.
        **params: parameters of the loss; the others keep their defaults.

    Returns:
        E[δ_k].

    Raises:
        ValueError: the loss is not in `ERRORS`, or does not have a parameter.
    """
    error, kinks = _bind(loss, logits, params)
    points, weights = logits.log_odds(epsilon, kinks)
    return float(weights @ error(points))


def initial_error(
    loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float
) -> InitialError:
    """Distribution of δ_k at initialisation: by quadrature for a loss in `ERRORS`, else sampled.

    Args:
        loss: a loss of `trainables.losses`, or 'package.module:function'.
        logits: the initial logits.
        epsilon: the logit bias ε.
        **params: parameters of the loss; the others keep their defaults.

    Returns:
        The distribution.

    Raises:
        ValueError: unknown loss or parameter.
    """
    if loss not in ERRORS:
        from trainables.theory import sampled  # imports torch

        return sampled.initial_error(loss, logits, epsilon, params)
    error, kinks = _bind(loss, logits, params)
    points, weights = logits.log_odds(epsilon, kinks)
    values = error(points)
    mean = float(weights @ values)
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    low, middle, high = np.interp((0.05, 0.5, 0.95), cumulative - weights[order] / 2, values[order])
    largest = float(np.abs(error(np.linspace(-60.0, 60.0, 24_001))).max())
    curve = error_curve(loss, logits, epsilon, **params)
    received = np.trapezoid(np.nan_to_num(np.abs(curve.error)) * curve.density, curve.z)
    received /= np.trapezoid(curve.density, curve.z)
    return InitialError(
        mean=mean,
        std=math.sqrt(float(weights @ (values - mean) ** 2)),
        quantiles=(float(low), float(middle), float(high)),
        overlap=float(received) / largest,
    )


def error_curve(
    loss: str, logits: InitialLogits, epsilon: float = 0.0, **params: float
) -> ErrorCurve:
    """E[δ_k | z_k] as a function of z_k: by quadrature for a loss in `ERRORS`, else sampled.

    Args:
        loss: a loss of `trainables.losses`, or 'package.module:function'.
        logits: the initial logits.
        epsilon: the logit bias ε.
        **params: parameters of the loss; the others keep their defaults.

    Returns:
        The curve, with the density of z_k.

    Raises:
        ValueError: unknown loss or parameter.
    """
    if loss not in ERRORS:
        from trainables.theory import sampled  # imports torch

        return sampled.error_curve(loss, logits, epsilon, params)
    error, _ = _bind(loss, logits, params)
    z, density = logits.z_grid()
    return ErrorCurve(z, logits.given_z(error, epsilon), density)


def _bind(
    loss: str, logits: InitialLogits, params: Mapping[str, float]
) -> tuple[Callable[[FloatArray], FloatArray], Sequence[float]]:
    """Return δ_k as a function of the log-odds alone, and its kinks."""
    if loss not in ERRORS:
        raise ValueError(f"loss {loss!r} has no closed δ_k{did_you_mean(loss, ERRORS)}")
    formula = ERRORS[loss]
    for name in params:
        if name not in formula.parameters:
            raise ValueError(
                f"loss {loss} has no parameter {name}{did_you_mean(name, formula.parameters)}"
            )
    settings = {**formula.defaults, **params}

    def error(x: FloatArray) -> FloatArray:
        return formula.function(np.asarray(x, dtype=np.float64), logits.classes, **settings)

    return error, formula.kinks(**settings)
