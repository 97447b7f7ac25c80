"""Initial error of losses that depend on more than the labelled probability, by sampling.

NCE and its sums, bi-tempered, LDR-KL and user-defined losses have no closed δ_k. Here autograd
computes it at random logits. Three methods reduce the variance of a mean: the labelled logit z_k
is integrated by quadrature, not sampled; features of the labelled probability, whose means are
known exactly, serve as control variates; and the draws are the same for all parameter values, so
that a mean is a smooth function of the parameter. This module imports PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from trainables import losses
from trainables.theory.distribution import ErrorCurve, InitialError
from trainables.theory.logits import GaussianLogits, InitialLogits, MeasuredLogits

_NODES = 20  # of the labelled logit
_CHUNK = 1_000_000  # logits at a time
_SAMPLES = 200_000  # of the other logits, at most

_Array = NDArray[np.float64]


def mean_error(
    loss: str,
    logits: InitialLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean initial error E[δ_k] of any loss.

    Args:
        loss: a registered loss, or 'package.module:function'.
        logits: the initial logits.
        epsilon: the logit bias ε.
        params: parameters of the loss; the others keep their defaults.
        seed: seed of the draws.

    Returns:
        E[δ_k] and its standard error.

    Raises:
        ValueError: unknown loss or parameter.
    """
    definition = losses.get(loss)
    settings = definition.check(**(params or {}))
    if isinstance(logits, MeasuredLogits):
        errors = _measured(definition, logits, epsilon, seed, settings)[1]
        return float(errors.mean()), float(errors.std(ddof=1)) / math.sqrt(len(errors))
    assert isinstance(logits, GaussianLogits)
    return _gaussian_mean(definition, logits, epsilon, seed, settings)


def error_curve(
    loss: str,
    logits: InitialLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> ErrorCurve:
    """E[δ_k | z_k] of any loss as a function of z_k, as `errors.error_curve`.

    Args:
        loss: a registered loss, or 'package.module:function'.
        logits: the initial logits.
        epsilon: the logit bias ε.
        params: parameters of the loss; the others keep their defaults.
        seed: seed of the draws.

    Returns:
        The curve, with the density of z_k.

    Raises:
        ValueError: unknown loss or parameter.
    """
    definition = losses.get(loss)
    settings = definition.check(**(params or {}))
    z, density = logits.z_grid()
    if isinstance(logits, MeasuredLogits):
        labelled, errors = _measured(definition, logits, epsilon, seed, settings)
        count, edges = np.histogram(labelled, bins=len(z), range=(z[0], z[-1]))
        total, _ = np.histogram(labelled, bins=edges, weights=errors)
        with np.errstate(invalid="ignore"):
            return ErrorCurve(z, total / count, density)
    assert isinstance(logits, GaussianLogits)
    nodes = np.linspace(z[0], z[-1], 101)
    means = _gaussian(definition, logits, nodes, epsilon, seed, settings).mean(axis=1)
    return ErrorCurve(z, np.interp(z, nodes, means), density)


def initial_error(
    loss: str,
    logits: InitialLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> InitialError:
    """Distribution of δ_k of any loss, as `errors.initial_error`.

    The largest error of the loss, which `overlap` refers to, is taken over these logits with z_k
    from values at which a_k is close to 0 to values at which it is close to 1.

    Args:
        loss: a registered loss, or 'package.module:function'.
        logits: the initial logits.
        epsilon: the logit bias ε.
        params: parameters of the loss; the others keep their defaults.
        seed: seed of the draws.

    Returns:
        The distribution.

    Raises:
        ValueError: unknown loss or parameter.
    """
    definition = losses.get(loss)
    settings = definition.check(**(params or {}))
    mean, _ = mean_error(loss, logits, epsilon, params, seed)
    sigma, top = max(1.0, 5.0 * _spread(logits)), math.log(logits.classes) + 12.0
    around = np.linspace(-sigma - 5.0, top, 81)
    background = GaussianLogits(logits.classes, _spread(logits))
    largest = float(np.abs(_gaussian(definition, background, around, 0.0, seed, settings)).max())
    if isinstance(logits, MeasuredLogits):
        values = _measured(definition, logits, epsilon, seed, settings)[1]
        weights = np.full(len(values), 1.0 / len(values))
    else:
        nodes = np.linspace(-5.0, 5.0, 101)
        errors = _gaussian(
            definition, background, background.sigma * nodes, epsilon, seed, settings
        )
        density = np.exp(-(nodes**2) / 2)[:, None] + np.zeros_like(errors)
        values, weights = errors.ravel(), density.ravel() / density.sum()
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order]) - weights[order] / 2
    low, middle, high = np.interp((0.05, 0.5, 0.95), cumulative, values[order])
    curve = error_curve(loss, logits, epsilon, params, seed)
    received = np.trapezoid(np.nan_to_num(np.abs(curve.error)) * curve.density, curve.z)
    return InitialError(
        mean=mean,
        std=math.sqrt(float(weights @ (values - mean) ** 2)),
        quantiles=(float(low), float(middle), float(high)),
        overlap=float(received / np.trapezoid(curve.density, curve.z)) / largest,
    )


