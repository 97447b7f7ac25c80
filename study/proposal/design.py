"""Model, recipe and budget that fit a data set and the time that the user has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.proposal.survey import Survey
from trainables.errors import BadInputError
from trainables.theory.rules import analytic_rules

LOSSES = ("mae", "gce", "nce_agce")
"""Losses that are compared with cross-entropy, the most useful ones first."""

RULE = "activation"
LR = (0.003, 1.0)
"""Range of the learning rate."""

START_S = 40.0
"""Seconds that the start of Ray, the choice of points and the analysis take."""

TRAINING_SHARE = 0.75
"""Share of a worker's time in which it trains; it waits for others in the rest."""

_STEPS = 1_200  # of training a network; bounded losses need more than cross-entropy
_EPOCHS = (8, 60)
_LEAST_EPOCHS = 5
_SMALL_DATA = 2_000  # training examples
_LARGE_DATA = 20_000
_ARMS = 3  # confirmed on common seeds in a cell with ε: best, analytic, zero


@dataclass(frozen=True)
class Size:
    """How many networks a study trains.

    Attributes:
        search: search networks per arm.
        points: ε values of the sweep, beside 0 and analytic ε.
        lr_points: learning rates of the sweep.
        sweep_seeds: seeds of the sweep.
        seeds: confirm seeds.
    """

    search: int
    points: int
    lr_points: int
    sweep_seeds: int
    seeds: int

    def networks(self, losses: int) -> int:
        """About how many networks this is, with cross-entropy beside `losses` losses with ε."""
        sweep = (self.points + 1) * self.lr_points * self.sweep_seeds
        return (
            losses * (2 * self.search + sweep + _ARMS * self.seeds + 2) + self.search + self.seeds
        )


SIZES = (
    Size(8, 4, 2, 1, 6),
    Size(12, 5, 3, 1, 8),
    Size(16, 6, 3, 2, 12),
    Size(24, 7, 4, 2, 16),
    Size(32, 9, 4, 3, 20),
    Size(48, 9, 5, 4, 30),
)
"""From the smallest study that can answer to one that few need to exceed."""


@dataclass(frozen=True)
class Design:
    """A study for a data set.

    Attributes:
        model: entry of `grid.model`.
        why: why this model, in words.
        epochs: passes over the training examples.
        batch_size: examples per step.
        losses: losses with ε, beside cross-entropy.
        size: number of networks.
        epsilon_high: largest ε that is searched.
    """

    model: dict[str, Any]
    why: str
    epochs: int
    batch_size: int
    losses: tuple[str, ...]
    size: Size
    epsilon_high: float

    @property
    def networks(self) -> int:
        """About how many networks the study trains."""
        return self.size.networks(len(self.losses))


def first_design(survey: Survey, has_gpu: bool) -> Design:
    """The largest design that is proposed.

    Args:
        survey: of the data set.
        has_gpu: whether this machine has a GPU.
    """
    model, why = _model(survey, has_gpu)
    train = survey.info.train_size
    batch_size = 32 if train < _SMALL_DATA else 128
    per_epoch = math.ceil(train / batch_size)
    low, high = _EPOCHS
    epochs = min(max(math.ceil(_STEPS / per_epoch), low), high)
    analytic = [
        rule.value
        for loss in LOSSES
        for rule in analytic_rules(survey.info.classes, loss=loss, params={}, rules=[RULE])
        if rule.value is not None
    ]
    epsilon_high = float(math.ceil(2 * max([*analytic, 0.5]) + 1))
    return Design(model, why, epochs, batch_size, LOSSES, SIZES[-1], epsilon_high)


def fit_time(design: Design, seconds_per_network: float, workers: int, minutes: float) -> Design:
    """The largest design that a time allows; the smallest one where none does.

    Args:
        design: from `first_design`.
        seconds_per_network: training time of one of its networks, in one worker.
        workers: networks that train at a time.
        minutes: the time in all.
    """
    available = max(TRAINING_SHARE * (60 * minutes - START_S), 1.0) * workers / seconds_per_network
    smaller = [
        replace(design, epochs=epochs, losses=losses, size=size)
        for epochs in _shorter(design.epochs)
        for losses in (design.losses, design.losses[:2])
        for size in reversed(SIZES)
    ]
    fitting = [d for d in smaller if d.networks * d.epochs / design.epochs <= available]
    return fitting[0] if fitting else smaller[-1]


def fit_networks(design: Design, networks: int) -> Design:
    """The largest design with a number of networks.

    Args:
        design: from `first_design`.
        networks: the largest number.

    Raises:
        BadInputError: no study is that small.
    """
    for losses in (design.losses, design.losses[:2]):
        for size in reversed(SIZES):
            smaller = replace(design, losses=losses, size=size)
            if smaller.networks <= networks:
                return smaller
    least = SIZES[0].networks(2)
    raise BadInputError(f"--networks {networks}: allowed is {least} or more")


def _shorter(epochs: int) -> Sequence[int]:
    """Epochs to try, the longest training first."""
    halves = [epochs, epochs // 2, epochs // 4]
    return [epochs, *[e for e in halves[1:] if e >= _LEAST_EPOCHS]]


def _model(survey: Survey, has_gpu: bool) -> tuple[dict[str, Any], str]:
    """A model for the inputs, and why."""
    width = 128 if survey.info.train_size < _LARGE_DATA else 256
    perceptron = {"name": "mlp", "width": width, "depth": 2}
    if survey.kind == "text":
        return perceptron, "TF-IDF of words, then a small perceptron"
    if survey.kind == "table":
        return perceptron, "a perceptron for columns of numbers"
    if has_gpu and min(survey.info.input_shape[1:]) >= 16:
        return {"name": "cnn8"}, "a convolutional network, because there is a GPU"
    return (
        {"name": "mlp", "width": 256, "depth": 2},
        "a perceptron, fast enough without a GPU; with one, cnn8 or resnet32 is better",
    )
