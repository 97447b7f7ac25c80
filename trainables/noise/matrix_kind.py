"""Kinds of label noise that are one transition matrix: noise that depends on the class alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import DatasetInfo
from trainables.noise.base import Matrix, NoisyLabels, checked_labels, describe, generator
from trainables.noise.drawing import check_draw, draw_labels
from trainables.noise.registry import NoiseKind, Options


@dataclass(frozen=True)
class MatrixKind(NoiseKind):
    """A kind that is a transition matrix.

    Attributes:
        name: the name in study files.
        description: one line.
        function: `function(classes, rate, **options)` returns the matrix [C, C]. Its further
            parameters are the options of the kind. A parameter `dataset` receives the name of the
            data set.
        has_own_rate: the matrix determines the rate; `rate` is None.
    """

    name: str
    description: str
    function: Callable[..., Matrix]
    has_own_rate: bool = False
    is_drawn_only = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options, except `draw`."""
        return tuple(inspect.signature(self.function).parameters)[2:]

    def dataset_options(self, dataset: str) -> dict[str, Any]:
        """The name of the data set, where the matrix depends on it."""
        return {"dataset": dataset} if "dataset" in self.options else {}

    def matrix(self, classes: int, rate: float | None, options: Options) -> Matrix:
        """The transition matrix [C, C]; see `NoiseKind.matrix`."""
        self.check_options(options, self.options)
        return self.function(classes, rate, **options)

    def check(self, dataset: DatasetInfo, rate: float | None, options: Options) -> None:
        """Build the matrix; see `NoiseKind.check`."""
        remaining = dict(options)
        check_draw(remaining.pop("draw", "iid"))
        of_dataset = self.dataset_options(dataset.name)
        self.matrix(dataset.classes, rate, {**of_dataset, **remaining})

    def corrupt(
        self, labels: NDArray[Any], classes: int, rate: float | None, seed: int, options: Options
    ) -> NoisyLabels:
        """Draw each label from the row of its class; see `NoiseKind.corrupt`."""
        remaining = dict(options)
        draw = remaining.pop("draw", "iid")
        check_draw(draw)
        clean = checked_labels(labels, classes)
        rng = generator(seed)
        matrix = self.matrix(classes, rate, remaining)
        return describe(clean, draw_labels(clean, matrix, rng, draw), classes)


def mixed_with_identity(flipped: Matrix, rate: float) -> Matrix:
    """A share `rate` of each class follows `flipped` [C, C]; the rest keeps its label."""
    return (1 - rate) * np.eye(len(flipped)) + rate * flipped
