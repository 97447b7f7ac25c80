"""Cross-entropy and its relatives: label smoothing, focal, Taylor, PHuber, bounded."""

from __future__ import annotations

import math
from collections.abc import Callable

from trainables.losses._common import Scalar, as_tensor, complement, log_softmax, per_example, pick
from trainables.losses._log_odds import of_probability
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor, torch

MAX_TAYLOR_ORDER = 20


@of_probability
def ce(log_p: Tensor) -> Tensor:
    """Cross-entropy: −log p.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].

    Returns:
        Shape [..., batch], at least 0.
    """
    return -log_p


def label_smoothing(logits: Tensor, labels: Tensor, *, smoothing: Scalar = 0.1) -> Tensor:
    """Cross-entropy to the target (1 − s) e_y + s / c.

    Source: Szegedy et al., arXiv 1512.00567.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        smoothing: s in [0, 1).

    Returns:
        Shape [..., batch], at least 0.
    """
    smoothing = per_example(smoothing)
    log_a = log_softmax(logits)
    return -(1.0 - smoothing) * pick(log_a, labels) - smoothing * log_a.mean(-1)


@of_probability
def focal(log_p: Tensor, *, gamma: Scalar = 0.5, modulator_gradient: Scalar = 1.0) -> Tensor:
    """Focal loss: −(1 − p)^γ log p.

    Source: Lin et al., arXiv 1708.02002, eq. 4.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        gamma: γ ≥ 0; the noisy-label literature uses 0.5.
        modulator_gradient: 1 gives the derivative of the formula. 0 treats (1 − p)^γ as a constant
            weight, as the repositories do: the values are the same, the gradients are not.

    Returns:
        Shape [..., batch], at least 0.
    """
    return -modulator(log_p, gamma, modulator_gradient) * log_p


def modulator(log_p: Tensor, gamma: Scalar, gradient: Scalar) -> Tensor:
    """Focal weight (1 − p)^γ.

    Args:
        log_p: logarithm of p, any shape.
        gamma: γ ≥ 0, broadcast against `log_p`.
        gradient: factor of the weight's gradient, broadcast against `log_p`.

    Returns:
        The shape of `log_p`, in [0, 1].
    """
    weight = complement(log_p) ** gamma
    if not isinstance(gradient, Tensor) and gradient == 1.0:
        return weight
    fixed = weight.detach()
    return fixed + gradient * (weight - fixed)


@of_probability
def taylor_ce(log_p: Tensor, *, order: Scalar = 2.0) -> Tensor:
    """Taylor cross-entropy: Σ_{i=1}^{t} (1 − p)^i / i.

    Source: Feng et al., IJCAI 2020, eq. 6.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        order: t from 1 (MAE) to 20; CE is the limit. A fractional order interpolates linearly
            between its neighbours.

    Returns:
        Shape [..., batch], in [0, Σ_{i=1}^{t} 1 / i].
    """
    q = -torch.expm1(log_p)
    last = MAX_TAYLOR_ORDER if isinstance(order, Tensor) else math.ceil(order)
    total, power = torch.zeros_like(q), torch.ones_like(q)
    for i in range(1, last + 1):
        share = order - (i - 1)
        share = share.clamp(0, 1) if isinstance(share, Tensor) else min(share, 1.0)
        power = power * q
        total = total + share * power / i
    return total


@of_probability
def phuber_ce(log_p: Tensor, *, tau: Scalar = 10.0) -> Tensor:
    """Partially Huberised cross-entropy: linear in p below 1/τ, CE above.

    Source: Menon et al., ICLR 2020.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        tau: τ > 1; 2 for CIFAR-10, 10 or 50 for CIFAR-100.

    Returns:
        Shape [..., batch], in [0, 1 + log τ].
    """
    log_tau = torch.log(as_tensor(tau, log_p))
    linear = 1.0 + log_tau - tau * log_p.exp()
    return torch.where(log_p > -log_tau, -log_p, linear)


@of_probability
def bounded_ce(log_p: Tensor, *, bound: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Bounded cross-entropy tanh(−log p): our reading, not the paper's formula.

    We know only the name of boundCE (arXiv 2306.05497) and one property: its error δ_k vanishes as
    a_k → 0. tanh(CE) = (1 − p²) / (1 + p²) has this property.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        bound: a bounded increasing function of the cross-entropy; tanh where None.

    Returns:
        Shape [..., batch], in [0, 1] for tanh.
    """
    return torch.tanh(-log_p) if bound is None else bound(-log_p)


GAMMA = Parameter("gamma", 0.5, 0.0, 5.0, minimum=0.0)
MODULATOR_GRADIENT = Parameter("modulator_gradient", 1.0, 1.0, 1.0, minimum=0.0, maximum=1.0)
EXACT = {"modulator_gradient": 1.0}
DETACHED_MODULATOR = Preset(
    "repositories",
    {"gamma": 0.5, "modulator_gradient": 0.0},
    "HanxunH/Active-Passive-Losses, hitcszx/ALFs, Virusdoll/Active-Negative-Loss",
)

register(Loss("ce", ce, reference="textbook"))
register(
    Loss(
        "label_smoothing",
        label_smoothing,
        (Parameter("smoothing", 0.1, 0.0, 0.9, minimum=0.0, maximum=0.999),),
        reference="Szegedy et al. 2016, arXiv 1512.00567",
    )
)
register(
    Loss(
        "focal",
        focal,
        (GAMMA, MODULATOR_GRADIENT),
        reference="Lin et al. 2017, arXiv 1708.02002",
        presets=(DETACHED_MODULATOR,),
        exact=EXACT,
    )
)
register(
    Loss(
        "taylor_ce",
        taylor_ce,
        (Parameter("order", 2.0, 1.0, 8.0, minimum=1.0, maximum=MAX_TAYLOR_ORDER),),
        bounded=True,
        searches_epsilon=True,
        reference="Feng et al., IJCAI 2020",
        presets=(Preset("ou-cifar100", {"order": 6.0}, "Ou & Zhang 2023, arXiv 2305.02139"),),
    )
)
register(
    Loss(
        "phuber_ce",
        phuber_ce,
        (Parameter("tau", 10.0, 1.5, 100.0, log=True, minimum=1.001),),
        bounded=True,
        searches_epsilon=True,
        reference="Menon et al., ICLR 2020",
        presets=(
            Preset("phuber-cifar10", {"tau": 2.0}, "Menon et al. 2020"),
            Preset("phuber-cifar100", {"tau": 10.0}, "Menon et al. 2020"),
            Preset("phuber-cifar100-clean", {"tau": 50.0}, "dmizr/phuber"),
        ),
    )
)
register(
    Loss(
        "bounded_ce",
        bounded_ce,
        bounded=True,
        searches_epsilon=True,
        reference="our reading of boundCE, arXiv 2306.05497",
    )
)
