"""From a study file to cells, arms, groups and networks. Pure: nothing is trained or written."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from study.config.grid import DatasetChoice, LossChoice, ModelChoice, NoiseChoice
from study.config.sections import StudyConfig
from trainables import losses
from trainables.engine import trainer as cohort
from trainables.errors import BadInputError
from trainables.seeds import derive
from trainables.theory.logit_bias import rescale_factor
from trainables.theory.logits import MeasuredLogits
from trainables.theory.rules import analytic_rules

SEARCH_SEED = 0
SWEEP_SEEDS_FROM = 1_000
CONFIRM_SEEDS_FROM = 1_000_000
"""Replicates are numbered so that no stage ever uses a seed of an earlier one."""


@dataclass(frozen=True)
class Cell:
    """What is searched as one: data set × noise × model × loss (None: the loss is searched too)."""

    dataset: DatasetChoice
    noise: NoiseChoice
    model: ModelChoice
    loss: LossChoice | None
    joint_losses: tuple[LossChoice, ...] = ()

    @cached_property
    def cell_id(self) -> str:
        """`digit-pairs/symmetric-0.4/mlp-256x2/mae`."""
        loss = self.loss.label if self.loss else "joint"
        return "/".join([self.dataset.label, self.noise.label, self.model.label, loss])

    @property
    def group_id(self) -> str:
        """Cells with the same group can train in one cohort."""
        return f"{self.dataset.label}/{self.model.label}"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.dataset.info.classes

    @property
    def losses(self) -> tuple[LossChoice, ...]:
        """The losses that a search of this cell may choose."""
        return (self.loss,) if self.loss else self.joint_losses

    @property
    def takes_epsilon(self) -> bool:
        """Whether a logit bias is searched in this cell."""
        return any(loss.takes_epsilon for loss in self.losses)


@dataclass(frozen=True)
class Arm:
    """One way to choose ε in a cell. `epsilon` None: the search chooses it.

    `rescale` is the factor on Δ in the loss of the control of that name.
    """

    name: str
    epsilon: float | None
    rule: str | None = None
    rescale: float | None = None


@dataclass(frozen=True)
class Network:
    """One network to train: everything that decides its numbers but the study's recipe."""

    stage: str
    cell: Cell
    loss: LossChoice
    epsilon: float
    lr: float
    seed: int
    arm: str | None = None
    rule: str | None = None
    point: int | None = None
    rescale: float | None = None

    @cached_property
    def network_id(self) -> str:
        """Follows from the network's settings, so the same network has the same id in every run."""
        settings = [
            self.cell.cell_id,
            self.stage,
            self.arm,
            self.point,
            self.seed,
            self.loss.label,
            repr(self.epsilon),
            repr(self.lr),
        ]
        text = json.dumps(settings if self.rescale is None else [*settings, repr(self.rescale)])
        return f"{self.stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Plan:
    """A study's cells with their arms."""

    config: StudyConfig
    arms: Mapping[Cell, tuple[Arm, ...]]
    analytic: Mapping[Cell, Mapping[str, float]] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the study file."""
        return list(self.arms)

    def epsilon_grid(self, cell: Cell) -> list[float]:
        """The sweep's ε values, ascending: evenly spaced, with 0 and every analytic ε among them.

        An evenly spaced value that nearly coincides with one of those gives way to it.
        """
        sweep, search = self.config.sweep, self.config.search
        if sweep is None or not cell.takes_epsilon:
            return []
        wanted = sorted({0.0, *self.analytic[cell].values()})
        even = [search.epsilon.at(i / (sweep.points - 1)) for i in range(sweep.points)]
        near = 0.1 * min(b - a for a, b in itertools.pairwise(even))
        kept = [e for e in even if all(abs(e - w) > near for w in wanted)]
        return sorted(kept + wanted)

    def lr_grid(self) -> list[float]:
        """The sweep's learning rates: middles of `lr_points` equal parts of search.lr."""
        sweep, lr = self.config.sweep, self.config.search.lr
        if sweep is None:
            return []
        return [lr.at((i + 0.5) / sweep.lr_points) for i in range(sweep.lr_points)]

    def sweep_networks(self, cell: Cell, seeds: Iterable[int] | None = None) -> list[Network]:
        """ε × learning rate × loss × seed, every seed common to all of them.

        `seeds`: those that the study file names at first, or others.
        """
        sweep = self.config.sweep
        if sweep is None:
            return []
        at_first = range(SWEEP_SEEDS_FROM, SWEEP_SEEDS_FROM + sweep.seeds)
        return [
            Network("sweep", cell, loss, epsilon, lr, seed)
            for seed in (at_first if seeds is None else seeds)
            for loss in cell.losses
            if loss.takes_epsilon
            for epsilon in self.epsilon_grid(cell)
            for lr in self.lr_grid()
        ]

    def networks(self) -> dict[str, int]:
        """How many networks each stage trains."""
        config = self.config
        per_stage = {"search": 0, "sweep": 0, "confirm": 0}
        for cell, arms in self.arms.items():
            per_stage["search"] += len(arms) * config.search.networks_per_cell
            per_stage["sweep"] += len(self.sweep_networks(cell))
            if config.confirm:
                per_stage["confirm"] += len(arms) * config.confirm.seeds
        return per_stage


