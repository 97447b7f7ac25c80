"""Sums of two losses: active-passive, with asymmetric passive losses, and active-negative.

Active losses (NCE, NFL) raise the labelled probability, passive ones lower the others (Ma et al.,
2006.13554); negative losses (NNCE, NNFL) are passive losses built from active ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from trainables.losses._absolute import ALPHA, BETA, LOG_CLAMP, LOG_ZERO, mae, rce
from trainables.losses._asymmetric import (
    ALFS,
    ael,
    ael_parameter,
    agce,
    agce_parameters,
    aul,
    aul_parameters,
)
from trainables.losses._common import Scalar, log_softmax, per_example, pick
from trainables.losses._entropy import EXACT, MODULATOR_GRADIENT
from trainables.losses._normalised import (
    ANL,
    APL,
    GAMMA,
    P_MIN,
    nce_of,
    nfl_of,
    nnce_of,
    nnfl_of,
)
from trainables.losses._registry import Loss, Parameter, Preset, register


def _sum(alpha: Scalar, active: Tensor, beta: Scalar, passive: Tensor) -> Tensor:
    return per_example(alpha) * active + per_example(beta) * passive


def nce_mae(logits: Tensor, labels: Tensor, *, alpha: Scalar = 1.0, beta: Scalar = 1.0) -> Tensor:
    """Return α NCE + β MAE, MAE = 1 − p (2006.13554). α, β ≥ 0; shapes as in `nce`."""
    log_a = log_softmax(logits)
    return _sum(alpha, nce_of(log_a, labels), beta, mae.of_log_p(pick(log_a, labels)))


def nce_rce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    log_zero: Scalar = -4.0,
) -> Tensor:
    """Return α NCE + β RCE (2006.13554). α, β ≥ 0, `log_zero` as in `rce`; shapes as in `nce`."""
    log_a = log_softmax(logits)
    reverse = rce.of_log_p(pick(log_a, labels), log_zero=log_zero)
    return _sum(alpha, nce_of(log_a, labels), beta, reverse)


def nfl_mae(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    gamma: Scalar = 0.5,
    modulator_gradient: Scalar = 1.0,
) -> Tensor:
    """Return α NFL + β MAE, the paper's NF-MAE (2006.13554, 2306.05497). Shapes as in `nfl`."""
    log_a = log_softmax(logits)
    active = nfl_of(log_a, labels, gamma, modulator_gradient)
    return _sum(alpha, active, beta, mae.of_log_p(pick(log_a, labels)))


def nfl_rce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    gamma: Scalar = 0.5,
    log_zero: Scalar = -4.0,
    modulator_gradient: Scalar = 1.0,
) -> Tensor:
    """Return α NFL + β RCE (2006.13554). Parameters as in `nfl` and `rce`; shapes as in `nfl`."""
    log_a = log_softmax(logits)
    reverse = rce.of_log_p(pick(log_a, labels), log_zero=log_zero)
    return _sum(alpha, nfl_of(log_a, labels, gamma, modulator_gradient), beta, reverse)


def nce_agce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 6.0,
    q: Scalar = 1.5,
) -> Tensor:
    """Return α NCE + β AGCE (2106.03110). Parameters as in `agce`; shapes as in `nce`."""
    log_a = log_softmax(logits)
    return _sum(alpha, nce_of(log_a, labels), beta, agce.of_log_p(pick(log_a, labels), a=a, q=q))


def nce_aul(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 6.3,
    q: Scalar = 1.5,
) -> Tensor:
    """Return α NCE + β AUL (2106.03110). Parameters as in `aul`; shapes as in `nce`."""
    log_a = log_softmax(logits)
    return _sum(alpha, nce_of(log_a, labels), beta, aul.of_log_p(pick(log_a, labels), a=a, q=q))


def nce_ael(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 5.0,
) -> Tensor:
    """Return α NCE + β AEL (2106.03110). Parameters as in `ael`; shapes as in `nce`."""
    log_a = log_softmax(logits)
    return _sum(alpha, nce_of(log_a, labels), beta, ael.of_log_p(pick(log_a, labels), a=a))


def anl_ce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 5.0,
    beta: Scalar = 5.0,
    p_min: Scalar = 1e-7,
) -> Tensor:
    """Return α NCE + β NNCE (Ye et al., NeurIPS 2023). Shapes as in `nce`.

    The source adds δ‖θ‖₁ and no weight decay; δ is the presets' `weight_l1`.
    """
    log_a = log_softmax(logits)
    return _sum(alpha, nce_of(log_a, labels), beta, nnce_of(log_a, labels, p_min))


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
    """Return α NFL + β NNFL (Ye et al., NeurIPS 2023). Shapes as in `nfl`.

    The source adds δ‖θ‖₁ and no weight decay; δ is the presets' `weight_l1`.
    """
    log_a = log_softmax(logits)
    active = nfl_of(log_a, labels, gamma, modulator_gradient)
    negative = nnfl_of(log_a, labels, gamma, p_min, modulator_gradient)
    return _sum(alpha, active, beta, negative)


_BETA_4 = Parameter("beta", 4.0, 0.01, 100.0, log=True, minimum=0.0)
_ALPHA_5 = Parameter("alpha", 5.0, 0.01, 100.0, log=True, minimum=0.0)
_BETA_5 = Parameter("beta", 5.0, 0.01, 100.0, log=True, minimum=0.0)
_APL_CODE = f"{APL}; HanxunH/Active-Passive-Losses"
_EPS_SOFTMAX = "cswjl/eps-softmax"
_ANL_CODE = "Virusdoll/Active-Negative-Loss"


