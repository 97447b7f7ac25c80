"""Mean initial error of losses that see more than the labelled probability, by sampling.

NCE and its sums, bi-tempered, LDR-KL and users' own losses have no closed δ_k. Here autograd
computes it at random logits. Three things keep the sample small: the labelled logit z_k is
integrated by quadrature, not sampled; features of the labelled probability, whose means are known
exactly, serve as control variates; and the draws are the same for all parameter values, so that
a root in the parameter is a smooth one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit, log_expit

from trainables import losses
from trainables.theory_logits import GaussianLogits, MeasuredLogits

_NODES = 20  # of the labelled logit
_CHUNK = 1_000_000  # logits at a time
_SAMPLES = 200_000  # of the other logits' sum, at most


def mean_error(
    loss: str,
    logits: GaussianLogits | MeasuredLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """E[δ_k] of a registered loss at initialisation, and its standard error.

    Raises ValueError for an unknown loss or parameter.
    """
    found = losses.get(loss)
    settings = found.check(**(params or {}))
    if isinstance(logits, MeasuredLogits):
        return _measured(found, logits, epsilon, seed, settings)
    return _gaussian(found, logits, epsilon, seed, settings)


def _gaussian(
    loss: losses.Loss, logits: GaussianLogits, epsilon: float, seed: int, params: dict[str, float]
) -> tuple[float, float]:
    classes, sigma = logits.classes, logits.sigma
    nodes, weights = hermegauss(_NODES)
    weights = weights / weights.sum()
    samples = min(_SAMPLES, max(32, _CHUNK // (_NODES * classes)))
    rows = max(1, _CHUNK // (_NODES * classes))
    generator = torch.Generator().manual_seed(seed)
    errors, features = [], []
    for start in range(0, samples, rows):
        count = min(rows, samples - start)
        others = torch.randn(count, classes - 1, generator=generator, dtype=torch.float64) * sigma
        z = torch.empty(_NODES, count, classes, dtype=torch.float64)
        z[..., 0] = sigma * torch.from_numpy(nodes)[:, None]
        z[..., 1:] = others
        errors.append(weights @ _labelled_error(loss, z, epsilon, params))
        delta = z[..., 0].numpy() - others.logsumexp(-1).numpy() + epsilon
        features.append(np.einsum("j,fjm->fm", weights, _features(delta)))
    value = np.concatenate(errors)
    control = np.concatenate(features, axis=1)
    points, point_weights = logits.log_odds(epsilon)
    centred = (control - (_features(points) @ point_weights)[:, None]).T
    design = np.column_stack([np.ones(samples), centred])
    solution, *_ = np.linalg.lstsq(design, value, rcond=None)
    residual = value - design @ solution
    spread = float(np.sqrt(residual @ residual / (samples - design.shape[1])))
    return float(solution[0]), spread / math.sqrt(samples)


def _measured(
    loss: losses.Loss, logits: MeasuredLogits, epsilon: float, seed: int, params: dict[str, float]
) -> tuple[float, float]:
    z = torch.as_tensor(np.asarray(logits.logits, dtype=np.float64))
    labels = (
        torch.randint(logits.classes, (len(z),), generator=torch.Generator().manual_seed(seed))
        if logits.labels is None
        else torch.as_tensor(np.asarray(logits.labels), dtype=torch.int64)
    )
    # The labelled class goes first: losses do not care about the order of classes.
    order = torch.arange(logits.classes).repeat(len(z), 1)
    order.scatter_(1, labels[:, None], 0)
    order[:, 0] = labels
    errors = _labelled_error(loss, z.gather(1, order), epsilon, params)
    return float(errors.mean()), float(errors.std(ddof=1)) / math.sqrt(len(errors))


def _labelled_error(
    loss: losses.Loss, logits: torch.Tensor, epsilon: float, params: dict[str, float]
) -> np.ndarray:
    """δ of class 0, the labelled one, for logits [..., classes]."""
    leaf = logits.detach().clone().requires_grad_()
    labels = torch.zeros(leaf.shape[:-1], dtype=torch.int64)
    values = losses.evaluate(loss, leaf, labels, epsilon, **params)
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return gradient[..., 0].numpy()


def _features(x: np.ndarray) -> np.ndarray:
    a = expit(x)
    return np.stack([a, a**2, np.sqrt(a), log_expit(x)])
