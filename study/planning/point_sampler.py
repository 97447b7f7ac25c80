"""Where the next point of a search lies: an Optuna study whose every proposal can be repeated.

The sampler of a point is created from (study seed, cell, arm, replicate, point), and what it knows
is given with every call. The Optuna study itself is only a cache: it is made when a point is
proposed, from the points and results so far, and can be forgotten at any time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

import optuna
from optuna.trial import TrialState

from study import samplers
from study.config.sections import StudyConfig
from study.planning.cells import Cell, PlannedArm
from study.planning.initial_points import initial_points
from study.results.evidence import ChosenPoint
from study.results.schema import Status
from study.samplers import Params, SearchSpace, ValueRange
from trainables.seeds import derive

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)

_NOTHING_TO_CHOOSE = optuna.samplers.RandomSampler(seed=0)  # for points that are known


class Result(Protocol):
    """What a sampler learns of a trained point."""

    @property
    def value(self) -> float:
        """The accuracy that the search maximises, in [0, 1]."""

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""

    @property
    def status(self) -> Status:
        """How the training ended."""


class PointSampler:
    """Proposes the points of one arm's search.

    Args:
        config: the study.
        cell: the cell.
        arm: the arm.
        analytic: {rule: ε} of the cell; an arm that searches ε tries these values first.
        replicate: which of the arm's searches it is; None in a study without the arm `best`.

    Attributes:
        space: what is searched.
    """

    def __init__(
        self,
        config: StudyConfig,
        cell: Cell,
        arm: PlannedArm,
        analytic: Mapping[str, float] | None,
        replicate: int | None,
    ) -> None:
        self._search, self._arm = config.search, arm
        self._losses = {loss.label: loss for loss in cell.losses}
        purpose: list[str | int] = [config.seed, cell.cell_id, arm.name]
        self._purpose = [*purpose, "replicate", replicate] if replicate else purpose
        self.space = self._space()
        sampler = samplers.get(config.search.sampler)
        self._sampler = sampler(self.space)
        self._initial_points: list[Params] = []
        if self.space.searches_epsilon and sampler.tries_initial_points:
            self._initial_points = initial_points(self.space, (analytic or {}).values())
        self._study: optuna.Study | None = None
        self._trials: list[optuna.Trial] = []
        self._told = 0  # number of points, from the first, whose results the study has

    def propose(
        self, points: Sequence[ChosenPoint], results: Sequence[Result], number: int
    ) -> ChosenPoint:
        """The next point.

        Args:
            points: all points so far.
            results: of the first of them; the sampler knows no more of the others than where they
                are.
            number: the new point's running number within its cell; its sampler's seed follows
                from it.
        """
        study = self._up_to_date(points, results)
        fixed = self._fixed_params(len(points))
        return self._ask(study, fixed, self._sampler.optuna_sampler(self.seed_of(number)))

    def seed_of(self, number: int) -> int:
        """Seed of the sampler that proposes a point."""
        return derive(*self._purpose, number) % 2**32

    def finished_trials(
        self, points: Sequence[ChosenPoint], results: Sequence[Result]
    ) -> list[optuna.trial.FrozenTrial]:
        """The points that have results, as Optuna trials."""
        return self._up_to_date(points, results).get_trials()[: len(results)]

    def forget(self) -> None:
        """Drop the Optuna study, whose memory is large if there are thousands of them."""
        self._study, self._trials, self._told = None, [], 0

    def _up_to_date(self, points: Sequence[ChosenPoint], results: Sequence[Result]) -> optuna.Study:
        """The Optuna study with these points and results."""
        if self._study is None:
            self._study = optuna.create_study(direction="maximize")
        for point in points[len(self._trials) :]:
            known = self._chosen_by_optuna(point._asdict())
            self._ask(self._study, known, _NOTHING_TO_CHOOSE)
        for trial, result in zip(
            self._trials[self._told : len(results)], results[self._told :], strict=True
        ):
            if result.status == Status.PRUNED:
                trial.report(result.value, result.epochs)
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, result.value)
        self._told = max(self._told, len(results))
        return self._study

    def _ask(
        self, study: optuna.Study, fixed: Params, sampler: optuna.samplers.BaseSampler
    ) -> ChosenPoint:
        """A new trial's point: `fixed` values, the others as the sampler chooses."""
        study.sampler = sampler
        if fixed:
            study.enqueue_trial(fixed)
        trial = study.ask()
        self._trials.append(trial)
        label = next(iter(self._losses))
        if len(self._losses) > 1:
            label = str(trial.suggest_categorical("loss", list(self._losses)))
        epsilon: float | None = 0.0
        if self._losses[label].takes_epsilon:
            epsilon = self._arm.epsilon
        if epsilon is None:
            epsilon = _suggest(trial, "epsilon", self._search.epsilon)
        return ChosenPoint(label, epsilon, _suggest(trial, "lr", self._search.lr))

    def _fixed_params(self, local: int) -> Params:
        """Values of the arm's point number `local` that do not depend on results."""
        params = self._sampler.fixed_params(local)
        if local < len(self._initial_points):
            params |= self._initial_points[local]
        return self._chosen_by_optuna(params)

    def _chosen_by_optuna(self, params: Params) -> Params:
        """The parameters that Optuna chooses in this arm."""
        chosen = {"lr"}
        if len(self._losses) > 1:
            chosen.add("loss")
        if self._arm.epsilon is None:
            chosen.add("epsilon")
        return {name: value for name, value in params.items() if name in chosen}

    def _space(self) -> SearchSpace:
        search = self._search
        return SearchSpace(
            lr=search.lr,
            epsilon=search.epsilon,
            searches_epsilon=self._arm.epsilon is None,
            losses=tuple(self._losses),
            losses_with_epsilon=frozenset(
                label for label, loss in self._losses.items() if loss.takes_epsilon
            ),
            budget=search.networks_per_cell,
            points_per_round=search.points_per_round,
            rounds_in_flight=search.rounds_in_flight,
            seed=derive(*self._purpose),
            grid=search.grid_shape,
        )


def _suggest(trial: optuna.Trial, name: str, values: ValueRange) -> float:
    return trial.suggest_float(name, values.low, values.high, log=values.log)