def _presets(
    table: Mapping[str, tuple[tuple[float, ...], str]], *names: str, **constants: float
) -> tuple[Preset, ...]:
    return tuple(
        Preset(name, dict(zip(names, values, strict=True)) | constants, source)
        for name, (values, source) in table.items()
    )


_RCE_TABLE = {
    "apl-cifar10": ((1.0, 1.0), _APL_CODE),
    "apl-cifar100": ((10.0, 0.1), _APL_CODE),
    "alfs-cifar100": ((10.0, 1.0), "hitcszx/ALFs"),
}
_NCE_RCE_TABLE = _RCE_TABLE | {
    "apl-webvision": ((50.0, 0.1), _APL_CODE),
    "eps-softmax-clothing1m": ((10.0, 1.0), _EPS_SOFTMAX),
}
_MAE_TABLE = {
    "apl-cifar10": ((1.0, 1.0), _APL_CODE),
    "apl-cifar100": ((10.0, 1.0), _APL_CODE),
}
_NCE_MAE_TABLE = _MAE_TABLE | {
    "alfs-mnist": ((1.0, 100.0), "hitcszx/ALFs"),
    "alfs-cifar100": ((10.0, 1.0), "hitcszx/ALFs"),
    "anl-cifar100": ((10.0, 0.1), _ANL_CODE),
    "eps-softmax-cifar100": ((10.0, 0.1), _EPS_SOFTMAX),
}
_ANL_TABLE = {
    "anl-mnist": (1.0, 1.0, 1e-6),
    "anl-cifar10": (5.0, 5.0, 5e-5),
    "anl-cifar100": (10.0, 1.0, 5e-7),
    "anl-webvision": (20.0, 1.0, 5e-6),
}

register(
    Loss(
        "nce_mae",
        nce_mae,
        (ALPHA, BETA),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
        presets=_presets(_NCE_MAE_TABLE, "alpha", "beta"),
    )
)
register(
    Loss(
        "nce_rce",
        nce_rce,
        (ALPHA, BETA, LOG_ZERO),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
        presets=_presets(
            _NCE_RCE_TABLE,
            "alpha",
            "beta",
            log_zero=LOG_CLAMP,
        ),
    )
)
register(
    Loss(
        "nfl_mae",
        nfl_mae,
        (ALPHA, BETA, GAMMA, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=f"{APL}; NF-MAE in arXiv 2306.05497",
        presets=_presets(
            _MAE_TABLE | {"apl-webvision": ((50.0, 1.0), _APL_CODE)},
            "alpha",
            "beta",
            gamma=0.5,
            modulator_gradient=0.0,
        ),
        exact=EXACT,
    )
)
register(
    Loss(
        "nfl_rce",
        nfl_rce,
        (ALPHA, BETA, GAMMA, LOG_ZERO, MODULATOR_GRADIENT),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=APL,
        presets=_presets(
            _RCE_TABLE,
            "alpha",
            "beta",
            gamma=0.5,
            log_zero=LOG_CLAMP,
            modulator_gradient=0.0,
        ),
        exact=EXACT,
    )
)
register(
    Loss(
        "nce_agce",
        nce_agce,
        (ALPHA, _BETA_4, *agce_parameters(6.0, 1.5)),
        bounded=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=_presets(
            {
                "alfs-mnist": ((0.0, 1.0, 4.0, 0.2), ALFS),
                "alfs-cifar10": ((1.0, 4.0, 6.0, 1.5), ALFS),
                "alfs-cifar100": ((10.0, 0.1, 1.8, 3.0), ALFS),
                "alfs-webvision": ((50.0, 0.1, 2.5, 3.0), ALFS),
            },
            "alpha",
            "beta",
            "a",
            "q",
        ),
    )
)
register(
    Loss(
        "nce_aul",
        nce_aul,
        (ALPHA, _BETA_4, *aul_parameters(6.3, 1.5)),
        bounded=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=_presets(
            {
                "alfs-mnist": ((0.0, 1.0, 3.0, 0.1), ALFS),
                "alfs-cifar10": ((1.0, 4.0, 6.3, 1.5), ALFS),
                "alfs-cifar100": ((10.0, 0.015, 6.0, 3.0), ALFS),
            },
            "alpha",
            "beta",
            "a",
            "q",
        ),
    )
)
register(
    Loss(
        "nce_ael",
        nce_ael,
        (ALPHA, _BETA_4, ael_parameter(5.0)),
        bounded=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=_presets(
            {
                "alfs-mnist": ((0.0, 1.0, 3.5), ALFS),
                "alfs-cifar10": ((1.0, 4.0, 5.0), ALFS),
                "alfs-cifar100": ((10.0, 0.1, 1.5), ALFS),
            },
            "alpha",
            "beta",
            "a",
        ),
    )
)
register(
    Loss(
        "anl_ce",
        anl_ce,
        (
            _ALPHA_5,
            _BETA_5,
            P_MIN,
        ),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=ANL,
        presets=tuple(
            Preset(name, {"alpha": alpha, "beta": beta}, ANL, weight_l1=delta)
            for name, (alpha, beta, delta) in _ANL_TABLE.items()
        ),
    )
)
register(
    Loss(
        "anl_fl",
        anl_fl,
        (
            _ALPHA_5,
            _BETA_5,
            GAMMA,
            P_MIN,
            MODULATOR_GRADIENT,
        ),
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
            for name, (alpha, beta, delta) in _ANL_TABLE.items()
        ),
        exact=EXACT,
    )
)
