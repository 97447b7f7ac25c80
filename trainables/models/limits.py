"""What the models of this package refuse. It needs no PyTorch, so a study file is checked fast."""

from __future__ import annotations

from typing import Any

_WIDEST, _DEEPEST = 1_000_000, 1_000  # a typing error must not exhaust a machine's memory


def check_mlp(width: Any, depth: Any) -> None:
    """Make sure that a multi-layer perceptron can be built.

    Args:
        width: units per hidden layer.
        depth: number of hidden layers.

    Raises:
        ValueError: one of them is no whole number, or out of range.
    """
    for value, low, high in ((width, 1, _WIDEST), (depth, 0, _DEEPEST)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(
                f"mlp: width = {width!r}, depth = {depth!r}; allowed: whole numbers, width from 1 "
                f"to {_WIDEST:,}, depth from 0 to {_DEEPEST:,}"
            )


def check_image(name: str, input_shape: tuple[int, ...], smallest: int) -> None:
    """Make sure that a convolutional network can read the inputs.

    Args:
        name: name of the model.
        input_shape: shape of one example.
        smallest: smallest height and width in pixels.

    Raises:
        ValueError: the inputs are not images, or they are too small.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ValueError(
            f"{name} takes images of {smallest} × {smallest} pixels or more; "
            f"this data set's examples are {' × '.join(map(str, input_shape))}"
        )
