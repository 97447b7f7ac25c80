"""Sum of NCE and the asymmetric mean square error: the joint asymmetric loss (JAL).

The squared distance from a multiple a > 1 of the label's unit vector is asymmetric for large a
(Wang et al., ICCV 2025); a = 1 is the ordinary mean square error.
"""

from __future__ import annotations

from trainables.losses._absolute import ALPHA, BETA
from trainables.losses._common import Scalar, log_softmax, per_example, pick
from trainables.losses._normalised import nce_of
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._sums import weighted_sum
from trainables.losses._torch import Tensor


def nce_amse(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
    a: Scalar = 30.0,
) -> Tensor:
    """Sum α NCE + β AMSE, JAL-CE, with AMSE = mean_k (a_k − a · 1[k = y])².

    The sources add δ‖θ‖₁ on CIFAR; δ is `weight_l1` of the presets.
    Source: Wang et al., arXiv 2507.17692; the authors' code takes the mean over the classes.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        alpha: weight α ≥ 0 of NCE.
        beta: weight β ≥ 0 of AMSE.
        a: at least 1, the target of the labelled probability.

    Returns:
        Shape [..., batch], in [β (a − 1)² / classes, α + β (a² + 1) / classes].
    """
    log_a = log_softmax(logits)
    probabilities = log_a.exp()
    target = per_example(a)
    labelled = target * (target - 2.0 * pick(probabilities, labels))
    squares = (probabilities.square().sum(-1) + labelled) / logits.shape[-1]
    return weighted_sum(alpha, nce_of(log_a, labels), beta, squares)


_JAL = "Wang et al. 2025, arXiv 2507.17692; cswjl/joint-asymmetric-loss"
_PRESETS = {
    "jal-cifar10": (1.0, 1.0, 30.0, 5e-5),
    "jal-cifar100": (5.0, 1.0, 20.0, 5e-6),
    "jal-webvision": (50.0, 1.0, 30.0, 0.0),
    "jal-clothing1m": (5.0, 0.1, 5.0, 0.0),
}
"""Preset → α, β, a, δ."""

register(
    Loss(
        "nce_amse",
        nce_amse,
        (ALPHA, BETA, Parameter("a", 30.0, 1.0, 50.0, log=True, minimum=1.0)),
        bounded=True,
        searches_epsilon=True,
        reference=_JAL,
        presets=tuple(
            Preset(name, {"alpha": alpha, "beta": beta, "a": a}, _JAL, weight_l1=delta)
            for name, (alpha, beta, a, delta) in _PRESETS.items()
        ),
    )
)
