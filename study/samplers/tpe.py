"""Sampler `tpe`: the Tree-structured Parzen Estimator (Bergstra et al., NeurIPS 2011)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.samplers.base import Sampler, register

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@register
class TpeSampler(Sampler):
    """Multivariate TPE after a quarter of random points.

    Points in training count as bad ones ("constant liar"), so that simultaneous points differ.
    """

    name = "tpe"

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Optuna's `TPESampler`."""
        from optuna.samplers import TPESampler

        space = self.space
        return TPESampler(
            seed=seed,
            n_startup_trials=max(4, space.budget // 4),
            multivariate=True,
            group=len(space.losses) > 1,
            constant_liar=space.points_per_round > 1 or space.rounds_in_flight > 1,
        )
