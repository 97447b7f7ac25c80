"""The search of one arm in one cell: its points, in rounds.

Points are proposed in rounds. Round m knows the results of the rounds up to
m − `rounds_in_flight`; of the rounds between it knows only the points (constant liar), even where
their results have arrived. A search rebuilt from parquet, on any number of workers, therefore
proposes the same points as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from study.config.sections import StudyConfig
from study.planning.cells import Cell, Network, PlannedArm
from study.planning.plan import SEARCH_SEED
from study.planning.point_sampler import PointSampler
from study.results.evidence import ChosenPoint
from study.results.schema import Stage, Status


class ReplayError(ValueError):
    """Rows that this search would not have produced."""


@dataclass(frozen=True)
class CompletedPoint:
    """A search point that was trained.

    Attributes:
        network: its network.
        value: the accuracy that the search maximises, in [0, 1].
        epochs: number of epochs trained.
        status: how the training ended.
    """

    network: Network
    value: float
    epochs: int
    status: Status = Status.COMPLETE


@dataclass
class _Round:
    networks: list[Network]
    in_flight: bool = False
    results: dict[str, CompletedPoint] = field(default_factory=dict)  # by network id

    @property
    def is_done(self) -> bool:
        return len(self.results) == len(self.networks)


class ArmSearch:
    """The search of one arm: rounds of points, `networks_per_cell` points in all.

    The points of a round train in one cohort, so a round is completed or lost as a whole.

    Args:
        config: the study.
        cell: the cell.
        arm: the arm.
        index: position of the arm among the cell's searched arms.
        arms: number of searched arms in the cell. Points are numbered through the whole cell:
            point i of this arm has number i · arms + index in the first replicate.
        analytic: {rule: ε} of the cell; an arm that searches ε tries these values first.
        replicate: which of the arm's searches it is; None in a study without the arm `best`. Each
            has its own seed for the networks and for the sampler. Their points are numbered one
            replicate after the other, so the points of a replicate do not depend on how many
            there are.
        first_budget: `networks_per_cell` when the search was first planned; None: as now. A search
            that has grown keeps the numbers of its points, so those of its replicates overlap.
    """

    def __init__(
        self,
        config: StudyConfig,
        cell: Cell,
        arm: PlannedArm,
        index: int,
        arms: int,
        analytic: Mapping[str, float] | None = None,
        replicate: int | None = None,
        first_budget: int | None = None,
    ) -> None:
        self.cell, self.arm, self.replicate = cell, arm, replicate
        self.seed = SEARCH_SEED + (replicate or 0)
        self._config, self._arms = config, arms
        budget = first_budget or config.search.networks_per_cell
        self._first_number = index + (replicate or 0) * budget * arms
        self._rounds: list[_Round] = []
        self._done = 0  # length of the leading sequence of completed rounds
        self._points_completed = 0
        self._limit = -(-config.search.networks_per_cell // config.search.points_per_round)
        self._losses = {loss.label: loss for loss in cell.losses}
        self._sampler = PointSampler(config, cell, arm, analytic, replicate)

    @property
    def completed(self) -> list[CompletedPoint]:
        """Trained points of completed rounds, in the order of their numbers."""
        return [r.results[n.network_id] for r in self._rounds if r.is_done for n in r.networks]

    @property
    def points_completed(self) -> int:
        """Number of trained points."""
        return self._points_completed

    @property
    def points_planned(self) -> int:
        """Number of points at the end of the search."""
        search = self._config.search
        return min(search.networks_per_cell, self._limit * search.points_per_round)

    @property
    def rounds_begun(self) -> int:
        """Number of rounds that have been proposed."""
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
        """Number of points in the round that `propose` would return."""
        waiting = self._waiting()
        return len(waiting.networks) if waiting else self._size(len(self._rounds))

    def close(self, rounds: int) -> None:
        """End the search early.

        Args:
            rounds: number of rounds after which it ends.
        """
        self._limit = min(self._limit, rounds)

    def next_round(self) -> list[Network]:
        """The round to train next; the same round until it is proposed."""
        waiting = self._waiting()
        if waiting is None:
            assert self._may_begin(len(self._rounds))
            waiting = self._begin()
        return waiting.networks

    def propose(self) -> list[Network]:
        """The next round. The caller then calls `tell` for every point, or `withdraw`."""
        networks = self.next_round()
        self._round_of(networks[0]).in_flight = True
        return networks

    def tell(
        self, network: Network, value: float, epochs: int, status: Status = Status.COMPLETE
    ) -> None:
        """Record the result of a proposed point.

        Args:
            network: the point's network.
            value: the accuracy that the search maximises, in [0, 1].
            epochs: number of epochs trained.
            status: how the training ended.
        """
        round_ = self._round_of(network)
        round_.results[network.network_id] = CompletedPoint(network, value, epochs, status)
        if round_.is_done:
            self._points_completed += len(round_.networks)
        while self._done < len(self._rounds) and self._rounds[self._done].is_done:
            self._done += 1
        if self.is_done:
            self._sampler.forget()

    def withdraw(self, network: Network) -> None:
        """Note that the round of a proposed point was not trained; it will be proposed again."""
        self._round_of(network).in_flight = False

    def replay(self, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Record the points of earlier runs.

        Args:
            rows: {number of a point: its row of `trials`}.

        Raises:
            ReplayError: this search would not have produced these rows.
        """
        remaining = dict(rows)
        while remaining:
            m = len(self._rounds)
            numbers = [self._number(m, i) for i in range(self._size(m))] if m < self._limit else []
            round_rows = [remaining.pop(number) for number in numbers if number in remaining]
            is_whole_or_absent = len(round_rows) in (0, len(numbers))
            if not numbers or not is_whole_or_absent or not self._may_begin(m):
                odd = round_rows[0] if round_rows else next(iter(remaining.values()))
                raise ReplayError(f"point {odd['point']} does not belong to this study file")
            if not round_rows:  # proposed and lost; a later round was trained
                self._begin()
                continue
            networks = [self._network_of(row) for row in round_rows]
            self._rounds.append(_Round(networks))
            for network, row in zip(networks, round_rows, strict=True):
                value = row[self._config.search.value_column]
                self.tell(network, value, row["epochs"], Status(row["status"]))

    @property
    def best(self) -> CompletedPoint | None:
        """The best point that was trained to the end; the earliest of equally good ones.

        A diverged point is chosen only where all points diverged: it counts with the accuracy of
        guessing, which may exceed that of a network that has not learnt.
        """
        unpruned = [point for point in self.completed if point.status != Status.PRUNED]
        return max(unpruned, key=lambda p: (p.status != Status.DIVERGED, p.value), default=None)

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trained points as Optuna trials, with network id and status as attributes."""
        done = [n for r in self._rounds if r.is_done for n in r.networks]
        points = [ChosenPoint(n.loss.label, n.epsilon, n.lr) for n in done]
        self._sampler.forget()  # it may know points without results among these
        trials = self._sampler.finished_trials(points, self.completed)
        self._sampler.forget()
        for trial, point in zip(trials, self.completed, strict=True):
            trial.set_user_attr("network_id", point.network.network_id)
            trial.set_user_attr("status", point.status.value)
        return trials

    def _size(self, m: int) -> int:
        """Number of points in round m; the last round may be smaller."""
        each, budget = self._config.search.points_per_round, self._config.search.networks_per_cell
        return min(each, budget - m * each)

    def _number(self, m: int, position: int) -> int:
        """The running number, within the cell, of a point of round m."""
        local = m * self._config.search.points_per_round + position
        return local * self._arms + self._first_number

    def _may_begin(self, m: int) -> bool:
        """Whether the results that round m depends on have arrived."""
        return m < self._limit and self._done >= self._rounds_known_to(m)

    def _rounds_known_to(self, m: int) -> int:
        """Number of rounds, from the first, whose results round m depends on."""
        return max(0, m - self._config.search.rounds_in_flight + 1)

    def _waiting(self) -> _Round | None:
        """The first round that is proposed, but neither trained nor in training."""
        rounds = self._rounds[self._done : self._limit]
        return next((r for r in rounds if not r.in_flight and not r.is_done), None)

    def _round_of(self, network: Network) -> _Round:
        assert network.point is not None
        local = (network.point - self._first_number) // self._arms
        return self._rounds[local // self._config.search.points_per_round]

    def _begin(self) -> _Round:
        """Propose the next round."""
        m = len(self._rounds)
        known = [
            r.results[n.network_id]
            for r in self._rounds[: self._rounds_known_to(m)]
            for n in r.networks
        ]
        points = self._points
        round_ = _Round([])
        for position in range(self._size(m)):
            number = self._number(m, position)
            point = self._sampler.propose(points, known, number)
            points.append(point)
            round_.networks.append(self._network(point, number))
        self._rounds.append(round_)
        return round_

    @property
    def _points(self) -> list[ChosenPoint]:
        """Where the points of all rounds lie."""
        networks = (network for round_ in self._rounds for network in round_.networks)
        return [ChosenPoint(n.loss.label, n.epsilon, n.lr) for n in networks]

    def _network_of(self, row: Mapping[str, Any]) -> Network:
        """The network of a row.

        Raises:
            ReplayError: this search would not have proposed it.
        """
        losses = (x for x in self.cell.losses if x.name == row["loss"])
        loss = next((x for x in losses if x.params_json == row["loss_params"]), None)
        if loss is None:
            raise ReplayError(f"loss {row['loss']} is not in this study file")
        search, epsilon = self._config.search, self.arm.epsilon if loss.takes_epsilon else 0.0
        is_allowed = search.lr.low <= row["lr"] <= search.lr.high
        if epsilon is None:
            epsilon = row["epsilon"]
            is_allowed &= search.epsilon.low <= epsilon <= search.epsilon.high
        network = self._network(ChosenPoint(loss.label, epsilon, row["lr"]), row["point"])
        if not is_allowed or network.network_id != row["network_id"]:
            raise ReplayError(f"point {row['point']} does not belong to this study file")
        return network

    def _network(self, point: ChosenPoint, number: int) -> Network:
        return Network(
            stage=Stage.SEARCH,
            cell=self.cell,
            loss=self._losses[point.loss],
            epsilon=point.epsilon,
            lr=point.lr,
            seed=self.seed,
            arm=self.arm.name,
            rule=self.arm.rule,
            point=number,
            rescale=self.arm.rescale,
            replicate=self.replicate,
        )