def make_plan(config: StudyConfig, measured: Mapping[str, MeasuredLogits] | None = None) -> Plan:
    """The plan of a study.

    Parameters
    ----------
    measured: {group_id: logits of untrained networks}, needed only where an arm asks for the
        rule `activation-measured`.

    Raises
    ------
    BadInputError: a rule has no answer for a cell.
    """
    cells = [
        Cell(dataset, noise, model, loss, tuple(config.grid.losses or ()))
        for dataset, model, noise, loss in itertools.product(
            config.grid.dataset,
            config.grid.model,
            config.grid.noise,
            [None] if isinstance(config.grid.loss, str) else config.grid.loss,
        )
    ]
    wanted = config.confirm.arms if config.confirm else ["tuned"]
    if "ce" in wanted:
        # Plain CE is one cell a (data set, noise, model); every other cell there compares with it.
        baselines = [Cell(c.dataset, c.noise, c.model, LossChoice(name="ce")) for c in cells]
        there = {c.cell_id for c in cells}
        cells += [b for b in dict.fromkeys(baselines) if b.cell_id not in there]
    analytic = {c: _analytic(c, config, wanted, measured or {}) for c in cells}
    return Plan(config, {c: tuple(_arms(c, wanted, analytic[c])) for c in cells}, analytic)


def needs_measured_logits(config: StudyConfig) -> bool:
    """Whether some arm's ε follows from the real network's initial logits."""
    return config.confirm is not None and "analytic:activation-measured" in config.confirm.arms


def cohort_spec(config: StudyConfig, networks: list[Network]) -> cohort.CohortSpec:
    """What a worker is sent to train `networks` (of one group, stage and seed) side by side."""
    first = networks[0]
    recipe = config.recipe
    rungs = config.search.rungs if first.stage == "search" else []
    return cohort.CohortSpec(
        data=data_spec(first.cell.dataset),
        model=cohort.ModelSpec(
            first.cell.model.name, first.cell.model.options, first.cell.model.init
        ),
        recipe=cohort.Recipe(**recipe.model_dump(exclude={"weight_decay"})),
        members=[
            cohort.Member(
                network_id=n.network_id,
                loss=n.loss.name,
                loss_params=n.loss.params,
                lr=n.lr,
                epsilon=n.epsilon,
                rescale=n.rescale,
                weight_decay=recipe.weight_decay,
                weight_l1=n.loss.weight_l1,
                noise_kind=n.cell.noise.kind,
                noise_rate=n.cell.noise.rate,
                noise_options=n.cell.noise.options,
                noise_seed=replicate_seed(config, n.seed, "noise"),
                init_seed=replicate_seed(config, n.seed, "init"),
                bracket=f"{n.cell.cell_id} {n.arm}" if rungs else None,
            )
            for n in networks
        ],
        order_seed=replicate_seed(config, first.seed, "order"),
        reads_test=first.stage == "confirm",
        rungs=[cohort.Rung(rung.epoch, rung.keep) for rung in rungs],
        prune_metric=config.search.value_column,
    )


