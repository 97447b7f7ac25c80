"""Initial error of losses that see more than the labelled probability, by sampling.

NCE and its sums, bi-tempered, LDR-KL and users' own losses have no closed δ_k. Here autograd
computes it at random logits. Three things keep the sample of a mean small: the labelled logit
z_k is integrated by quadrature, not sampled; features of the labelled probability, whose means
are known exactly, serve as control variates; and the draws are the same for all parameter
values, so that a root in the parameter is a smooth one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit, log_expit

from trainables import losses
from trainables.theory.distribution import ErrorCurve, InitialError
from trainables.theory.logits import GaussianLogits, InitialLogits, MeasuredLogits

_NODES = 20  # of the labelled logit
_CHUNK = 1_000_000  # logits at a time
_SAMPLES = 200_000  # of the other logits' sum, at most


def mean_error(
    loss: str,
    logits: InitialLogits,
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
        errors = _measured(found, logits, epsilon, seed, settings)[1]
        return float(errors.mean()), float(errors.std(ddof=1)) / math.sqrt(len(errors))
    assert isinstance(logits, GaussianLogits)
    return _gaussian_mean(found, logits, epsilon, seed, settings)


def error_curve(
    loss: str,
    logits: InitialLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> ErrorCurve:
    """Return E[δ_k | z_k] of a registered loss over z_k, as `errors.error_curve`."""
    found = losses.get(loss)
    settings = found.check(**(params or {}))
    z, density = logits.z_grid()
    if isinstance(logits, MeasuredLogits):
        labelled, errors = _measured(found, logits, epsilon, seed, settings)
        count, edges = np.histogram(labelled, bins=len(z), range=(z[0], z[-1]))
        total, _ = np.histogram(labelled, bins=edges, weights=errors)
        with np.errstate(invalid="ignore"):
            return ErrorCurve(z, total / count, density)
    assert isinstance(logits, GaussianLogits)
    nodes = np.linspace(z[0], z[-1], 101)
    means = _gaussian(found, logits, nodes, epsilon, seed, settings).mean(axis=1)
    return ErrorCurve(z, np.interp(z, nodes, means), density)


def initial_error(
    loss: str,
    logits: InitialLogits,
    epsilon: float = 0.0,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
) -> InitialError:
    """Return the distribution of δ_k of a registered loss, as `errors.initial_error`.

    The largest error of the loss is taken over these logits with z_k anywhere from where the
    labelled class is all but excluded to where it is all but certain.
    """
    found = losses.get(loss)
    settings = found.check(**(params or {}))
    mean, _ = mean_error(loss, logits, epsilon, params, seed)
    sigma, top = max(1.0, 5.0 * _spread(logits)), math.log(logits.classes) + 12.0
    around = np.linspace(-sigma - 5.0, top, 81)
    background = GaussianLogits(logits.classes, _spread(logits))
    largest = float(np.abs(_gaussian(found, background, around, 0.0, seed, settings)).max())
    if isinstance(logits, MeasuredLogits):
        values = _measured(found, logits, epsilon, seed, settings)[1]
        weights = np.full(len(values), 1.0 / len(values))
    else:
        nodes = np.linspace(-5.0, 5.0, 101)
        errors = _gaussian(found, background, background.sigma * nodes, epsilon, seed, settings)
        density = np.exp(-(nodes**2) / 2)[:, None] + np.zeros_like(errors)
        values, weights = errors.ravel(), density.ravel() / density.sum()
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) - weights[order] / 2
    low, middle, high = np.interp((0.05, 0.5, 0.95), reached, values[order])
    curve = error_curve(loss, logits, epsilon, params, seed)
    seen = np.trapezoid(np.nan_to_num(np.abs(curve.error)) * curve.density, curve.z)
    return InitialError(
        mean=mean,
        std=math.sqrt(float(weights @ (values - mean) ** 2)),
        quantiles=(float(low), float(middle), float(high)),
        overlap=float(seen / np.trapezoid(curve.density, curve.z)) / largest,
    )


def _spread(logits: InitialLogits) -> float:
    assert isinstance(logits, GaussianLogits | MeasuredLogits)
    return logits.sigma


def _gaussian(
    loss: losses.Loss,
    logits: GaussianLogits,
    labelled: np.ndarray,
    epsilon: float,
    seed: int,
    params: dict[str, float],
) -> np.ndarray:
    """δ_k [len(labelled), samples] for given z_k and random other logits."""
    parts = _draw(loss, logits, labelled, epsilon, seed, params, max(64, _SAMPLES // 100))
    return np.concatenate([errors for errors, _ in parts], axis=1)


def _gaussian_mean(
    loss: losses.Loss, logits: GaussianLogits, epsilon: float, seed: int, params: dict[str, float]
) -> tuple[float, float]:
    nodes, weights = hermegauss(_NODES)
    weights = weights / weights.sum()
    errors, features = [], []
    for part, delta in _draw(loss, logits, logits.sigma * nodes, epsilon, seed, params, _SAMPLES):
        errors.append(weights @ part)
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
    labelled: np.ndarray,
    epsilon: float,
    seed: int,
    params: dict[str, float],
    most: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Errors and log-odds [len(labelled), m], in parts that fit into memory."""
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
) -> tuple[np.ndarray, np.ndarray]:
    """The labelled logit, less the mean over classes, and δ_k, of each example."""
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
    z = z.gather(1, order)
    return (z[:, 0] - z.mean(1)).numpy(), _labelled_error(loss, z, epsilon, params)


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
