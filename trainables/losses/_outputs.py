"""Losses that change the network's output first: ε-softmax, logit clipping, LDR-KL."""

from __future__ import annotations

import math

from trainables.losses._common import Scalar, as_tensor, log_softmax, per_class, per_example, pick
from trainables.losses._entropy import ce
from trainables.losses._log_odds import log_sigmoid
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor, torch


def eps_softmax(logits: Tensor, labels: Tensor, *, m: Scalar = 1e4, p_min: Scalar = 1e-8) -> Tensor:
    """Cross-entropy of the ε-softmax, (a + m e_argmax) / (m + 1).

    Source: Wang et al., NeurIPS 2024, eq. 3.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        m: at least 0, added to the largest probability.
        p_min: in (0, 0.5]; the authors' code clamps the result at it, which bounds the loss.

    Returns:
        Shape [..., batch], in [0, −log p_min].
    """
    return _eps_softmax_of(log_softmax(logits), labels, m, p_min)


def _eps_softmax_of(log_a: Tensor, labels: Tensor, m: Scalar, p_min: Scalar) -> Tensor:
    m = as_tensor(per_example(m), log_a)
    p_min = as_tensor(per_example(p_min), log_a)
    log_p = pick(log_a, labels)
    value = torch.where(
        log_a.argmax(-1) == labels,
        -torch.log1p(torch.expm1(log_p) / (m + 1.0)),
        torch.log1p(m) - log_p,
    )
    return torch.minimum(value, -p_min.log())


def eps_softmax_mae(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 0.01,
    beta: Scalar = 10.0,
    m: Scalar = 1e5,
    p_min: Scalar = 1e-8,
) -> Tensor:
    """Sum α CE_ε + β MAE, where CE_ε is `eps_softmax` and MAE = 1 − p.

    Source: Wang et al., NeurIPS 2024, where MAE is 2 − 2p: the β of the paper is half of this one.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of CE_ε.
        beta: weight β ≥ 0 of MAE.
        m: of `eps_softmax`.
        p_min: of `eps_softmax`.

    Returns:
        Shape [..., batch], in [0, −α log p_min + β].
    """
    log_a = log_softmax(logits)
    entropy = _eps_softmax_of(log_a, labels, m, p_min)
    return per_example(alpha) * entropy - per_example(beta) * torch.expm1(pick(log_a, labels))


def logit_clip(
    logits: Tensor, labels: Tensor, *, delta: Scalar = 1.0, threshold_ratio: Scalar = 1.0
) -> Tensor:
    """Cross-entropy of logits with a clipped norm: where ‖z‖₂ > threshold, z becomes δ z / ‖z‖₂.

    A logit bias is added before the clipping. Source: Wei et al., arXiv 2212.04055, eq. 4.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        delta: δ > 0.
        threshold_ratio: threshold / δ. It is 1 in the paper; the repositories compare the norm
            with a value other than δ.

    Returns:
        Shape [..., batch], at least 0.
    """
    delta = per_class(delta)
    norm = torch.linalg.vector_norm(logits, dim=-1, keepdim=True)
    clipped = logits * (delta / norm.clamp_min(torch.finfo(logits.dtype).tiny))
    return ce(torch.where(norm > delta * per_class(threshold_ratio), clipped, logits), labels)


def ldr_kl(
    logits: Tensor, labels: Tensor, *, temperature: Scalar = 1.0, margin: Scalar = 0.1
) -> Tensor:
    """LDR-KL loss: λ log mean_k exp((s_k − s_y + μ 1[k≠y]) / λ).

    s = softplus(z) / mean_k softplus(z_k) are normalised scores. Source: Zhu et al., ICML 2023.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        temperature: λ > 0; 10 for CIFAR-10, 1 for CIFAR-100.
        margin: μ ≥ 0.

    Returns:
        Shape [..., batch].
    """
    temperature, margin = per_class(temperature), per_class(margin)
    scores = logits.shape[-1] * _log_softplus(logits).softmax(-1)
    index = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    ahead = (scores - scores.gather(-1, index) + margin) / temperature
    ahead = ahead.scatter(-1, index, 0.0)
    value = ahead.logsumexp(-1, keepdim=True) - math.log(logits.shape[-1])
    return (temperature * value).squeeze(-1)


