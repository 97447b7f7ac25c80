"""Sums of an active loss (NCE, NFL) and a passive one (MAE, RCE, AGCE, AUL, AEL).

Active losses raise the labelled probability, passive losses lower the others (Ma et al.,
arXiv 2006.13554).
"""

from __future__ import annotations

from collections.abc import Mapping

from trainables.losses._absolute import (
    ALPHA,
    BETA,
    LOG_CLAMP,
    LOG_ZERO,
    REVERSE_CE,
    mae,
    rce,
)
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
from trainables.losses._entropy import EXACT, GAMMA, MODULATOR_GRADIENT
from trainables.losses._normalised import APL, nce_of, nfl_of
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor


def weighted_sum(alpha: Scalar, active: Tensor, beta: Scalar, passive: Tensor) -> Tensor:
    """Return α · active + β · passive.

    Args:
        alpha: α, a number or a tensor of the member dimensions [...].
        active: shape [..., batch].
        beta: β, likewise.
        passive: shape [..., batch].

    Returns:
        Shape [..., batch].
    """
    return per_example(alpha) * active + per_example(beta) * passive


def nce_mae(logits: Tensor, labels: Tensor, *, alpha: Scalar = 1.0, beta: Scalar = 1.0) -> Tensor:
    """Sum α NCE + β MAE with MAE = 1 − p.

    Source: Ma et al., arXiv 2006.13554.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of MAE.

    Returns:
        Shape [..., batch], in [0, α + β].
    """
    log_a = log_softmax(logits)
    return weighted_sum(alpha, nce_of(log_a, labels), beta, mae.of_log_p(pick(log_a, labels)))


def nce_rce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    log_zero: Scalar = -4.0,
) -> Tensor:
    """Sum α NCE + β RCE.

    Source: Ma et al., arXiv 2006.13554.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of RCE.
        log_zero: A < 0 of `rce`.

    Returns:
        Shape [..., batch], in [0, α − A β].
    """
    log_a = log_softmax(logits)
    reverse = rce.of_log_p(pick(log_a, labels), log_zero=log_zero)
    return weighted_sum(alpha, nce_of(log_a, labels), beta, reverse)


def nfl_mae(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    gamma: Scalar = 0.5,
    modulator_gradient: Scalar = 1.0,
) -> Tensor:
    """Sum α NFL + β MAE with MAE = 1 − p; NF-MAE in arXiv 2306.05497.

    Source: Ma et al., arXiv 2006.13554.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NFL.
        beta: weight β ≥ 0 of MAE.
        gamma: γ ≥ 0 of `focal`.
        modulator_gradient: of `focal`.

    Returns:
        Shape [..., batch], in [0, α + β].
    """
    log_a = log_softmax(logits)
    active = nfl_of(log_a, labels, gamma, modulator_gradient)
    return weighted_sum(alpha, active, beta, mae.of_log_p(pick(log_a, labels)))


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
    """Sum α NFL + β RCE.

    Source: Ma et al., arXiv 2006.13554.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NFL.
        beta: weight β ≥ 0 of RCE.
        gamma: γ ≥ 0 of `focal`.
        log_zero: A < 0 of `rce`.
        modulator_gradient: of `focal`.

    Returns:
        Shape [..., batch], in [0, α − A β].
    """
    log_a = log_softmax(logits)
    reverse = rce.of_log_p(pick(log_a, labels), log_zero=log_zero)
    return weighted_sum(alpha, nfl_of(log_a, labels, gamma, modulator_gradient), beta, reverse)


def nce_agce(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 6.0,
    q: Scalar = 1.5,
) -> Tensor:
    """Sum α NCE + β AGCE.

    Source: Zhou et al., arXiv 2106.03110.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of AGCE.
        a: of `agce`.
        q: of `agce`.

    Returns:
        Shape [..., batch], at least 0.
    """
    log_a = log_softmax(logits)
    return weighted_sum(
        alpha, nce_of(log_a, labels), beta, agce.of_log_p(pick(log_a, labels), a=a, q=q)
    )


def nce_aul(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 6.3,
    q: Scalar = 1.5,
) -> Tensor:
    """Sum α NCE + β AUL.

    Source: Zhou et al., arXiv 2106.03110.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of AUL.
        a: of `aul`.
        q: of `aul`.

    Returns:
        Shape [..., batch], at least 0.
    """
    log_a = log_softmax(logits)
    return weighted_sum(
        alpha, nce_of(log_a, labels), beta, aul.of_log_p(pick(log_a, labels), a=a, q=q)
    )


def nce_ael(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 4.0,
    a: Scalar = 5.0,
) -> Tensor:
    """Sum α NCE + β AEL.

    Source: Zhou et al., arXiv 2106.03110.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of AEL.
        a: of `ael`.

    Returns:
        Shape [..., batch], in [0, α + β].
    """
    log_a = log_softmax(logits)
    return weighted_sum(alpha, nce_of(log_a, labels), beta, ael.of_log_p(pick(log_a, labels), a=a))


_BETA_4 = Parameter("beta", 4.0, 0.01, 100.0, log=True, minimum=0.0)
_APL_CODE = f"{APL}; HanxunH/Active-Passive-Losses"
_EPS_SOFTMAX = "cswjl/eps-softmax"
_ALFS_CODE = "hitcszx/ALFs"
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
    "alfs-cifar100": ((10.0, 1.0), _ALFS_CODE),
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
    "alfs-mnist": ((1.0, 100.0), _ALFS_CODE),
    "alfs-cifar100": ((10.0, 1.0), _ALFS_CODE),
    "anl-cifar100": ((10.0, 0.1), _ANL_CODE),
    "eps-softmax-cifar100": ((10.0, 0.1), _EPS_SOFTMAX),
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
        presets=_presets(_NCE_RCE_TABLE, "alpha", "beta", log_zero=LOG_CLAMP),
        of_distribution=f"α NCE − β {REVERSE_CE.removeprefix('−')}",
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
        of_distribution=f"α NFL − β {REVERSE_CE.removeprefix('−')}",
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
