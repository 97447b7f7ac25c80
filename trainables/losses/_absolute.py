"""Losses between MAE and cross-entropy: MAE, RCE, SCE, GCE, JS, unhinged and their mixtures."""

from __future__ import annotations

import math

from trainables.losses._common import Scalar, as_tensor, log_softmax, per_class, per_example, pick
from trainables.losses._log_odds import of_probability
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor, torch

REVERSE_CE = "−Σ_k a_k log t_k, log 0 = A"
"""RCE of a label distribution t: not linear in t."""

LOG_CLAMP = math.log(1e-4)
"""A = log 0 in the authors' repositories, which clamp e_y at 1e-4."""


@of_probability
def mae(log_p: Tensor, *, scale: Scalar = 1.0) -> Tensor:
    """Mean absolute error: scale · (1 − p).

    Source: Ghosh, Kumar & Sastry, arXiv 1712.09482.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        scale: at least 0; the L1 distance between e_y and the softmax is scale = 2.

    Returns:
        Shape [..., batch], in [0, scale].
    """
    return -torch.expm1(log_p) * scale


@of_probability
def rce(log_p: Tensor, *, log_zero: Scalar = -4.0) -> Tensor:
    """Reverse cross-entropy: −Σ_k a_k log e_yk = −A (1 − p).

    Source: Wang et al., arXiv 1908.06112, eq. 6.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        log_zero: A < 0, the value used for log 0: −4 in the paper, log 1e-4 = −9.21 in the
            repositories.

    Returns:
        Shape [..., batch], in [0, −A].
    """
    return torch.expm1(log_p) * log_zero


@of_probability
def sce(
    log_p: Tensor, *, alpha: Scalar = 0.1, beta: Scalar = 1.0, log_zero: Scalar = -4.0
) -> Tensor:
    """Symmetric cross-entropy: α CE + β RCE.

    Source: Wang et al., arXiv 1908.06112, eq. 7.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        alpha: weight α ≥ 0 of CE.
        beta: weight β ≥ 0 of RCE.
        log_zero: A < 0 of `rce`.

    Returns:
        Shape [..., batch], at least 0.
    """
    reverse = torch.expm1(log_p) * log_zero
    return beta * reverse - alpha * log_p


@of_probability
def gce(log_p: Tensor, *, q: Scalar = 0.7) -> Tensor:
    """Generalised cross-entropy: (1 − p^q) / q.

    Source: Zhang & Sabuncu, arXiv 1805.07836, eq. 6.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        q: in (0, 1]; CE in the limit 0, MAE at 1, 0.7 in the paper.

    Returns:
        Shape [..., batch], in [0, 1/q].
    """
    return -torch.expm1(q * log_p) / q


@of_probability
def truncated_gce(log_p: Tensor, *, q: Scalar = 0.7, k: Scalar = 0.5) -> Tensor:
    """Truncated GCE: GCE where p > k, and the constant (1 − k^q) / q elsewhere.

    Where the initial p is below k there is no gradient, so nothing is learnt without a warm-up on
    GCE or a logit bias. Source: Zhang & Sabuncu, arXiv 1805.07836, eq. 9.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        q: in (0, 1].
        k: in (0, 1).

    Returns:
        Shape [..., batch], in [0, (1 − k^q) / q].
    """
    log_k = torch.log(as_tensor(k, log_p))
    return -torch.expm1(q * torch.where(log_p > log_k, log_p, log_k)) / q


@of_probability
def js(log_p: Tensor, *, weight: Scalar = 0.5) -> Tensor:
    """Weighted Jensen–Shannon divergence, scaled: JS_π(e_y, a) / (−(1 − π) log(1 − π)).

    Source: Englesson & Azizpour, arXiv 2105.04522, eq. 3.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        weight: π in (0, 1); CE in the limit 0, MAE in the limit 1.

    Returns:
        Shape [..., batch], at least 0.
    """
    pi, p, q = weight, log_p.exp(), -torch.expm1(log_p)
    log_rest = torch.log1p(-as_tensor(pi, log_p))
    log_mixture = torch.log1p(-(1.0 - pi) * q)  # log(π + (1 − π) p)
    divergence = (1.0 - pi) * (p * (log_p - log_mixture) - q * log_rest) - pi * log_mixture
    return divergence / (-(1.0 - pi) * log_rest)


