"""One arm of one cell: an Optuna study whose every proposal can be repeated.

The sampler of point n is made anew from (study seed, cell, arm, n), and sees exactly the points
that were trained before it. No sampler state is kept, so a study rebuilt from parquet proposes what
the uninterrupted one would have.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from study.config import StudyConfig
from study.grid import LossChoice
from study.plan import SEARCH_SEED, Arm, Cell, Network
from trainables.seeds import derive

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Tried:
    """A trained search network, the value it reached (a fraction, higher is better), its end."""

    network: Network
    value: float
    epochs: int
    status: str = "complete"  # complete | diverged | pruned


class ArmSearch:
    """The search of one arm: round after round of points, `networks_per_cell` in all.

    A round is proposed knowing all earlier rounds and, of its own, only where the points lie.
    Its points are to be trained in one cohort, so that a round is done or not done as a whole.

    Parameters
    ----------
    index, arms: this arm's place among the cell's arms. Points are numbered through the whole
        cell, arm by arm within a round.
    """

    def __init__(self, config: StudyConfig, cell: Cell, arm: Arm, index: int, arms: int) -> None:
        self.cell, self.arm = cell, arm
        self._config, self._index, self._arms = config, index, arms
        self._study = optuna.create_study(direction="maximize")
        self._pending: dict[str, optuna.Trial] = {}  # by network id
        self.tried: list[Tried] = []

    @property
    def is_done(self) -> bool:
        """Whether the whole budget has been trained."""
        return len(self.tried) >= self._config.search.networks_per_cell

    @property
    def is_waiting(self) -> bool:
        """Whether a proposed round has not come back yet."""
        return bool(self._pending)

    @property
    def round_size(self) -> int:
        """Points in the next round; the last one may be smaller."""
        left = self._config.search.networks_per_cell - len(self.tried)
        return min(self._config.search.points_per_round, left)

    @property
    def next_point(self) -> int:
        """The cell's running number of the next point."""
        return (len(self.tried) + len(self._pending)) * self._arms + self._index

    def propose(self) -> list[Network]:
        """The next round; `tell` must follow for each of its points before the next proposal."""
        assert not self.is_waiting
        assert not self.is_done
        return [self._propose_point() for _ in range(self.round_size)]

    def _propose_point(self) -> Network:
        seed = derive(self._config.seed, self.cell.cell_id, self.arm.name, self.next_point)
        self._study.sampler = self._sampler(seed % 2**32)
        trial = self._study.ask()
        losses = {loss.label: loss for loss in self.cell.losses}
        label = next(iter(losses))
        if len(losses) > 1:
            label = str(trial.suggest_categorical("loss", list(losses)))
        if not losses[label].takes_epsilon:
            epsilon = 0.0
        elif self.arm.epsilon is None:
            epsilon = _suggest(trial, "epsilon", self._space())
        else:
            epsilon = self.arm.epsilon
        network = self._network(losses[label], epsilon, _suggest(trial, "lr", self._space()))
        self._pending[network.network_id] = trial
        return network

    def tell(self, network: Network, value: float, epochs: int, status: str = "complete") -> None:
        """Record what a proposed point reached after `epochs` epochs."""
        trial = self._pending.pop(network.network_id)
        if status == "pruned":
            trial.report(value, epochs)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, value)
        self.tried.append(Tried(network, value, epochs, status))

    def withdraw(self) -> None:
        """Forget a proposed round that was not trained; it will be proposed again, the same."""
        tried, self.tried = self.tried, []
        self._study = optuna.create_study(direction="maximize")
        self._pending = {}
        for t in tried:
            self.replay(
                t.network.loss.label, t.network.epsilon, t.network.lr, t.value, t.epochs, t.status
            )

    def replay(
        self,
        loss_label: str,
        epsilon: float,
        lr: float,
        value: float,
        epochs: int,
        status: str = "complete",
    ) -> None:
        """Record the next point from a row of an earlier run."""
        space = self._space()
        params: dict[str, float | str] = {"lr": lr}
        if "loss" in space:
            params["loss"] = loss_label
        losses = {loss.label: loss for loss in self.cell.losses}
        if "epsilon" in space and losses[loss_label].takes_epsilon:
            params["epsilon"] = epsilon
        network = self._network(losses[loss_label], epsilon, lr)
        pruned = status == "pruned"
        self._study.add_trial(
            optuna.create_trial(
                params=params,
                distributions={name: space[name] for name in params},
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                value=None if pruned else value,
                intermediate_values={epochs: value} if pruned else None,
            )
        )
        self.tried.append(Tried(network, value, epochs, status))

    def _network(self, loss: LossChoice, epsilon: float, lr: float) -> Network:
        return Network(
            stage="search",
            cell=self.cell,
            loss=loss,
            epsilon=epsilon,
            lr=lr,
            seed=SEARCH_SEED,
            arm=self.arm.name,
            rule=self.arm.rule,
            point=self.next_point,
        )

    def optuna_trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trained points as Optuna has them, each with its network's id."""
        trials = [t for t in self._study.get_trials() if t.state.is_finished()]
        for trial, tried in zip(trials, self.tried, strict=True):
            trial.set_user_attr("network_id", tried.network.network_id)
        return trials

    @property
    def best(self) -> Tried | None:
        """The best point so far that was trained to the end; the earliest of equals.

        A diverged point is chosen only where nothing else is there: its floor accuracy, that of
        guessing, may lie above that of a network that merely has not learnt.
        """
        whole = [t for t in self.tried if t.status != "pruned"]
        return max(whole, key=lambda t: (t.status != "diverged", t.value), default=None)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        if self._config.search.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        startup = max(4, self._config.search.networks_per_cell // 4)
        joint = len(self.cell.losses) > 1
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup,
            multivariate=True,
            group=joint,
            constant_liar=self._config.search.points_per_round > 1,
        )

    def _space(self) -> dict[str, BaseDistribution]:
        search = self._config.search
        space: dict[str, BaseDistribution] = {
            "lr": FloatDistribution(search.lr.low, search.lr.high, log=search.lr.log)
        }
        if self.arm.epsilon is None:
            space["epsilon"] = FloatDistribution(
                search.epsilon.low, search.epsilon.high, log=search.epsilon.log
            )
        if len(self.cell.losses) > 1:
            space["loss"] = CategoricalDistribution([loss.label for loss in self.cell.losses])
        return space


def _suggest(trial: optuna.Trial, name: str, space: dict[str, BaseDistribution]) -> float:
    range_ = space[name]
    assert isinstance(range_, FloatDistribution)
    return trial.suggest_float(name, range_.low, range_.high, log=range_.log)
