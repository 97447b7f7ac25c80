"""Part-dependent, instance-dependent label noise.

Xia et al., "Part-dependent Label Noise: Towards Instance-dependent Label Noise", NeurIPS 2020,
algorithm 2: each example has its own flip rate, and its features determine the noisy class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import Dataset, DatasetInfo
from trainables.noise.base import (
    Labels,
    NoiseError,
    NoisyLabels,
    NoisySplits,
    checked_labels,
    describe,
    generator,
)
from trainables.noise.drawing import check_draw
from trainables.noise.registry import NoiseKind, Options, register
from trainables.seeds import derive

_RATE_SD = 0.1  # standard deviation of the flip rates
_CHUNK = 2048  # examples per matrix product


class PartDependentNoise(NoiseKind):
    """The kind `pdn`.

    `corrupt` takes the options `features` [N, …], the network's inputs, and `weights_seed`, which
    is the noise seed by default. `apply` sets both.
    """

    name = "pdn"
    description = "part-dependent, instance-dependent: rate and target follow from the image"

    def check(self, dataset: DatasetInfo, rate: float | None, options: Options) -> None:
        """Refuse options; see `NoiseKind.check`."""
        self.check_options(self._without_draw(options), ())

    def corrupt(
        self, labels: NDArray[Any], classes: int, rate: float | None, seed: int, options: Options
    ) -> NoisyLabels:
        """Draw from each example's own distribution; see `NoiseKind.corrupt`."""
        remaining = self._without_draw(options)
        clean = checked_labels(labels, classes)
        rng = generator(seed)
        self.check_options(remaining, ("features", "weights_seed"))
        if "features" not in remaining:
            raise NoiseError("noise kind 'pdn': give features, the network's inputs")
        assert rate is not None  # `check_rate` has made sure
        noisy = draw_labels(
            clean,
            classes,
            rate,
            rng,
            remaining["features"],
            remaining.get("weights_seed", seed),
        )
        return describe(clean, noisy, classes)

    def apply(
        self, dataset: Dataset, rate: float | None, seed: int, root: str | None, options: Options
    ) -> NoisySplits:
        """Draw both splits with the same weights; see `NoiseKind.apply`."""
        if not isinstance(dataset.train_x, np.ndarray):
            raise NoiseError("noise kind 'pdn' needs a data set in memory, not a folder of images")
        return super().apply(dataset, rate, seed, root, options)

    def split_options(self, dataset: Dataset, split: str, seed: int) -> dict[str, Any]:
        """The network's inputs, and one seed of the weights for both splits."""
        inputs = dataset.train_x if split == "train" else dataset.val_x
        return {
            "features": dataset.normalise(inputs),
            "weights_seed": derive(seed, "weights"),
        }

    def _without_draw(self, options: Options) -> dict[str, Any]:
        """The options without `draw`, which can only be `iid`."""
        remaining = dict(options)
        draw = remaining.pop("draw", "iid")
        check_draw(draw)
        if draw != "iid":
            raise NoiseError("noise kind 'pdn' flips each label independently: draw = iid only")
        return remaining


def draw_labels(
    clean: Labels,
    classes: int,
    rate: float,
    rng: np.random.Generator,
    features: NDArray[Any],
    weights_seed: int,
) -> Labels:
    """Noisy labels of clean ones.

    The flip rate of an example is normal with mean `rate` and standard deviation 0.1, truncated
    to [0, 1]. The mean of all rates is therefore slightly above a `rate` near 0 and slightly below
    one near 1; at rate 0 nothing flips. The noisy class is drawn from softmax(x W_y) over the
    other classes, where W_y [F, C] is standard normal.

    Args:
        clean: int64 [N].
        classes: number of classes C.
        rate: mean flip rate, in [0, 1].
        rng: decides the flips.
        features: the network's inputs, [N, …]; flattened to x [N, F].
        weights_seed: seed of the matrices W_y. Training and validation labels that have the same
            noise need the same seed.

    Returns:
        int64 [N].

    Raises:
        NoiseError: the number of rows of `features` is not N.
    """
    from scipy.special import ndtr, ndtri

    if len(features) != len(clean):
        raise NoiseError(f"noise kind 'pdn': {len(features)} rows of features, {len(clean)} labels")
    decides, where, spread = rng.random(len(clean)), rng.random(len(clean)), rng.random(len(clean))
    if rate == 0:
        return clean.copy()
    low, high = ndtr((0 - rate) / _RATE_SD), ndtr((1 - rate) / _RATE_SD)
    flip_rate = np.clip(rate + _RATE_SD * ndtri(low + spread * (high - low)), 0, 1)
    flips = decides < flip_rate
    noisy = clean.copy()
    size = int(np.prod(features.shape[1:]))
    for label in np.unique(clean[flips]):
        weights = ndtri(_open_unit(np.random.default_rng([weights_seed, label]), (size, classes)))
        rows = np.flatnonzero(flips & (clean == label))
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            logits = features[chunk].reshape(len(chunk), size).astype(np.float64) @ weights
            logits[:, label] = -np.inf
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            steps = np.cumsum(share, axis=1)
            marks = where[chunk] * steps[:, -1]
            noisy[chunk] = (steps <= marks[:, None]).sum(axis=1)
    return noisy


def _open_unit(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Uniform in (0, 1), where the normal quantile is finite."""
    return np.maximum(rng.random(shape), 2.0**-54)


register(PartDependentNoise())
