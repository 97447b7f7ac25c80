"""Cross-entropy and its relatives: label smoothing, focal, Taylor, PHuber, bounded."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.losses._common import Scalar, as_tensor, complement, log_softmax, per_example, pick
from trainables.losses._log_odds import of_probability
from trainables.losses._registry import Loss, Parameter, Preset, register

MAX_TAYLOR_ORDER = 20


@of_probability
def ce(log_p: Tensor) -> Tensor:
    """Cross-entropy −log p."""
    return -log_p


def label_smoothing(logits: Tensor, labels: Tensor, *, smoothing: Scalar = 0.1) -> Tensor:
    """Cross-entropy to the target (1 − smoothing) e_y + smoothing / c (Szegedy, 1512.00567).

    `smoothing` in [0, 1). logits [..., batch, classes], labels [..., batch] → [..., batch].
    """
    smoothing = per_example(smoothing)
    log_a = log_softmax(logits)
    return -(1.0 - smoothing) * pick(log_a, labels) - smoothing * log_a.mean(-1)


@of_probability
def focal(log_p: Tensor, *, gamma: Scalar = 0.5, modulator_gradient: Scalar = 1.0) -> Tensor:
    """Focal loss −(1 − p)^γ log p (Lin et al., 1708.02002, eq. 4).

    γ = `gamma` ≥ 0; the noisy-label literature uses 0.5. `modulator_gradient` = 1 is the formula's
    own gradient; 0 treats (1 − p)^γ as a constant weight, as the field's repositories do (same
    values, other gradients).
    """
    return -modulator(log_p, gamma, modulator_gradient) * log_p


def modulator(log_p: Tensor, gamma: Scalar, gradient: Scalar) -> Tensor:
    """Focal weight (1 − p)^γ whose gradient is multiplied by `gradient`."""
    weight = complement(log_p) ** gamma
    if not isinstance(gradient, Tensor) and gradient == 1.0:
        return weight
    fixed = weight.detach()
    return fixed + gradient * (weight - fixed)


@of_probability
def taylor_ce(log_p: Tensor, *, order: Scalar = 2.0) -> Tensor:
    """Taylor cross-entropy Σ_{i=1}^{t} (1 − p)^i / i (Feng et al., IJCAI 2020, eq. 6).

    t = `order` from 1 (MAE) to 20; CE is the limit. A fractional order interpolates linearly
    between its neighbours.
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
    """Partially Huberised CE (Menon et al., ICLR 2020): linear in p below 1/τ, CE above.

    τ = `tau` > 1; CIFAR-10 uses 2, CIFAR-100 10 or 50. In [0, 1 + log τ].
    """
    log_tau = torch.log(as_tensor(tau, log_p))
    linear = 1.0 + log_tau - tau * log_p.exp()
    return torch.where(log_p > -log_tau, -log_p, linear)


@of_probability
def bounded_ce(log_p: Tensor, *, bound: Callable[[Tensor], Tensor] = torch.tanh) -> Tensor:
    """Bounded cross-entropy tanh(−log p): our reading, not the paper's formula.

    The paper's boundCE (arXiv 2306.05497) is known to us by name and by one property, that its
    error δ_k vanishes as a_k → 0. tanh(CE) = (1 − p²) / (1 + p²) has it. Pass another `bound`, a
    bounded increasing function of the cross-entropy, where you know better. In [0, 1] for tanh.
    """
    return bound(-log_p)


_GAMMA = Parameter("gamma", 0.5, 0.0, 5.0, minimum=0.0)
MODULATOR_GRADIENT = Parameter("modulator_gradient", 1.0, 1.0, 1.0, minimum=0.0, maximum=1.0)
EXACT = {"modulator_gradient": 1.0}
REPOSITORIES = "HanxunH/Active-Passive-Losses, hitcszx/ALFs, Virusdoll/Active-Negative-Loss"

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
        (_GAMMA, MODULATOR_GRADIENT),
        reference="Lin et al. 2017, arXiv 1708.02002",
        presets=(Preset("repositories", {"gamma": 0.5, "modulator_gradient": 0.0}, REPOSITORIES),),
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
