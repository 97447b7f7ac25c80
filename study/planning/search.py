"""One arm of one cell: an Optuna study whose every proposal can be repeated.

Points are proposed in rounds, and a round knows exactly this: what came of the rounds that lie
`rounds_in_flight` or more before it, and of those between, only where their points are (constant
liars). It does not matter which of them have come back by then. The sampler of a point is made anew
from (study seed, cell, arm, point). So a search rebuilt from parquet, on any number of workers,
proposes what the uninterrupted one would have.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from study.config.sections import Range, StudyConfig
from study.planning import designs
from study.planning.plan import SEARCH_SEED, Arm, Cell, Network
from trainables.seeds import derive

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)

_NOTHING_TO_CHOOSE = optuna.samplers.RandomSampler(seed=0)  # for points of earlier runs


class ReplayError(ValueError):
    """Rows that this search would not have produced."""


@dataclass(frozen=True)
class CompletedPoint:
    """A trained search network, the value it reached (a fraction, higher is better), its end."""

    network: Network
    value: float
    epochs: int
    status: str = "complete"  # complete | diverged | pruned


@dataclass
class _Round:
    networks: list[Network]
    trials: list[optuna.Trial]
    in_flight: bool = False
    results: dict[str, CompletedPoint] = field(default_factory=dict)  # by network id

    @property
    def is_done(self) -> bool:
        return len(self.results) == len(self.networks)


class ArmSearch:
    """The search of one arm: round after round of points, `networks_per_cell` in all.

    A round's points are to be trained in one cohort, so that it is done or not done as a whole.

    Parameters
    ----------
    index, arms: this arm's place among the cell's arms. Points are numbered through the whole
        cell, arm by arm.
    analytic: analytic ε of the cell; an arm that is free to choose tries them first.
    """

    def __init__(
        self,
        config: StudyConfig,
        cell: Cell,
        arm: Arm,
        index: int,
        arms: int,
        analytic: Mapping[str, float] | None = None,
    ) -> None:
        self.cell, self.arm = cell, arm
        self._config, self._index, self._arms = config, index, arms
        self._study = optuna.create_study(direction="maximize")
        self._rounds: list[_Round] = []
        self._done = 0  # rounds from the first on that are all done
        self._told = 0  # of them, those whose results Optuna has heard of
        self._points_tried = 0
        self._limit = -(-config.search.networks_per_cell // config.search.points_per_round)
        self._seed = derive(config.seed, cell.cell_id, arm.name)
        self._losses = {loss.label: loss for loss in cell.losses}
        self._fixed: list[designs.Params] = []
        if config.search.sampler == "grid":
            self._fixed = designs.grid_points(
                config.search, cell.losses, self._chooses_epsilon, self._seed
            )
        elif self._chooses_epsilon:
            self._fixed = designs.first_points(
                config.search, cell.losses, list((analytic or {}).values())
            )

    @property
    def tried(self) -> list[CompletedPoint]:
        """Trained points, in the order of their numbers."""
        return [r.results[n.network_id] for r in self._rounds if r.is_done for n in r.networks]

    @property
    def points_tried(self) -> int:
        """How many points are trained."""
        return self._points_tried

    @property
    def points_planned(self) -> int:
        """How many points there will be."""
        search = self._config.search
        return min(search.networks_per_cell, self._limit * search.points_per_round)

    @property
    def rounds_begun(self) -> int:
        """Rounds that have been proposed."""
        return len(self._rounds)

    @property
    def is_done(self) -> bool:
        """Whether the whole budget has been trained."""
        return self._done >= self._limit

    @property
    def can_propose(self) -> bool:
        """Whether a round can be trained now."""
        return self._waiting() is not None or self._may_begin(len(self._rounds))

    @property
    def round_size(self) -> int:
        """Points in the round that `propose` would give."""
        waiting = self._waiting()
        return len(waiting.networks) if waiting else self._size(len(self._rounds))

    def close(self, rounds: int) -> None:
        """End the search after `rounds` rounds."""
        self._limit = min(self._limit, rounds)

    def next_round(self) -> list[Network]:
        """The round that is to be trained next. It stays the same until it is proposed."""
        waiting = self._waiting()
        if waiting is None:
            assert self._may_begin(len(self._rounds))
            waiting = self._begin()
        return waiting.networks

    def propose(self) -> list[Network]:
        """The next round; `tell` of every point, or `withdraw`, must follow."""
        networks = self.next_round()
        self._round_of(networks[0]).in_flight = True
        return networks

    def tell(self, network: Network, value: float, epochs: int, status: str = "complete") -> None:
        """Record what a proposed point reached after `epochs` epochs."""
        round_ = self._round_of(network)
        round_.results[network.network_id] = CompletedPoint(network, value, epochs, status)
        if round_.is_done:
            self._points_tried += len(round_.networks)
        while self._done < len(self._rounds) and self._rounds[self._done].is_done:
            self._done += 1

    def withdraw(self, network: Network) -> None:
        """The round of a proposed point was not trained; it will be proposed again, the same."""
        self._round_of(network).in_flight = False

    def replay(self, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Record the points of earlier runs.

        Parameters
        ----------
        rows: {the cell's number of the point: its row of `trials`, with the column that is
            searched by as `value`}.

        Raises
        ------
        ReplayError: this search would not have produced these rows.
        """
        left = dict(rows)
        while left:
            m = len(self._rounds)
            numbers = [self._number(m, i) for i in range(self._size(m))] if m < self._limit else []
            there = [left.pop(number) for number in numbers if number in left]
            if not numbers or len(there) not in (0, len(numbers)) or not self._may_begin(m):
                odd = there[0] if there else next(iter(left.values()))
                raise ReplayError(f"point {odd['point']} does not belong to this study file")
            round_ = self._begin([self._params_of(row) for row in there] or None)
            for network, row in zip(round_.networks, there, strict=False):
                if network.network_id != row["network_id"]:
                    raise ReplayError(f"point {row['point']} does not belong to this study file")
                self.tell(network, row["value"], row["epochs"], row["status"])

    @property
    def best(self) -> CompletedPoint | None:
        """The best point so far that was trained to the end; the earliest of equals.

        A diverged point is chosen only where nothing else is there: its floor accuracy, that of
        guessing, may lie above that of a network that merely has not learnt.
        """
        whole = [t for t in self.tried if t.status != "pruned"]
        return max(whole, key=lambda t: (t.status != "diverged", t.value), default=None)

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trained points as Optuna has them, each with its network's id."""
        for round_ in self._rounds[self._told :]:
            if round_.is_done:
                self._tell_optuna(round_)
        trials = [t for t in self._study.get_trials() if t.state.is_finished()]
        for trial, tried in zip(trials, self.tried, strict=True):
            trial.set_user_attr("network_id", tried.network.network_id)
            trial.set_user_attr("status", tried.status)
        return trials

    @property
    def _chooses_epsilon(self) -> bool:
        return self.arm.epsilon is None

    def _size(self, m: int) -> int:
        """Points in round m; the last one may be smaller."""
        each, budget = self._config.search.points_per_round, self._config.search.networks_per_cell
        return min(each, budget - m * each)

    def _number(self, m: int, position: int) -> int:
        """The cell's running number of a point of round m."""
        local = m * self._config.search.points_per_round + position
        return local * self._arms + self._index

    def _may_begin(self, m: int) -> bool:
        """Whether what round m must know is known."""
        return m < self._limit and self._done >= self._known_to(m)

    def _known_to(self, m: int) -> int:
        """How many rounds, from the first on, round m knows the results of."""
        return max(0, m - self._config.search.rounds_in_flight + 1)

    def _waiting(self) -> _Round | None:
        """The first round that is proposed, but neither trained nor being trained."""
        rounds = self._rounds[self._done : self._limit]
        return next((r for r in rounds if not r.in_flight and not r.is_done), None)

    def _round_of(self, network: Network) -> _Round:
        assert network.point is not None
        local = (network.point - self._index) // self._arms
        return self._rounds[local // self._config.search.points_per_round]

    def _begin(self, params: list[designs.Params] | None = None) -> _Round:
        """Round number len(rounds): as proposed, or with the points of earlier runs."""
        m = len(self._rounds)
        while self._told < self._known_to(m):
            self._tell_optuna(self._rounds[self._told])
            self._told += 1
        round_ = _Round([], [])
        for position in range(self._size(m)):
            number = self._number(m, position)
            if params is None:
                known = self._fixed_params(m, position)
                self._study.sampler = self._sampler(number)
            else:
                known = params[position]
                self._study.sampler = _NOTHING_TO_CHOOSE
            if known:
                self._study.enqueue_trial(known)
            trial = self._study.ask()
            round_.networks.append(self._network(trial, number))
            round_.trials.append(trial)
        self._rounds.append(round_)
        return round_

    def _tell_optuna(self, round_: _Round) -> None:
        for network, trial in zip(round_.networks, round_.trials, strict=True):
            tried = round_.results[network.network_id]
            if tried.status == "pruned":
                trial.report(tried.value, tried.epochs)
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, tried.value)

    def _fixed_params(self, m: int, position: int) -> designs.Params:
        """What is fixed of a point before anything is known."""
        search, local = self._config.search, m * self._config.search.points_per_round + position
        point: designs.Params = {}
        if search.sampler == "qmc":
            point = designs.sobol_point(
                search, self.cell.losses, self._chooses_epsilon, self._seed, local
            )
        if local < len(self._fixed):
            point |= self._fixed[local]
        return self._chosen_by_optuna(point)

    def _params_of(self, row: Mapping[str, Any]) -> designs.Params:
        """A row's point as Optuna's parameters."""
        label = next(
            (
                loss.label
                for loss in self.cell.losses
                if loss.name == row["loss"] and loss.params_json == row["loss_params"]
            ),
            None,
        )
        if label is None:
            raise ReplayError(f"loss {row['loss']} is not in this study file")
        point = {"loss": label, "epsilon": row["epsilon"], "lr": row["lr"]}
        return self._chosen_by_optuna(point)

    def _chosen_by_optuna(self, point: designs.Params) -> designs.Params:
        """The parameters of a point that are Optuna's in this arm."""
        chosen = {"lr"}
        if len(self._losses) > 1:
            chosen.add("loss")
        if self._chooses_epsilon:
            chosen.add("epsilon")
        return {name: value for name, value in point.items() if name in chosen}

    def _network(self, trial: optuna.Trial, number: int) -> Network:
        search = self._config.search
        label = next(iter(self._losses))
        if len(self._losses) > 1:
            label = str(trial.suggest_categorical("loss", list(self._losses)))
        loss = self._losses[label]
        epsilon = 0.0
        if loss.takes_epsilon:
            fixed = self.arm.epsilon
            epsilon = _suggest(trial, "epsilon", search.epsilon) if fixed is None else fixed
        return Network(
            stage="search",
            cell=self.cell,
            loss=loss,
            epsilon=epsilon,
            lr=_suggest(trial, "lr", search.lr),
            seed=SEARCH_SEED,
            arm=self.arm.name,
            rule=self.arm.rule,
            point=number,
            rescale=self.arm.rescale,
        )

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        search = self._config.search
        seed = derive(self._config.seed, self.cell.cell_id, self.arm.name, number) % 2**32
        if search.sampler != "tpe":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=max(4, search.networks_per_cell // 4),
            multivariate=True,
            group=len(self._losses) > 1,
            constant_liar=search.points_per_round > 1 or search.rounds_in_flight > 1,
        )


def _suggest(trial: optuna.Trial, name: str, values: Range) -> float:
    return trial.suggest_float(name, values.low, values.high, log=values.log)