def _log_softplus(x: Tensor) -> Tensor:
    """Return log(log(1 + e^x)); where e^x underflows, this is x."""
    inner = log_sigmoid(-x.clamp_min(-20.0)).neg().log()
    return torch.where(x > -20.0, inner, x)


_EPS = "Wang et al., NeurIPS 2024; cswjl/eps-softmax"
_CLIP = "Wei et al. 2023, arXiv 2212.04055"
_LDR = "Zhu et al., ICML 2023"
_M = Parameter("m", 1e4, 1e1, 1e6, log=True, minimum=0.0)
_P_MIN = Parameter("p_min", 1e-8, 1e-8, 1e-8, minimum=1e-30, maximum=0.5)


def _eps_preset(name: str, alpha: float, beta: float, m: float, source: str = _EPS) -> Preset:
    return Preset(f"eps-softmax-{name}", {"alpha": alpha, "beta": 2.0 * beta, "m": m}, source)


register(
    Loss(
        "eps_softmax",
        eps_softmax,
        (_M, _P_MIN),
        bounded=True,
        searches_epsilon=True,
        reference=_EPS,
    )
)
register(
    Loss(
        "eps_softmax_mae",
        eps_softmax_mae,
        (
            Parameter("alpha", 0.01, 1e-3, 1.0, log=True, minimum=0.0),
            Parameter("beta", 10.0, 0.1, 100.0, log=True, minimum=0.0),
            Parameter("m", 1e5, 1e1, 1e6, log=True, minimum=0.0),
            _P_MIN,
        ),
        bounded=True,
        searches_epsilon=True,
        reference=_EPS,
        presets=(
            _eps_preset("cifar10-symmetric", 0.01, 5.0, 1e5),
            _eps_preset("cifar10-asymmetric", 0.02, 5.0, 1e3),
            _eps_preset("cifar100-symmetric0", 0.1, 1.0, 1e4),
            _eps_preset("cifar100-symmetric20", 0.05, 1.0, 1e4),
            _eps_preset("cifar100-symmetric40", 0.03, 1.0, 1e4),
            _eps_preset("cifar100-symmetric60", 0.0125, 1.0, 1e4, "Wang et al., NeurIPS 2024"),
            _eps_preset("cifar100-symmetric60-code", 0.00125, 1.0, 1e4, "cswjl/eps-softmax"),
            _eps_preset("cifar100-symmetric80", 0.0075, 1.0, 1e4),
            _eps_preset("cifar100-asymmetric10", 0.015, 1.0, 1e2, "cswjl/eps-softmax"),
            _eps_preset("cifar100-asymmetric20", 0.007, 1.0, 1e2, "cswjl/eps-softmax"),
            _eps_preset("cifar100-asymmetric30", 0.005, 1.0, 1e2, "cswjl/eps-softmax"),
            _eps_preset("cifar100-asymmetric40", 0.004, 1.0, 1e2, "cswjl/eps-softmax"),
            _eps_preset("webvision", 0.015, 0.3, 1e3),
        ),
    )
)
register(
    Loss(
        "logit_clip",
        logit_clip,
        (
            Parameter("delta", 1.0, 0.1, 10.0, log=True, minimum=1e-6),
            Parameter("threshold_ratio", 1.0, 1.0, 1.0, minimum=0.0),
        ),
        bounded=True,
        searches_epsilon=True,
        reference=_CLIP,
        presets=tuple(
            Preset(
                f"eps-softmax-{name}",
                {"delta": delta, "threshold_ratio": 1.0 / delta**2},
                "cswjl/eps-softmax: threshold 1/δ, rescaled to δ",
            )
            for name, delta in {
                "cifar10-symmetric20": 1.0,
                "cifar10-symmetric60": 1.5,
                "cifar10-asymmetric": 2.5,
                "cifar100-symmetric": 0.5,
                "cifar100-asymmetric": 2.5,
            }.items()
        ),
    )
)
register(
    Loss(
        "ldr_kl",
        ldr_kl,
        (
            Parameter("temperature", 1.0, 0.1, 100.0, log=True, minimum=1e-3),
            Parameter("margin", 0.1, 0.1, 0.1, minimum=0.0),
        ),
        bounded=True,
        searches_epsilon=True,
        reference=_LDR,
        presets=(
            Preset("eps-softmax-cifar10", {"temperature": 10.0}, "cswjl/eps-softmax"),
            Preset("eps-softmax-cifar100", {"temperature": 1.0}, "cswjl/eps-softmax"),
        ),
    )
)