def _spread(logits: InitialLogits) -> float:
    assert isinstance(logits, GaussianLogits | MeasuredLogits)
    return logits.sigma


def _gaussian(
    loss: losses.Loss,
    logits: GaussianLogits,
    labelled: _Array,
    epsilon: float,
    seed: int,
    params: dict[str, float],
) -> _Array:
    """δ_k [len(labelled), samples] for given z_k and random other logits."""
    chunks = _draw(loss, logits, labelled, epsilon, seed, params, max(64, _SAMPLES // 100))
    return np.concatenate([errors for errors, _ in chunks], axis=1)


def _gaussian_mean(
    loss: losses.Loss, logits: GaussianLogits, epsilon: float, seed: int, params: dict[str, float]
) -> tuple[float, float]:
    nodes, weights = hermegauss(_NODES)
    weights = weights / weights.sum()
    errors, features = [], []
    for chunk, delta in _draw(loss, logits, logits.sigma * nodes, epsilon, seed, params, _SAMPLES):
        errors.append(weights @ chunk)
        features.append(np.einsum("j,fjm->fm", weights, _features(delta)))
    value = np.concatenate(errors)
    control = np.concatenate(features, axis=1)
    points, point_weights = logits.log_odds(epsilon)
    centred = (control - (_features(points) @ point_weights)[:, None]).T
    design = np.column_stack([np.ones(len(value)), centred])
    solution, *_ = np.linalg.lstsq(design, value, rcond=None)
    residual = value - design @ solution
    spread = float(np.sqrt(residual @ residual / (len(value) - design.shape[1])))
    return float(solution[0]), spread / math.sqrt(len(value))


def _draw(
    loss: losses.Loss,
    logits: GaussianLogits,
    labelled: _Array,
    epsilon: float,
    seed: int,
    params: dict[str, float],
    most: int,
) -> Iterator[tuple[_Array, _Array]]:
    """Yield errors and log-odds [len(labelled), m], in chunks that fit into memory."""
    per_sample = len(labelled) * logits.classes
    samples = min(most, max(32, _CHUNK // per_sample))
    rows = max(1, _CHUNK // per_sample)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, samples, rows):
        count = min(rows, samples - start)
        others = torch.randn(count, logits.classes - 1, generator=generator, dtype=torch.float64)
        others *= logits.sigma
        z = torch.empty(len(labelled), count, logits.classes, dtype=torch.float64)
        z[..., 0] = torch.from_numpy(labelled)[:, None]
        z[..., 1:] = others
        delta = z[..., 0].numpy() - others.logsumexp(-1).numpy() + epsilon
        yield _labelled_error(loss, z, epsilon, params), delta


def _measured(
    loss: losses.Loss, logits: MeasuredLogits, epsilon: float, seed: int, params: dict[str, float]
) -> tuple[_Array, _Array]:
    """Labelled logit minus the mean over the classes, and δ_k, each of shape [examples]."""
    z = torch.as_tensor(np.asarray(logits.logits, dtype=np.float64))
    labels = (
        torch.randint(logits.classes, (len(z),), generator=torch.Generator().manual_seed(seed))
        if logits.labels is None
        else torch.as_tensor(np.asarray(logits.labels), dtype=torch.int64)
    )
    # The labelled class goes first, since the order of the classes does not matter to a loss.
    order = torch.arange(logits.classes).repeat(len(z), 1)
    order.scatter_(1, labels[:, None], 0)
    order[:, 0] = labels
    z = z.gather(1, order)
    return (z[:, 0] - z.mean(1)).numpy(), _labelled_error(loss, z, epsilon, params)


def _labelled_error(
    loss: losses.Loss, logits: torch.Tensor, epsilon: float, params: dict[str, float]
) -> _Array:
    """Return δ of class 0, the labelled one, for logits [..., classes]: shape [...]."""
    leaf = logits.detach().clone().requires_grad_()
    labels = torch.zeros(leaf.shape[:-1], dtype=torch.int64)
    values = losses.evaluate(loss, leaf, labels, epsilon, **params)
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return gradient[..., 0].numpy()


def _features(x: _Array) -> _Array:
    a = expit(x)
    return np.stack([a, a**2, np.sqrt(a), log_expit(x)])
