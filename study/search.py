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

from study.config import StudyConfig
from study.plan import SEARCH_SEED, Arm, Cell, Network
from trainables.seeds import derive

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Tried:
    """A trained search network and the value it reached (a fraction, higher is better)."""

    network: Network
    value: float


class ArmSearch:
    """The search of one arm: strictly sequential, `networks_per_cell` points long.

    Parameters
    ----------
    index, arms: this arm's place among the cell's arms. Points are numbered through the whole
        cell, arm by arm within a round, so a number stays what it is when the budget grows.
    """

    def __init__(self, config: StudyConfig, cell: Cell, arm: Arm, index: int, arms: int) -> None:
        self.cell, self.arm = cell, arm
        self._config, self._index, self._arms = config, index, arms
        self._study = optuna.create_study(direction="maximize")
        self._pending: optuna.Trial | None = None
        self.tried: list[Tried] = []

    @property
    def is_done(self) -> bool:
        """Whether the whole budget has been trained."""
        return len(self.tried) >= self._config.search.networks_per_cell

    @property
    def is_waiting(self) -> bool:
        """Whether a proposed point has not come back yet."""
        return self._pending is not None

    @property
    def next_point(self) -> int:
        """The cell's running number of the next point."""
        return len(self.tried) * self._arms + self._index

    def propose(self) -> Network:
        """The next point; `tell` must follow before the next proposal."""
        assert not self.is_waiting
        assert not self.is_done
        seed = derive(self._config.seed, self.cell.cell_id, self.arm.name, self.next_point)
        self._study.sampler = self._sampler(seed % 2**32)
        self._pending = self._study.ask()
        space = self._space()
        losses = {loss.label: loss for loss in self.cell.losses}
        loss = next(iter(losses.values()))
        if "loss" in space:
            loss = losses[str(self._pending.suggest_categorical("loss", list(losses)))]
        if not loss.takes_epsilon:
            epsilon = 0.0
        elif self.arm.epsilon is None:
            epsilon = self._suggest_float("epsilon", space)
        else:
            epsilon = self.arm.epsilon
        return Network(
            stage="search",
            cell=self.cell,
            loss=loss,
            epsilon=epsilon,
            lr=self._suggest_float("lr", space),
            seed=SEARCH_SEED,
            arm=self.arm.name,
            rule=self.arm.rule,
            point=self.next_point,
        )

    def tell(self, network: Network, value: float) -> None:
        """Record what a proposed point reached."""
        assert self._pending is not None
        self._study.tell(self._pending, value)
        self._pending = None
        self.tried.append(Tried(network, value))

    def withdraw(self) -> None:
        """Forget a proposed point that was not trained; it will be proposed again, the same."""
        if self._pending is not None:
            done = [t for t in self._study.get_trials(deepcopy=False) if t.state.is_finished()]
            self._study = optuna.create_study(direction="maximize")
            for trial in done:
                self._study.add_trial(trial)
            self._pending = None

    def replay(self, loss_label: str, epsilon: float, lr: float, value: float) -> None:
        """Record the next point from a row of an earlier run."""
        space = self._space()
        params: dict[str, float | str] = {"lr": lr}
        if "loss" in space:
            params["loss"] = loss_label
        losses = {loss.label: loss for loss in self.cell.losses}
        if "epsilon" in space and losses[loss_label].takes_epsilon:
            params["epsilon"] = epsilon
        network = Network(
            stage="search",
            cell=self.cell,
            loss=losses[loss_label],
            epsilon=epsilon,
            lr=lr,
            seed=SEARCH_SEED,
            arm=self.arm.name,
            rule=self.arm.rule,
            point=self.next_point,
        )
        self._study.add_trial(
            optuna.create_trial(
                params=params,
                distributions={name: space[name] for name in params},
                value=value,
            )
        )
        self.tried.append(Tried(network, value))

    @property
    def best(self) -> Tried | None:
        """The best point so far; the earliest of equals."""
        return max(self.tried, key=lambda t: t.value, default=None)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        if self._config.search.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        startup = max(4, self._config.search.networks_per_cell // 4)
        joint = len(self.cell.losses) > 1
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup, multivariate=True, group=joint
        )

    def _space(self) -> dict[str, BaseDistribution]:
        search = self._config.search
        space: dict[str, BaseDistribution] = {
            "lr": FloatDistribution(search.lr.low, search.lr.high, log=True)
        }
        if self.arm.epsilon is None:
            space["epsilon"] = FloatDistribution(
                search.epsilon.low, search.epsilon.high, log=search.epsilon.log
            )
        if len(self.cell.losses) > 1:
            space["loss"] = CategoricalDistribution([loss.label for loss in self.cell.losses])
        return space

    def _suggest_float(self, name: str, space: dict[str, BaseDistribution]) -> float:
        assert self._pending is not None
        range_ = space[name]
        assert isinstance(range_, FloatDistribution)
        return self._pending.suggest_float(name, range_.low, range_.high, log=range_.log)
