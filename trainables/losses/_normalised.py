"""Normalised losses: NCE, NFL, and the negative losses NNCE, NNFL built from them.

A loss divided by its sum over all labels is symmetric and bounded (Ma et al., 2006.13554). Its
negative counterpart normalises how far the loss stays below its largest value
(Ye et al., NeurIPS 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.losses._common import Scalar, log_softmax, per_class, pick
from trainables.losses._entropy import EXACT, MODULATOR_GRADIENT, modulator
from trainables.losses._registry import Loss, Parameter, Preset, register


def nce(logits: Tensor, labels: Tensor) -> Tensor:
    """Normalised cross-entropy log p / Σ_k log a_k (Ma et al., 2006.13554, eq. 8).

    logits [..., batch, classes], labels [..., batch] → [..., batch], in [0, 1].
    """
    return nce_of(log_softmax(logits), labels)


def nce_of(log_a: Tensor, labels: Tensor) -> Tensor:
    """NCE as a function of the log-softmax."""
    return pick(log_a, labels) / log_a.sum(-1)


def nfl(
    logits: Tensor, labels: Tensor, *, gamma: Scalar = 0.5, modulator_gradient: Scalar = 1.0
) -> Tensor:
    """Normalised focal loss: focal / Σ_k focal_k (Ma et al., 2006.13554, eq. 10).

    γ = `gamma` ≥ 0; for `modulator_gradient` see `focal`. logits [..., batch, classes],
    labels [..., batch] → [..., batch], in [0, 1].
    """
    return nfl_of(log_softmax(logits), labels, gamma, modulator_gradient)


def nfl_of(log_a: Tensor, labels: Tensor, gamma: Scalar, modulator_gradient: Scalar) -> Tensor:
    """NFL as a function of the log-softmax."""
    values = _focal_of_each(log_a, gamma, modulator_gradient)
    return pick(values, labels) / values.sum(-1)


def nnce(logits: Tensor, labels: Tensor, *, p_min: Scalar = 1e-7) -> Tensor:
    """Normalised negative cross-entropy 1 − (A + log p) / Σ_k (A + log a_k), A = −log p_min.

    Ye et al., NeurIPS 2023, eq. 9. Probabilities are clamped at `p_min` in (0, 1), as the source
    defines; p_min must be below 1/classes. logits [..., batch, classes], labels [..., batch]
    → [..., batch], in [0, 1].
    """
    return nnce_of(log_softmax(logits), labels, p_min)


def nnce_of(log_a: Tensor, labels: Tensor, p_min: Scalar) -> Tensor:
    """NNCE as a function of the log-softmax."""
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
    """Normalised negative focal loss: NNCE with focal in the place of CE (Ye et al. 2023).

    γ = `gamma` ≥ 0, `p_min` in (0, 1) below 1/classes. logits [..., batch, classes],
    labels [..., batch] → [..., batch], in [0, 1].
    """
    return nnfl_of(log_softmax(logits), labels, gamma, p_min, modulator_gradient)


def nnfl_of(
    log_a: Tensor, labels: Tensor, gamma: Scalar, p_min: Scalar, modulator_gradient: Scalar
) -> Tensor:
    """NNFL as a function of the log-softmax."""
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


GAMMA = Parameter("gamma", 0.5, 0.0, 5.0, minimum=0.0)
P_MIN = Parameter("p_min", 1e-7, 1e-7, 1e-7, minimum=1e-30, maximum=0.499)
APL = "Ma et al. 2020, arXiv 2006.13554"
ANL = "Ye et al., NeurIPS 2023; Virusdoll/Active-Negative-Loss"
_REPOSITORIES = Preset(
    "repositories",
    {"gamma": 0.5, "modulator_gradient": 0.0},
    "HanxunH/Active-Passive-Losses, hitcszx/ALFs, Virusdoll/Active-Negative-Loss",
)

register(
    Loss(
        "nce",
        nce,
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
    )
)
register(
    Loss(
        "nfl",
        nfl,
        (GAMMA, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
        presets=(_REPOSITORIES,),
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
        presets=(_REPOSITORIES,),
        exact=EXACT,
    )
)
