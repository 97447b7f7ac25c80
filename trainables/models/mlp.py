"""Multi-layer perceptron."""

from __future__ import annotations

import math

from torch import nn

from trainables.models.limits import check_mlp


class MLP(nn.Sequential):
    """ReLU network of `depth` hidden layers of `width` units on flattened input.

    Maps [batch, *input_shape] to logits [batch, classes].

    Args:
        input_shape: shape of one example.
        classes: number of classes.
        width: units per hidden layer, from 1 to 1,000,000.
        depth: number of hidden layers, from 0 to 1,000.

    Raises:
        ValueError: `width` or `depth` is out of range.
    """

    def __init__(
        self, input_shape: tuple[int, ...], classes: int, *, width: int = 256, depth: int = 2
    ) -> None:
        check_mlp(width, depth)
        layers: list[nn.Module] = [nn.Flatten()]
        features = math.prod(input_shape)
        for _ in range(depth):
            layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
            features = width
        layers.append(nn.Linear(features, classes))
        super().__init__(*layers)
