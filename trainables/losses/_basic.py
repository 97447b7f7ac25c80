"""Losses of the labelled class's probability p alone: CE, MAE, GCE."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.losses._common import log_probability, per_example
from trainables.losses._registry import Loss, Parameter, Scalar, register


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy −log p: logits [..., batch, classes], labels [..., batch] → [..., batch]."""
    return -log_probability(logits, labels)


def mae(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean absolute error 1 − p, half the L1 distance of e_y and the softmax (1712.09482).

    logits [..., batch, classes], labels [..., batch] → [..., batch], in [0, 1].
    """
    return -torch.expm1(log_probability(logits, labels))


def gce(logits: Tensor, labels: Tensor, *, q: Scalar = 0.7) -> Tensor:
    """Generalised cross-entropy (1 − p^q) / q (Zhang & Sabuncu, 1805.07836, eq. 6).

    `q` in (0, 1]: near 0 it is CE, at 1 MAE; the paper uses 0.7. logits [..., batch, classes],
    labels [..., batch] → [..., batch], in [0, 1/q].
    """
    q = per_example(q)
    return -torch.expm1(q * log_probability(logits, labels)) / q


register(Loss("ce", ce, reference="textbook"))
register(
    Loss(
        "mae",
        mae,
        bounded=True,
        symmetric=True,
        searches_epsilon=True,
        reference="Ghosh, Kumar & Sastry 2017, arXiv 1712.09482",
    )
)
register(
    Loss(
        "gce",
        gce,
        (Parameter("q", 0.7, 0.05, 1.0, minimum=1e-6, maximum=1.0),),
        bounded=True,
        searches_epsilon=True,
        reference="Zhang & Sabuncu 2018, arXiv 1805.07836",
    )
)
