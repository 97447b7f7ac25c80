"""Asymmetric losses of Zhou et al.: AGCE, AUL, AEL (arXiv 2106.03110)."""

from __future__ import annotations

from trainables.losses._common import Scalar
from trainables.losses._log_odds import of_probability
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor, torch


@of_probability
def agce(log_p: Tensor, *, a: Scalar = 0.6, q: Scalar = 0.6) -> Tensor:
    """Asymmetric generalised cross-entropy: [(a + 1)^q − (a + p)^q] / q.

    Source: Zhou et al., arXiv 2106.03110, eq. 12.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        a: above 0.
        q: above 0; completely asymmetric where q ≥ 1.

    Returns:
        Shape [..., batch], in [0, ((a + 1)^q − a^q) / q].
    """
    return ((a + 1.0) ** q - (a + log_p.exp()) ** q) / q


@of_probability
def aul(log_p: Tensor, *, a: Scalar = 5.5, q: Scalar = 3.0) -> Tensor:
    """Asymmetric unhinged loss: [(a − p)^q − (a − 1)^q] / q.

    Source: Zhou et al., arXiv 2106.03110, eq. 13.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        a: above 1.
        q: above 0; completely asymmetric where q ≤ 1.

    Returns:
        Shape [..., batch], in [0, (a^q − (a − 1)^q) / q].
    """
    return ((a - log_p.exp()) ** q - (a - 1.0) ** q) / q


@of_probability
def ael(log_p: Tensor, *, a: Scalar = 2.5) -> Tensor:
    """Asymmetric exponential loss: exp(−p / a).

    Source: Zhou et al., arXiv 2106.03110, eq. 14.

    Args:
        log_p: log-probability of the labelled class, shape [..., batch].
        a: above 0.

    Returns:
        Shape [..., batch], in [e^(−1/a), 1].
    """
    return torch.exp(-log_p.exp() / a)


ALFS = "Zhou et al. 2021, arXiv 2106.03110; hitcszx/ALFs"


def agce_parameters(a: float, q: float) -> tuple[Parameter, Parameter]:
    """Parameters of AGCE.

    Args:
        a: default of a.
        q: default of q.

    Returns:
        The parameters a and q.
    """
    return (
        Parameter("a", a, 1e-5, 10.0, log=True, minimum=1e-8),
        Parameter("q", q, 0.1, 4.0, minimum=1e-3),
    )


def aul_parameters(a: float, q: float) -> tuple[Parameter, Parameter]:
    """Parameters of AUL.

    Args:
        a: default of a.
        q: default of q.

    Returns:
        The parameters a and q.
    """
    return (
        Parameter("a", a, 1.1, 10.0, log=True, minimum=1.001),
        Parameter("q", q, 0.1, 4.0, minimum=1e-3),
    )


def ael_parameter(a: float) -> Parameter:
    """The parameter of AEL.

    Args:
        a: default of a.

    Returns:
        The parameter a.
    """
    return Parameter("a", a, 0.5, 10.0, log=True, minimum=1e-2)


register(
    Loss(
        "agce",
        agce,
        agce_parameters(0.6, 0.6),
        bounded=True,
        asymmetric=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=(
            Preset("alfs-mnist", {"a": 4.0, "q": 0.2}, ALFS),
            Preset("alfs-cifar10", {"a": 0.6, "q": 0.6}, ALFS),
            Preset("alfs-cifar100", {"a": 0.6, "q": 0.6}, ALFS),
            Preset("alfs-webvision", {"a": 1e-5, "q": 0.5}, ALFS),
        ),
    )
)
register(
    Loss(
        "aul",
        aul,
        aul_parameters(5.5, 3.0),
        bounded=True,
        asymmetric=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=(
            Preset("alfs-mnist", {"a": 3.0, "q": 0.1}, ALFS),
            Preset("alfs-cifar10", {"a": 5.5, "q": 3.0}, ALFS),
            Preset("alfs-cifar100", {"a": 5.5, "q": 3.0}, ALFS),
        ),
    )
)
register(
    Loss(
        "ael",
        ael,
        (ael_parameter(2.5),),
        bounded=True,
        asymmetric=True,
        searches_epsilon=True,
        reference=ALFS,
        presets=(
            Preset("alfs-mnist", {"a": 3.5}, ALFS),
            Preset("alfs-cifar10", {"a": 2.5}, ALFS),
            Preset("alfs-cifar100", {"a": 2.5}, ALFS),
        ),
    )
)
