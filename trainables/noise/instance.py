"""Part-dependent, instance-dependent label noise.

Xia et al., "Part-dependent Label Noise: Towards Instance-dependent Label Noise", NeurIPS 2020,
algorithm 2: every example has a flip rate of its own, and where it flips to follows from its
features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.noise.base import Labels, NoiseError

_SPREAD = 0.1  # standard deviation of the flip rates
_CHUNK = 2048  # examples weighed at once


def draw(
    clean: Labels,
    classes: int,
    rate: float,
    rng: np.random.Generator,
    features: NDArray[Any],
    weights_seed: int,
) -> Labels:
    """Noisy labels [N] of clean ones.

    The flip rate of an example is normal with mean `rate` and standard deviation 0.1, truncated
    to [0, 1] (so the mean of all is a little above a `rate` near 0, and below one near 1; at rate
    0 nothing flips). Its target is drawn from softmax(x W_y) over the other classes, where W_y
    [F, C] is standard normal.

    Parameters
    ----------
    clean, classes, rate
        as in `trainables.noise.corrupt`.
    rng
        decides the flips.
    features
        what the network sees, [N, …]; flattened to x [N, F].
    weights_seed
        of the W: labels that shall have the same noise (training, validation) need the same.

    Raises
    ------
    NoiseError: not one row of features a label.
    """
    from scipy.special import ndtr, ndtri

    if len(features) != len(clean):
        raise NoiseError(f"noise kind 'pdn': {len(features)} rows of features, {len(clean)} labels")
    decides, where, spread = rng.random(len(clean)), rng.random(len(clean)), rng.random(len(clean))
    if rate == 0:
        return clean.copy()
    low, high = ndtr((0 - rate) / _SPREAD), ndtr((1 - rate) / _SPREAD)
    own_rate = np.clip(rate + _SPREAD * ndtri(low + spread * (high - low)), 0, 1)
    flips = decides < own_rate
    noisy = clean.copy()
    size = int(np.prod(features.shape[1:]))
    for label in np.unique(clean[flips]):
        weights = ndtri(_open_unit(np.random.default_rng([weights_seed, label]), (size, classes)))
        rows = np.flatnonzero(flips & (clean == label))
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            logits = features[some].reshape(len(some), size).astype(np.float64) @ weights
            logits[:, label] = -np.inf
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            steps = np.cumsum(share, axis=1)
            marks = where[some] * steps[:, -1]
            noisy[some] = (steps <= marks[:, None]).sum(axis=1)
    return noisy


def _open_unit(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Uniform in (0, 1), where the normal quantile is finite."""
    return np.maximum(rng.random(shape), 2.0**-54)
