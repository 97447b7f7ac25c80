"""The logit bias ε computed from the number of classes alone, without training.

A loss that sees only the softmax probability `a_k` of the labelled class cannot learn where its
gradient vanishes. With many classes a random network starts in such a region: E[a_k] = 1/c. The
logit bias adds ε to the labelled class's logit, in the loss only. The rule `activation` of Staats,
Thamm & Rosenow (arXiv 2306.05497) chooses the ε at which

    E[ exp(z_k + ε) / (exp(z_k + ε) + Σ_{i≠k} exp(z_i)) ] = target,   z_i i.i.d. N(0, σ²).

The Gumbel-max trick turns the expectation over c Gaussians into one integral: softmax
probabilities are the probabilities that W_k + ε exceeds every other W_i, where W = z + Gumbel
noise. The W_i are independent, so with F and f the distribution and density of W

    E[a_k](ε) = ∫ f(w − ε) F(w)^(c−1) dw,   F(w) = E_z[exp(−exp(−(w − z)))].

Both integrands are analytic, so the trapezoid rule converges exponentially: a step of 0.25 is far
smaller than double precision needs. The module needs NumPy and SciPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

ANCHOR_CLASSES = 10
ANCHOR_EPSILON = 0.5  # MAE* on CIFAR-10, from a secondary summary of the paper, so a setting
MAX_SIGMA = 100.0
"""Far above the spread of any untrained network's logits; the grid grows with σ²."""

_STEP = 0.25
_TAIL = 36.0  # e^-36 = 2e-16: where an exponential tail is below double precision

_Array = NDArray[np.float64]


def expected_activation(epsilon: float, classes: int, sigma: float = 1.0) -> float:
    """Mean softmax probability of the labelled class, for logits i.i.d. N(0, σ²).

    The relative error is below 1e-9 for 2 to 1,000,000 classes and σ from 0.01 to 5.

    Args:
        epsilon: the logit bias ε.
        classes: number of classes c, at least 2.
        sigma: σ in (0, 100].

    Returns:
        E[a_k], in (0, 1); 1/c at ε = 0.

    Raises:
        ValueError: an argument is out of range.
    """
    check_classes(classes)
    check_sigma(sigma)
    if not math.isfinite(epsilon):
        raise ValueError(f"epsilon = {epsilon}: must be a finite number")
    return _activation(float(epsilon), classes, float(sigma))[0]


def solve_epsilon(classes: int, target: float | None = None, sigma: float = 1.0) -> float:
    """Logit bias by the rule `activation`: the one with this mean activation (arXiv 2306.05497).

    The expectation rises strictly from 0 to 1, so exactly one ε reaches the target.

    Args:
        classes: number of classes, at least 2.
        target: mean activation, strictly between 0 and 1; None for `anchor_target()`.
        sigma: standard deviation of the initial logits, in (0, 100].

    Returns:
        ε.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> [round(solve_epsilon(classes), 2) for classes in (10, 100, 1000)]
        [0.5, 3.01, 5.33]
    """
    check_classes(classes)
    check_sigma(sigma)
    target = anchor_target() if target is None else float(target)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target = {target:g}: must lie strictly between 0 and 1")
    sigma = float(sigma)
    goal = math.log(target) - math.log1p(-target)

    def excess(epsilon: float) -> float:
        activation, complement = _activation(epsilon, classes, sigma)
        return math.log(activation) - math.log(complement) - goal

    # logit E[a] has a slope of at most 1 in ε (E[a(1−a)] ≤ E[a](1−E[a])) and is known at ε = 0, so
    # the solution is at least as far from 0 as `near`.
    near = goal + math.log(classes - 1)
    residual = excess(near)
    if abs(residual) < 1e-12:
        return near
    far, step = near, -1.25 * residual
    while excess(far := far + step) * residual > 0:
        step *= 2
    root = brentq(excess, min(near, far), max(near, far), xtol=1e-12, rtol=1e-14)
    return float(root)


@lru_cache(maxsize=1)
def anchor_target() -> float:
    """Mean activation at the paper's anchor: 10 classes, ε = 0.5, σ = 1 (about 0.147)."""
    return expected_activation(ANCHOR_EPSILON, ANCHOR_CLASSES, 1.0)


def mean_log_odds(classes: int, sigma: float = 1.0) -> float:
    """Mean of Δ = z_k − log Σ_{i≠k} exp(z_i), in Ou & Zhang's closed form (arXiv 2305.02139).

    E[Δ] ≈ −log(c − 1) − σ²/2 + (e^{σ²} − 1) / (2(c − 1)), the expansion of the logarithm to
    second order.

    Args:
        classes: number of classes c, at least 2.
        sigma: standard deviation σ of the initial logits, in (0, 100].

    Returns:
        E[Δ].

    Raises:
        ValueError: an argument is out of range, or (e^{σ²} − 1) / (c − 1) ≥ 1, where the
            expansion does not hold.
    """
    check_classes(classes)
    check_sigma(sigma)
    spread = math.expm1(min(sigma**2, 700.0)) / (classes - 1)
    if spread >= 1.0:
        raise ValueError(
            f"classes = {classes}, sigma = {sigma:g}: the closed form of E[Δ] needs "
            f"(exp(sigma²) − 1) / (classes − 1) below 1, here it is {spread:.3g}"
        )
    return -math.log(classes - 1) - sigma**2 / 2 + spread / 2


