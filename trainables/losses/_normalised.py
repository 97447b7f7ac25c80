"""Normalised losses: NCE, NFL, and the negative losses NNCE, NNFL built from them.

A loss divided by its sum over all labels is symmetric and bounded (Ma et al., arXiv 2006.13554).
Its negative counterpart normalises the distance of the loss from its largest value (Ye et al.,
NeurIPS 2023).
"""

from __future__ import annotations

import math

from trainables.losses._common import Scalar, log_softmax, per_class, pick
from trainables.losses._entropy import (
    DETACHED_MODULATOR,
    EXACT,
    GAMMA,
    MODULATOR_GRADIENT,
    modulator,
)
from trainables.losses._registry import Loss, Parameter, register
from trainables.losses._torch import Tensor, torch


def nce(logits: Tensor, labels: Tensor) -> Tensor:
    """Normalised cross-entropy: log p / Σ_k log a_k.

    Source: Ma et al., arXiv 2006.13554, eq. 8.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].

    Returns:
        Shape [..., batch], in [0, 1].
    """
    return nce_of(log_softmax(logits), labels)


def nce_of(log_a: Tensor, labels: Tensor) -> Tensor:
    """`nce` as a function of the log-softmax `log_a` [..., batch, classes]."""
    return pick(log_a, labels) / log_a.sum(-1)


def nfl(
    logits: Tensor, labels: Tensor, *, gamma: Scalar = 0.5, modulator_gradient: Scalar = 1.0
) -> Tensor:
    """Normalised focal loss: focal / Σ_k focal_k.

    Source: Ma et al., arXiv 2006.13554, eq. 10.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        gamma: γ ≥ 0 of `focal`.
        modulator_gradient: of `focal`.

    Returns:
        Shape [..., batch], in [0, 1].
    """
    return nfl_of(log_softmax(logits), labels, gamma, modulator_gradient)


def nfl_of(log_a: Tensor, labels: Tensor, gamma: Scalar, modulator_gradient: Scalar) -> Tensor:
    """`nfl` as a function of the log-softmax `log_a` [..., batch, classes]."""
    values = _focal_of_each(log_a, gamma, modulator_gradient)
    return pick(values, labels) / values.sum(-1)


def nnce(logits: Tensor, labels: Tensor, *, p_min: Scalar = 1e-7) -> Tensor:
    """Normalised negative cross-entropy: 1 − (A + log p) / Σ_k (A + log a_k), A = −log p_min.

    Source: Ye et al., NeurIPS 2023, eq. 9.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        p_min: in (0, 1/classes); the source clamps the probabilities at it.

    Returns:
        Shape [..., batch], in [0, 1].
    """
    return nnce_of(log_softmax(logits), labels, p_min)


def nnce_of(log_a: Tensor, labels: Tensor, p_min: Scalar) -> Tensor:
    """`nnce` as a function of the log-softmax `log_a` [..., batch, classes]."""
    above = (log_a - _log(per_class(p_min), log_a)).clamp_min(0.0)
    return 1.0 - pick(above, labels) / above.sum(-1)


def nnfl(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: Scalar = 0.5,
    p_min: Scalar = 1e-7,
    modulator_gradient: Scalar = 1.0,
) -> Tensor:
    """Normalised negative focal loss: `nnce` with the focal loss in place of cross-entropy.

    Source: Ye et al., NeurIPS 2023.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        gamma: γ ≥ 0 of `focal`.
        p_min: in (0, 1/classes); the source clamps the probabilities at it.
        modulator_gradient: of `focal`.

    Returns:
        Shape [..., batch], in [0, 1].
    """
    return nnfl_of(log_softmax(logits), labels, gamma, p_min, modulator_gradient)


def nnfl_of(
    log_a: Tensor, labels: Tensor, gamma: Scalar, p_min: Scalar, modulator_gradient: Scalar
) -> Tensor:
    """`nnfl` as a function of the log-softmax `log_a` [..., batch, classes]."""
    log_min = _log(per_class(p_min), log_a)
    largest = -((-torch.expm1(log_min)) ** per_class(gamma)) * log_min
    below = largest - _focal_of_each(torch.maximum(log_a, log_min), gamma, modulator_gradient)
    return 1.0 - pick(below, labels) / below.sum(-1)


def _focal_of_each(log_a: Tensor, gamma: Scalar, modulator_gradient: Scalar) -> Tensor:
    return -modulator(log_a, per_class(gamma), per_class(modulator_gradient)) * log_a


def _log(value: Scalar, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(like).log()
    return like.new_full((), math.log(value))


P_MIN = Parameter("p_min", 1e-7, 1e-7, 1e-7, minimum=1e-30, maximum=0.499)
APL = "Ma et al. 2020, arXiv 2006.13554"
ANL = "Ye et al., NeurIPS 2023; Virusdoll/Active-Negative-Loss"

register(Loss("nce", nce, bounded=True, symmetric=True, searches_epsilon=True, reference=APL))
register(
    Loss(
        "nfl",
        nfl,
        (GAMMA, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
        presets=(DETACHED_MODULATOR,),
        exact=EXACT,
    )
)
register(
    Loss(
        "nnce",
        nnce,
        (P_MIN,),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=ANL,
    )
)
register(
    Loss(
        "nnfl",
        nnfl,
        (GAMMA, P_MIN, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=ANL,
        presets=(DETACHED_MODULATOR,),
        exact=EXACT,
    )
)
