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

    @classmethod
    def differs_when_grown(cls, before: int, after: int) -> str | None:
        """The larger search draws more points at random before it starts to learn."""
        earlier, later = _random_points(before), _random_points(after)
        if earlier == later or before <= earlier:
            return None
        return (
            f"the kept points use results from point {earlier} of each search on, those of a "
            f"search planned with {after} points from point {later} on"
        )

    def optuna_sampler(self, seed: int) -> BaseSampler:
        """Optuna's `TPESampler`."""
        from optuna.samplers import TPESampler

        space = self.space
        return TPESampler(
            seed=seed,
            n_startup_trials=_random_points(space.budget),
            multivariate=True,
            group=len(space.losses) > 1,
            constant_liar=space.points_per_round > 1 or space.rounds_in_flight > 1,
        )


def _random_points(budget: int) -> int:
    """Number of points that a search draws at random first."""
    return max(4, budget // 4)