def shift_epsilon(classes: int, a: float | None = None, sigma: float = 1.0) -> float:
    """Ou & Zhang's `shift` as a logit bias: ε = |E[Δ]| − a (arXiv 2305.02139).

    It moves the mean of the initial Δ to −a.

    Args:
        classes: number of classes, at least 2.
        a: None for `anchor_log_odds()`; Ou & Zhang tuned a = 2.6 at 100 classes.
        sigma: standard deviation of the initial logits, in (0, 100].

    Returns:
        ε.

    Raises:
        ValueError: as in `mean_log_odds`.
    """
    a = anchor_log_odds() if a is None else a
    return -mean_log_odds(classes, sigma) - a


def anchor_log_odds() -> float:
    """−E[Δ + ε] at the paper's anchor: 10 classes, ε = 0.5, σ = 1 (about 2.10)."""
    return -mean_log_odds(ANCHOR_CLASSES) - ANCHOR_EPSILON


def rescale_factor(classes: int, a: float | None = None, sigma: float = 1.0) -> float:
    """Ou & Zhang's `rescale` factor a / |E[Δ]|, for `losses.evaluate_rescaled` (arXiv 2305.02139).

    Args:
        classes: number of classes, at least 2.
        a: above 0; None for `anchor_log_odds()`, with which `rescale` and `shift` start training
            at the same mean of Δ.
        sigma: standard deviation of the initial logits, in (0, 100].

    Returns:
        The factor, above 0.

    Raises:
        ValueError: a ≤ 0, or as in `mean_log_odds`.
    """
    a = anchor_log_odds() if a is None else a
    if not a > 0.0:
        raise ValueError(f"a = {a:g}: must be above 0")
    return a / -mean_log_odds(classes, sigma)


def check_classes(classes: int) -> None:
    """Check a number of classes.

    Args:
        classes: number of classes.

    Raises:
        ValueError: it is not an integer of at least 2.
    """
    if isinstance(classes, bool) or int(classes) != classes or classes < 2:
        raise ValueError(f"classes = {classes}: must be an integer of at least 2")


def check_sigma(sigma: float) -> None:
    """Check a standard deviation of the logits.

    Args:
        sigma: standard deviation.

    Raises:
        ValueError: it is outside (0, 100].
    """
    if not 0.0 < sigma <= MAX_SIGMA:
        raise ValueError(f"sigma = {sigma}: must lie in (0, {MAX_SIGMA:g}]")


def _activation(epsilon: float, classes: int, sigma: float) -> tuple[float, float]:
    """Return E[a] and 1 − E[a], both without cancellation."""
    # The tails of W are those of z tilted by e^{±z}, which shifts them by σ²: 8 + σ standard
    # deviations.
    reach = sigma * (8.0 + sigma)
    low = max(0.0, epsilon) - reach - 5.0
    high = max(math.log(classes) + sigma**2 / 2, epsilon + reach) + _TAIL
    w = np.arange(math.ceil((high - low) / _STEP) + 1, dtype=np.float64) * _STEP + low
    survival = _gaussian_mean(_gumbel_survival, w, sigma)  # Q = 1 − F keeps its relative precision
    density = _STEP * _gaussian_mean(_gumbel_density, w - epsilon, sigma)
    with np.errstate(divide="ignore"):  # F = 0 far to the left
        log_power = (classes - 1) * np.log1p(-np.minimum(survival, 1.0))
    activation = float(density @ np.exp(log_power))
    # For ε ≤ 0, E[a] ≤ 1/2 and the grid stops short of the left part of f's mass.
    complement = float(density @ -np.expm1(log_power)) if epsilon > 0 else 1.0 - activation
    tiny = 5e-324
    return max(activation, tiny), max(complement, tiny)


def _gaussian_mean(function: Callable[[_Array], _Array], w: _Array, sigma: float) -> _Array:
    """Return E_z[function(w − z)], z ~ N(0, σ²), by the trapezoid rule.

    `w` is a grid of step 0.25.
    """
    reach = sigma * (8.0 + sigma)
    if sigma < 0.5:
        u = np.arange(-(8.0 + sigma), 8.0 + sigma + 0.25, 0.25)
        weights = np.exp(-(u**2) / 2)
        return np.asarray(function(w[:, None] - sigma * u) @ (weights / weights.sum()))
    # z on the same grid as w: one discrete convolution of positive terms.
    half = math.ceil(reach / _STEP)
    z = _STEP * np.arange(-half, half + 1)
    weights = np.exp(-((z / sigma) ** 2) / 2)
    extended = w[0] + _STEP * np.arange(-half, len(w) + half)
    return np.convolve(function(extended), weights / weights.sum(), mode="valid")


def _gumbel_survival(x: _Array) -> _Array:
    return np.asarray(-np.expm1(-np.exp(np.minimum(-x, 700.0))))


def _gumbel_density(x: _Array) -> _Array:
    negative = np.minimum(-x, 700.0)
    return np.asarray(np.exp(negative - np.exp(negative)))
