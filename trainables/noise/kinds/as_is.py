"""The labels as the data set has them: nothing is added, and which of them are wrong is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import DatasetInfo
from trainables.noise.base import NoisyLabels, checked_labels
from trainables.noise.registry import NoiseKind, Options, register


class AsIs(NoiseKind):
    """Labels that may be wrong already, unchanged.

    The realised rates and the transition matrix are NaN: they are unknown.
    """

    name = "as-is"
    description = "the labels as the data set has them; which of them are wrong is unknown"
    has_own_rate = True
    is_drawn_only = True
    truth_is_known = False

    def check(self, dataset: DatasetInfo, rate: float | None, options: Options) -> None:
        """The kind fits every data set and has no options; see `NoiseKind.check`."""
        self.check_options(options, ())

    def corrupt(
        self, labels: NDArray[Any], classes: int, rate: float | None, seed: int, options: Options
    ) -> NoisyLabels:
        """The labels themselves; nothing is random. See `NoiseKind.corrupt`."""
        remaining = dict(options)
        remaining.pop("draw", None)
        self.check_options(remaining, ())
        unknown = np.full(classes, np.nan)
        return NoisyLabels(
            labels=checked_labels(labels, classes),
            transition=np.full((classes, classes), np.nan),
            rate=float("nan"),
            per_class_rate=unknown,
        )


register(AsIs())
