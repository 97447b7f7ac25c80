"""Sampler `random`: independent points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.samplers.base import Sampler, register

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@register
class UniformSampler(Sampler):
    """Draws every parameter independently and uniformly from its range."""

    name = "random"

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Optuna's `RandomSampler`."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
