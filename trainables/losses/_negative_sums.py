"""Sums of an active loss (NCE, NFL) and its negative counterpart (NNCE, NNFL).

Negative losses are passive losses built from active ones (Ye et al., NeurIPS 2023).
"""

from __future__ import annotations

from trainables.losses._common import Scalar, log_softmax
from trainables.losses._entropy import EXACT, GAMMA, MODULATOR_GRADIENT
from trainables.losses._normalised import ANL, P_MIN, nce_of, nfl_of, nnce_of, nnfl_of
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._sums import weighted_sum
from trainables.losses._torch import Tensor


def anl_ce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 5.0,
    beta: Scalar = 5.0,
    p_min: Scalar = 1e-7,
) -> Tensor:
    """Sum α NCE + β NNCE.

    The source adds δ‖θ‖₁ and no weight decay; δ is `weight_l1` of the presets.
    Source: Ye et al., NeurIPS 2023.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of NNCE.
        p_min: of `nnce`.

    Returns:
        Shape [..., batch], in [0, α + β].
    """
    log_a = log_softmax(logits)
    return weighted_sum(alpha, nce_of(log_a, labels), beta, nnce_of(log_a, labels, p_min))


def anl_fl(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 5.0,
    beta: Scalar = 5.0,
    gamma: Scalar = 0.5,
    p_min: Scalar = 1e-7,
    modulator_gradient: Scalar = 1.0,
) -> Tensor:
    """Sum α NFL + β NNFL.

    The source adds δ‖θ‖₁ and no weight decay; δ is `weight_l1` of the presets.
    Source: Ye et al., NeurIPS 2023.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NFL.
        beta: weight β ≥ 0 of NNFL.
        gamma: γ ≥ 0 of `focal`.
        p_min: of `nnce`.
        modulator_gradient: of `focal`.

    Returns:
        Shape [..., batch], in [0, α + β].
    """
    log_a = log_softmax(logits)
    active = nfl_of(log_a, labels, gamma, modulator_gradient)
    negative = nnfl_of(log_a, labels, gamma, p_min, modulator_gradient)
    return weighted_sum(alpha, active, beta, negative)


_ALPHA = Parameter("alpha", 5.0, 0.01, 100.0, log=True, minimum=0.0)
_BETA = Parameter("beta", 5.0, 0.01, 100.0, log=True, minimum=0.0)
_PRESETS = {
    "anl-mnist": (1.0, 1.0, 1e-6),
    "anl-cifar10": (5.0, 5.0, 5e-5),
    "anl-cifar100": (10.0, 1.0, 5e-7),
    "anl-webvision": (20.0, 1.0, 5e-6),
}
"""Preset → α, β, δ."""

register(
    Loss(
        "anl_ce",
        anl_ce,
        (_ALPHA, _BETA, P_MIN),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=ANL,
        presets=tuple(
            Preset(name, {"alpha": alpha, "beta": beta}, ANL, weight_l1=delta)
            for name, (alpha, beta, delta) in _PRESETS.items()
        ),
    )
)
register(
    Loss(
        "anl_fl",
        anl_fl,
        (_ALPHA, _BETA, GAMMA, P_MIN, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=ANL,
        presets=tuple(
            Preset(
                name,
                {"alpha": alpha, "beta": beta, "gamma": 0.5, "modulator_gradient": 0.0},
                ANL,
                weight_l1=delta,
            )
            for name, (alpha, beta, delta) in _PRESETS.items()
        ),
        exact=EXACT,
    )
)
