"""Sampler `qmc`: a quasi-random sequence, which fills the ranges evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.samplers.base import Params, Sampler, register

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@register
class QuasiRandomSampler(Sampler):
    """A scrambled Sobol sequence over learning rate, ε and loss."""

    name = "qmc"

    def fixed_params(self, point: int) -> Params:
        """The sequence's point, without ε where the arm fixes it."""
        from scipy.stats import qmc

        space = self.space
        dimensions = 1 + space.searches_epsilon + (len(space.losses) > 1)
        sequence = qmc.Sobol(dimensions, rng=space.seed % 2**32)
        if point:  # SciPy refuses 0
            sequence.fast_forward(point)
        shares = iter(sequence.random(1)[0])
        params: Params = {"lr": space.lr.at(next(shares))}
        if space.searches_epsilon:
            params["epsilon"] = space.epsilon.at(next(shares))
        if len(space.losses) > 1:
            params["loss"] = space.losses[int(next(shares) * len(space.losses))]
        return params

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Optuna's `RandomSampler`, for parameters that the sequence does not fix."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