def data_spec(dataset: DatasetChoice) -> cohort.DataSpec:
    """A study file's data set as a worker loads it."""
    return cohort.DataSpec(dataset.name, dataset.classes, dataset.root, dataset.options)


def replicate_seed(config: StudyConfig, seed: int, what: str) -> int:
    """The seed of replicate `seed` for `what` (noise | init | order).

    It does not depend on cell, arm or ε: networks of one replicate are paired.
    """
    return derive(config.seed, seed, what)


def identity_columns(config: StudyConfig, network: Network) -> dict[str, Any]:
    """The columns of `trials` that are known before the network is trained."""
    return {
        "study": config.name,
        "stage": network.stage,
        "cell_id": network.cell.cell_id,
        "network_id": network.network_id,
        "point": network.point,
        "arm": network.arm,
        "rule": network.rule,
        "dataset": network.cell.dataset.label,
        "model": network.cell.model.label,
        "loss": network.loss.name,
        "loss_params": network.loss.params_json,
        "epsilon": network.epsilon,
        "rescale": network.rescale,
        "lr": network.lr,
        "weight_decay": config.recipe.weight_decay,
        "noise_kind": network.cell.noise.kind,
        "noise_rate_asked": network.cell.noise.rate,
        "seed": network.seed,
        "noise_seed": replicate_seed(config, network.seed, "noise"),
        "init_seed": replicate_seed(config, network.seed, "init"),
        "order_seed": replicate_seed(config, network.seed, "order"),
    }


def _analytic(
    cell: Cell, config: StudyConfig, wanted: list[str], measured: Mapping[str, MeasuredLogits]
) -> dict[str, float]:
    """{rule: ε} for every rule that an arm of this cell names."""
    rules = [arm.partition(":")[2] for arm in wanted if arm.startswith("analytic:")]
    biased = [loss for loss in cell.losses if loss.takes_epsilon]
    if not (rules and biased):
        return {}
    if "gradient" in rules and len(biased) > 1:
        raise BadInputError(
            f"{cell.cell_id}: analytic:gradient follows from one loss; allowed with loss: joint "
            "are activation, activation-measured, shift"
        )
    try:
        rows = analytic_rules(
            cell.classes,
            loss=biased[0].name,
            params=biased[0].params,
            rules=rules,
            target=config.logit_bias.target,
            measured=measured.get(cell.group_id),
        )
    except ValueError as error:
        raise BadInputError(f"{cell.cell_id}: {error}") from error
    return {row.rule: row.value for row in rows if row.value is not None}


def _arms(cell: Cell, wanted: list[str], analytic: Mapping[str, float]) -> list[Arm]:
    if not cell.takes_epsilon:
        # Without a logit bias there is one thing to tune: the learning rate.
        plain_ce = cell.loss is not None and cell.loss.name == "ce"
        return [Arm("ce" if plain_ce else "tuned", epsilon=0.0)]
    arms = []
    for name in wanted:
        if name == "tuned":
            arms.append(Arm(name, epsilon=None))
        elif name == "zero":
            arms.append(Arm(name, epsilon=0.0))
        elif name in ("half", "double"):
            factor = {"half": 0.5, "double": 2.0}[name]
            arms.append(Arm(name, epsilon=factor * next(iter(analytic.values()))))
        elif name == "rescale":
            if all(losses.get(loss.name).of_probability for loss in cell.losses):
                arms.append(Arm(name, epsilon=0.0, rescale=rescale_factor(cell.classes)))
        elif name.startswith("analytic:"):
            rule = name.partition(":")[2]
            arms.append(Arm(name, epsilon=analytic[rule], rule=rule))
    return arms