def unhinged(logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-class unhinged loss: mean_k z_k − z_y, which is CE minus its mean over the classes.

    Convex, symmetric and unbounded. Its gradient is independent of the logits, so a logit bias has
    no effect. Source: Lemire Paquin et al., arXiv 2605.20347.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].

    Returns:
        Shape [..., batch].
    """
    return logits.mean(-1) - pick(logits, labels)


def alpha_mae(logits: Tensor, labels: Tensor, *, alpha: Scalar = 0.5) -> Tensor:
    """Mixture α MAE + (1 − α) unhinged: our reading of α-MAE; we know only its abstract.

    Source: Lemire Paquin et al., arXiv 2605.20347.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: α in [0, 1].

    Returns:
        Shape [..., batch].
    """
    alpha = per_example(alpha)
    return alpha * mae(logits, labels) + (1.0 - alpha) * unhinged(logits, labels)


def sgce(logits: Tensor, labels: Tensor, *, q: Scalar = 0.7) -> Tensor:
    """Symmetrised GCE: (mean_k a_k^q − p^q) / q, which is GCE minus its mean over the classes.

    Source: Lemire Paquin et al., arXiv 2605.20347.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        q: in (0, 1]; the unhinged loss in the limit 0, MAE − 1 + 1/c at 1.

    Returns:
        Shape [..., batch], in [−1/q, 1/q].
    """
    powers = torch.expm1(per_class(q) * log_softmax(logits))
    return (powers.mean(-1) - pick(powers, labels)) / per_example(q)


Q = Parameter("q", 0.7, 0.05, 1.0, minimum=1e-6, maximum=1.0)
LOG_ZERO = Parameter("log_zero", -4.0, -4.0, -4.0, maximum=0.0)
ALPHA = Parameter("alpha", 1.0, 0.01, 100.0, log=True, minimum=0.0)
BETA = Parameter("beta", 1.0, 0.01, 100.0, log=True, minimum=0.0)
_GCE = "Zhang & Sabuncu 2018, arXiv 1805.07836"
_SCE = "Wang et al. 2019, arXiv 1908.06112"
_JS = "Englesson & Azizpour 2021, arXiv 2105.04522"
_SYMMETRIZATION = "Lemire Paquin et al. 2026, arXiv 2605.20347"
_EPS_SOFTMAX = "cswjl/eps-softmax"

register(
    Loss(
        "mae",
        mae,
        (Parameter("scale", 1.0, 1.0, 1.0, minimum=0.0),),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference="Ghosh, Kumar & Sastry 2017, arXiv 1712.09482",
        presets=(
            Preset("alfs", {"scale": 2.0}, "hitcszx/ALFs"),
            Preset("eps-softmax", {"scale": 2.0}, _EPS_SOFTMAX),
        ),
    )
)
register(
    Loss(
        "rce",
        rce,
        (LOG_ZERO,),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=_SCE,
        presets=(
            Preset(
                "repositories",
                {"log_zero": LOG_CLAMP},
                "HanxunH/Active-Passive-Losses, hitcszx/ALFs, Virusdoll/Active-Negative-Loss",
            ),
        ),
        of_distribution=REVERSE_CE,
    )
)
register(
    Loss(
        "sce",
        sce,
        (
            Parameter("alpha", 0.1, 0.01, 10.0, log=True, minimum=0.0),
            Parameter("beta", 1.0, 0.01, 10.0, log=True, minimum=0.0),
            LOG_ZERO,
        ),
        reference=_SCE,
        presets=(
            Preset("sce-cifar10", {"alpha": 0.1, "beta": 1.0}, _SCE),
            Preset("sce-cifar100", {"alpha": 6.0, "beta": 0.1}, _SCE),
            Preset(
                "apl-cifar10",
                {"alpha": 0.1, "beta": 1.0, "log_zero": LOG_CLAMP},
                "HanxunH/Active-Passive-Losses",
            ),
            Preset(
                "apl-cifar100",
                {"alpha": 6.0, "beta": 0.1, "log_zero": LOG_CLAMP},
                "HanxunH/Active-Passive-Losses",
            ),
            Preset("alfs", {"alpha": 1.0, "beta": 1.0, "log_zero": LOG_CLAMP}, "hitcszx/ALFs"),
            Preset(
                "eps-softmax-webvision",
                {"alpha": 10.0, "beta": 1.0, "log_zero": LOG_CLAMP},
                _EPS_SOFTMAX,
            ),
        ),
        of_distribution=f"α CE − β {REVERSE_CE.removeprefix('−')}",
    )
)
register(
    Loss(
        "gce",
        gce,
        (Q,),
        bounded=True,
        searches_epsilon=True,
        reference=_GCE,
        presets=(
            Preset("gce", {"q": 0.7}, _GCE),
            Preset("eps-softmax-clothing1m", {"q": 0.6}, _EPS_SOFTMAX),
        ),
    )
)
register(
    Loss(
        "truncated_gce",
        truncated_gce,
        (Q, Parameter("k", 0.5, 0.05, 0.9, minimum=1e-6, maximum=0.999)),
        bounded=True,
        searches_epsilon=True,
        reference=_GCE,
        presets=(Preset("gce", {"q": 0.7, "k": 0.5}, _GCE),),
    )
)
register(
    Loss(
        "js",
        js,
        (Parameter("weight", 0.5, 0.05, 0.95, minimum=1e-4, maximum=0.9999),),
        bounded=True,
        searches_epsilon=True,
        reference=_JS,
        presets=tuple(
            Preset(f"gjs-{data}-symmetric{rate}", {"weight": weight}, _JS)
            for data, weights in {
                "cifar10": (0.1, 0.7, 0.7, 0.9, 0.9),
                "cifar100": (0.1, 0.1, 0.3, 0.5, 0.3),
            }.items()
            for rate, weight in zip((0, 20, 40, 60, 80), weights, strict=True)
        ),
        of_distribution="JS_π(t, a) / (−(1 − π) log(1 − π))",
    )
)
register(Loss("unhinged", unhinged, symmetric=True, reference=_SYMMETRIZATION))
register(
    Loss(
        "alpha_mae",
        alpha_mae,
        (Parameter("alpha", 0.5, 0.0, 1.0, minimum=0.0, maximum=1.0),),
        symmetric=True,
        reference=f"our reading of {_SYMMETRIZATION}",
    )
)
register(
    Loss(
        "sgce",
        sgce,
        (Q,),
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference=_SYMMETRIZATION,
    )
)
