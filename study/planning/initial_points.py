"""The points that a search tries first: analytic ε and ε = 0."""

from __future__ import annotations

from collections.abc import Iterable

from study.samplers import Params, SearchSpace


def initial_points(space: SearchSpace, analytic: Iterable[float]) -> list[Params]:
    """Analytic ε and ε = 0 of every loss that takes a bias, if they are in the range.

    At most a quarter of the budget is spent on them; the sampler chooses the other points.

    Args:
        space: what is searched.
        analytic: analytic ε of the cell, one value per rule.
    """
    epsilons = [e for e in [*analytic, 0.0] if space.epsilon.low <= e <= space.epsilon.high]
    points: list[Params] = [
        {"epsilon": epsilon, "loss": loss}
        for epsilon in dict.fromkeys(epsilons)
        for loss in space.losses
        if loss in space.losses_with_epsilon
    ]
    return points[: max(1, space.budget // 4)]
