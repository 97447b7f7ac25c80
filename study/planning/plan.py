"""From a study file to cells, arms and networks. Pure: nothing is trained or written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from study.config.choices import LossChoice
from study.config.sections import StudyConfig
from study.planning.cells import Cell, Network, PlannedArm
from study.results.arms import CE, TUNED, Arm, ArmContext
from study.results.schema import Stage
from trainables import losses
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits
from trainables.theory.rules import analytic_rules

SEARCH_SEED = 0
SWEEP_SEEDS_FROM = 1_000
CONFIRM_SEEDS_FROM = 1_000_000
"""First replicate of each stage; no two stages share a replicate."""

_MEASURED_RULE = "activation-measured"


@dataclass(frozen=True)
class Plan:
    """A study's cells with their arms.

    Attributes:
        config: the study.
        arms: the arms of each cell, in the order of the study file.
        analytic: {rule: ε} of each cell, for the rules that the study's arms name.
    """

    config: StudyConfig
    arms: Mapping[Cell, tuple[PlannedArm, ...]]
    analytic: Mapping[Cell, Mapping[str, float]] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the study file."""
        return list(self.arms)

    def epsilon_grid(self, cell: Cell) -> list[float]:
        """The sweep's ε values, ascending: evenly spaced values, 0 and every analytic ε.

        An evenly spaced value that nearly coincides with 0 or an analytic ε is left out.
        """
        sweep, search = self.config.sweep, self.config.search
        if sweep is None or not cell.takes_epsilon:
            return []
        exact = sorted({0.0, *self.analytic[cell].values()})
        even = [search.epsilon.at(i / (sweep.points - 1)) for i in range(sweep.points)]
        near = 0.1 * min(b - a for a, b in itertools.pairwise(even))
        kept = [e for e in even if all(abs(e - x) > near for x in exact)]
        return sorted(kept + exact)

    def lr_grid(self) -> list[float]:
        """The sweep's learning rates: middles of `lr_points` equal slices of search.lr."""
        sweep, lr = self.config.sweep, self.config.search.lr
        if sweep is None:
            return []
        return [lr.at((i + 0.5) / sweep.lr_points) for i in range(sweep.lr_points)]

    def sweep_networks(self, cell: Cell, seeds: Iterable[int] | None = None) -> list[Network]:
        """The full factorial of ε, learning rate, loss and seed.

        Args:
            cell: the cell.
            seeds: replicates; None for those that the study file requests.
        """
        sweep = self.config.sweep
        if sweep is None:
            return []
        initial_seeds = range(SWEEP_SEEDS_FROM, SWEEP_SEEDS_FROM + sweep.seeds)
        return [
            Network(Stage.SWEEP, cell, loss, epsilon, lr, seed)
            for seed in (initial_seeds if seeds is None else seeds)
            for loss in cell.losses
            if loss.takes_epsilon
            for epsilon in self.epsilon_grid(cell)
            for lr in self.lr_grid()
        ]

    def networks(self) -> dict[Stage, int]:
        """Number of networks per stage."""
        config = self.config
        per_stage = dict.fromkeys(Stage, 0)
        for cell, arms in self.arms.items():
            per_stage[Stage.SEARCH] += len(arms) * config.search.networks_per_cell
            per_stage[Stage.SWEEP] += len(self.sweep_networks(cell))
            if config.confirm:
                per_stage[Stage.CONFIRM] += len(arms) * config.confirm.seeds
        return per_stage


def make_plan(config: StudyConfig, measured: Mapping[str, MeasuredLogits] | None = None) -> Plan:
    """The plan of a study.

    Args:
        config: the study.
        measured: {group_id: logits of untrained networks}; needed where
            `needs_measured_logits(config)`.

    Raises:
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
    arms = config.confirm.parsed_arms if config.confirm else [Arm(TUNED)]
    if Arm(CE) in arms:
        # Cross-entropy has one cell per (data set, noise, model), with which others are compared.
        baselines = [Cell(c.dataset, c.noise, c.model, LossChoice(name="ce")) for c in cells]
        planned_ids = {c.cell_id for c in cells}
        cells += [b for b in dict.fromkeys(baselines) if b.cell_id not in planned_ids]
    analytic = {c: _analytic_epsilons(c, config, arms, measured or {}) for c in cells}
    return Plan(config, {c: tuple(_planned_arms(c, arms, analytic[c])) for c in cells}, analytic)


def needs_measured_logits(config: StudyConfig) -> bool:
    """Whether an arm's ε follows from the real network's initial logits."""
    return config.confirm is not None and any(
        arm.rule == _MEASURED_RULE for arm in config.confirm.parsed_arms
    )


def _analytic_epsilons(
    cell: Cell,
    config: StudyConfig,
    arms: Sequence[Arm],
    measured: Mapping[str, MeasuredLogits],
) -> dict[str, float]:
    """{rule: ε} of every rule that an arm names; empty in a cell without a logit bias."""
    rules = [arm.rule for arm in arms if arm.rule is not None]
    biased = [loss for loss in cell.losses if loss.takes_epsilon]
    if not (rules and biased):
        return {}
    if "gradient" in rules and len(biased) > 1:
        raise BadInputError(
            f"{cell.cell_id}: analytic:gradient follows from one loss; allowed with loss: joint "
            "are activation, activation-measured, shift"
        )
    try:
        values = analytic_rules(
            cell.classes,
            loss=biased[0].name,
            params=biased[0].params,
            rules=rules,
            target=config.logit_bias.target,
            measured=measured.get(cell.group_id),
        )
    except ValueError as error:
        raise BadInputError(f"{cell.cell_id}: {error}") from error
    return {rule.rule: rule.value for rule in values if rule.value is not None}


def _planned_arms(
    cell: Cell, arms: Sequence[Arm], analytic: Mapping[str, float]
) -> list[PlannedArm]:
    if not cell.takes_epsilon:
        # Without a logit bias there is only the learning rate to tune.
        is_plain_ce = cell.loss is not None and cell.loss.name == "ce"
        return [PlannedArm(Arm(CE if is_plain_ce else TUNED), epsilon=0.0)]
    context = ArmContext(
        classes=cell.classes,
        analytic=analytic,
        of_probability=all(losses.get(loss.name).of_probability for loss in cell.losses),
    )
    choices = [(arm, arm.choose(context)) for arm in arms]
    return [
        PlannedArm(arm, choice.epsilon, choice.rescale)
        for arm, choice in choices
        if choice is not None
    ]
