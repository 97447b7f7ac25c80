"""Search points that are fixed before a search starts: what to try first, Sobol points, grids."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.stats import qmc

from study.config.grid import LossChoice
from study.config.sections import Range, Search
from trainables.seeds import derive

Params = dict[str, Any]
"""{`epsilon`, `lr`, `loss` (a label)}: values of a point; what is missing the sampler chooses."""


def first_points(
    search: Search, losses: tuple[LossChoice, ...], analytic: list[float]
) -> list[Params]:
    """Analytic ε and ε = 0 of every loss that takes a bias, as far as they are in the range.

    At most a quarter of the budget is spent on them: the rest is the sampler's.
    """
    epsilons = [e for e in [*analytic, 0.0] if search.epsilon.low <= e <= search.epsilon.high]
    points = [
        {"epsilon": epsilon, "loss": loss.label}
        for epsilon in dict.fromkeys(epsilons)
        for loss in losses
        if loss.takes_epsilon
    ]
    return points[: max(1, search.networks_per_cell // 4)]


def sobol_point(
    search: Search, losses: tuple[LossChoice, ...], free_epsilon: bool, seed: int, number: int
) -> Params:
    """Point `number` (from 0) of a scrambled Sobol sequence over learning rate, ε and loss."""
    dimensions = 1 + free_epsilon + (len(losses) > 1)
    sequence = qmc.Sobol(dimensions, rng=seed % 2**32)
    if number:  # SciPy does not take 0
        sequence.fast_forward(number)
    shares = iter(sequence.random(1)[0])
    point: Params = {"lr": search.lr.at(next(shares))}
    if free_epsilon:
        point["epsilon"] = search.epsilon.at(next(shares))
    if len(losses) > 1:
        point["loss"] = losses[int(next(shares) * len(losses))].label
    return point


def grid_points(
    search: Search, losses: tuple[LossChoice, ...], free_epsilon: bool, seed: int
) -> list[Params]:
    """Every point of a grid search, in an order that a search cut short covers evenly.

    Where an arm's ε is fixed, or a loss takes none, its share of the budget goes to the learning
    rate, so that every arm has as many points as every other.
    """
    assert search.grid is not None
    size, points = search.grid, []
    for loss in losses:
        if free_epsilon and loss.takes_epsilon:
            pairs = itertools.product(
                _even(search.epsilon, size.epsilon), _even(search.lr, size.lr)
            )
            points += [{"loss": loss.label, "epsilon": e, "lr": lr} for e, lr in pairs]
        else:
            rates = _even(search.lr, size.epsilon * size.lr)
            points += [{"loss": loss.label, "lr": lr} for lr in rates]
    order = np.random.default_rng(derive(seed, "grid")).permutation(len(points))
    return [points[i] for i in order]


def _even(values: Range, count: int) -> list[float]:
    shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
    return [values.at(share) for share in shares]
