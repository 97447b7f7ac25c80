"""Sampler `grid`: every combination of evenly spaced values."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from study.samplers.base import (
    Params,
    Sampler,
    SamplerError,
    ValueRange,
    register,
)
from trainables.seeds import derive

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@register
class FullGridSampler(Sampler):
    """Uses the whole grid in a random order, so that a search that ends early covers it evenly.

    Where the arm fixes ε, or a loss takes none, the share of the budget meant for ε goes to the
    learning rate, so every arm has the same number of points.
    """

    name = "grid"
    tries_initial_points = False

    @classmethod
    def check(cls, grid: tuple[int, int] | None) -> None:
        """A grid is required."""
        if grid is None:
            raise SamplerError("`grid: {epsilon: …, lr: …}` goes with `sampler: grid`; add it")

    @classmethod
    def check_budget(cls, budget: int, grid: tuple[int, int] | None, losses: int) -> None:
        """The budget is the number of points of the grid."""
        cls.check(grid)
        assert grid is not None
        epsilons, rates = grid
        points = epsilons * rates * losses
        if points != budget:
            size = f"{epsilons} × {rates}" + (f" × {losses} losses" if losses > 1 else "")
            raise SamplerError(
                f"search.networks_per_cell = {budget}: with sampler grid it is the number of "
                f"points, {size} = {points}"
            )

    def fixed_params(self, point: int) -> Params:
        """All values of the point; none beyond the end of the grid."""
        return dict(self._points[point]) if point < len(self._points) else {}

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Optuna's `RandomSampler`, for points beyond the end of the grid.

        Only a study with `loss: joint` has such points: its cell of plain cross-entropy has fewer
        losses and therefore a smaller grid, but the same budget.
        """
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)

    @cached_property
    def _points(self) -> list[Params]:
        space = self.space
        assert space.grid is not None
        epsilons, rates = space.grid
        points: list[Params] = []
        for loss in space.losses:
            if space.searches_epsilon and loss in space.losses_with_epsilon:
                pairs = itertools.product(_even(space.epsilon, epsilons), _even(space.lr, rates))
                points += [{"loss": loss, "epsilon": e, "lr": lr} for e, lr in pairs]
            else:
                points += [{"loss": loss, "lr": lr} for lr in _even(space.lr, epsilons * rates)]
        order = np.random.default_rng(derive(space.seed, "grid")).permutation(len(points))
        return [points[i] for i in order]


def _even(values: ValueRange, count: int) -> list[float]:
    """`count` evenly spaced values, the ends of the range included."""
    shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
    return [values.at(share) for share in shares]
