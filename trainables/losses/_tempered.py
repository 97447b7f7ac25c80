"""The bi-tempered logistic loss (Amid et al., arXiv 1906.03361)."""

from __future__ import annotations

from trainables.losses._common import Scalar, as_tensor, log_softmax, per_class, per_example, pick
from trainables.losses._registry import Loss, Parameter, Preset, register
from trainables.losses._torch import Tensor, torch


def bi_tempered(
    logits: Tensor, labels: Tensor, *, t1: Scalar = 0.8, t2: Scalar = 1.2, iterations: Scalar = 5.0
) -> Tensor:
    """Bi-tempered logistic loss: −log_t1 p_y − (1 − Σ_k p_k^(2−t1)) / (2 − t1).

    p = exp_t2(z − λ) is the tempered softmax. λ has no closed form: as in google/bi-tempered-loss,
    a fixed-point iteration approximates it. The gradient is that of the exact λ, not that of the
    iteration. Source: Amid et al., arXiv 1906.03361, eq. 5.

    Args:
        logits: shape [..., batch, classes].
        labels: int64, shape [..., batch] or [batch].
        t1: in [0, 1); it bounds the loss.
        t2: at least 1; above 1 the softmax has a heavy tail, at 1 it is the usual softmax.
        iterations: number of fixed-point steps; of a tensor, the largest entry counts. The
            reference takes 5; very many classes need more to reach Σ_k p_k = 1.

    Returns:
        Shape [..., batch].
    """
    log_p = log_tempered_softmax(logits, t2, int(torch.as_tensor(iterations).max()))
    t1_example, t1_class = per_example(t1), per_class(t1)
    log_t1 = torch.expm1((1.0 - t1_example) * pick(log_p, labels)) / (1.0 - t1_example)
    mass = torch.exp((2.0 - t1_class) * log_p).sum(-1)
    return -log_t1 - (1.0 - mass) / (2.0 - t1_example)


def log_tempered_softmax(logits: Tensor, t2: Scalar, iterations: int = 5) -> Tensor:
    """Logarithm of the tempered softmax exp_t2(z − λ).

    Args:
        logits: shape [..., batch, classes].
        t2: at least 1, a number or a tensor of the member dimensions [...].
        iterations: number of fixed-point steps for λ. The probabilities sum to 1 up to the error
            that the iteration leaves.

    Returns:
        Shape [..., batch, classes].
    """
    t = as_tensor(per_class(t2), logits)
    everywhere, anywhere = _is_one(t2)
    if everywhere:
        return log_softmax(logits)
    s = torch.where(t == 1.0, torch.ones_like(t), t - 1.0)
    with torch.no_grad():
        top = logits.max(-1, keepdim=True).values
        start = logits - top
        scaled = start
        for _ in range(iterations):
            partition = _exp_t(scaled, s).sum(-1, keepdim=True)
            scaled = start * partition**-s
        partition = _exp_t(scaled, s).sum(-1, keepdim=True)
        normaliser = top + (partition**s - 1.0) / s  # −log_t(1 / partition)
        # dλ/dz is the escort distribution p^t / Σ p^t (1906.03361, eq. 9).
        escort = ((1.0 + s) * _log_exp_t(logits - normaliser, s)).softmax(-1)
    moving = (escort * (logits - logits.detach())).sum(-1, keepdim=True)
    log_p = _log_exp_t(logits - (normaliser + moving), s)
    return torch.where(t == 1.0, log_softmax(logits), log_p) if anywhere else log_p


def _is_one(t: Scalar) -> tuple[bool, bool]:
    """Whether t is 1 everywhere, and whether it may be 1 anywhere."""
    if not isinstance(t, Tensor):
        return t == 1.0, t == 1.0
    if t.device.type != "cpu":  # reading the values would make the host wait for the device
        return False, True
    return bool((t == 1.0).all()), bool((t == 1.0).any())


def _log_exp_t(x: Tensor, s: Tensor) -> Tensor:
    """Return log exp_t(x), t = 1 + s, for x ≤ 0."""
    return -torch.log1p(-s * x) / s


def _exp_t(x: Tensor, s: Tensor) -> Tensor:
    return _log_exp_t(x, s).exp()


_PAPER = "Amid et al. 2019, arXiv 1906.03361"

register(
    Loss(
        "bi_tempered",
        bi_tempered,
        (
            Parameter("t1", 0.8, 0.1, 0.95, minimum=0.0, maximum=0.999),
            Parameter("t2", 1.2, 1.0, 4.0, minimum=1.0),
            Parameter("iterations", 5.0, 5.0, 5.0, minimum=0.0),
        ),
        bounded=True,
        searches_epsilon=True,
        reference=_PAPER,
        presets=(Preset("common", {"t1": 0.8, "t2": 1.2}, "common default in later work"),),
        exact={"iterations": 100.0},
    )
)
