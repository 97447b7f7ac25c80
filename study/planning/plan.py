"""From a study file to cells, arms and networks. Pure: nothing is trained or written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from study.config.choices import LossChoice
from study.config.sections import StudyConfig
from study.planning.cells import Cell, Network, PlannedArm
from study.results.arms import ARM_KINDS, CE, TUNED, Arm, ArmContext
from study.results.schema import Stage
from trainables import losses
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits
from trainables.theory.rules import analytic_rules

SEARCH_SEED = 0
SWEEP_SEEDS_FROM = 1_000
CONFIRM_SEEDS_FROM = 1_000_000
"""First `seed` of each stage: no stage uses a seed of another. Replicate r searches with seed r."""

_REPLICATE_SEEDS_FROM = 2_000_000
_SEEDS_PER_REPLICATE = 1_000

MEASURED_RULE = "activation-measured"
_OF_LOGITS = (MEASURED_RULE, "gradient")  # rules that use measured logits where there are some

KeptEpsilons = Mapping[str, Mapping[str, float]]
"""{cell_id: {rule: ε}} of the rules that use measured logits, as the first run measured them."""


@dataclass(frozen=True)
class Plan:
    """A study's cells with their arms.

    Attributes:
        config: the study.
        arms: the arms of each cell, in the order of the study file.
        analytic: {rule: ε} of each cell, for the rules that the study's arms name.
        first_budgets: {(cell_id, replicate): `networks_per_cell` of the study file that first
            planned this search}; empty where the study has one study file.
    """

    config: StudyConfig
    arms: Mapping[Cell, tuple[PlannedArm, ...]]
    analytic: Mapping[Cell, Mapping[str, float]] = field(default_factory=dict)
    first_budgets: Mapping[tuple[str, int | None], int] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order of the study file."""
        return list(self.arms)

    def epsilon_grid(self, cell: Cell) -> list[float]:
        """The sweep's ε values, ascending: evenly spaced values, 0 and every analytic ε.

        With the arm `best`, the ε of every arm that fixes one is in it. An evenly spaced value that
        nearly coincides with one of these is left out.
        """
        sweep, search = self.config.sweep, self.config.search
        if sweep is None or not cell.takes_epsilon:
            return []
        exact = sorted({0.0, *self.analytic[cell].values(), *self._pooled_epsilons(cell)})
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
            seeds: the column `seed`; None for the seeds that the study file requests.
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

    @property
    def replicates(self) -> tuple[int | None, ...]:
        """Numbers of the searches of every arm; a single None in a study without `best`."""
        return _replicates(self.config)

    @property
    def has_grown(self) -> bool:
        """Whether the study was begun with another study file."""
        return bool(self.first_budgets)

    def first_budget(self, cell: Cell, replicate: int | None) -> int:
        """The `networks_per_cell` with which the points of a search are numbered.

        It is that of the study file which first planned the search: a search that grows keeps the
        numbers of its points, and with them their networks' ids.
        """
        budget = self.config.search.networks_per_cell
        return self.first_budgets.get((cell.cell_id, replicate), budget)

    @property
    def confirm_seeds(self) -> range:
        """Seeds of the pooled arms."""
        confirm = self.config.confirm
        return range(CONFIRM_SEEDS_FROM, CONFIRM_SEEDS_FROM + (confirm.seeds if confirm else 0))

    def replicate_seeds(self, replicate: int) -> range:
        """Seeds on which the choices of one replicate of the search are confirmed."""
        first = _REPLICATE_SEEDS_FROM + _SEEDS_PER_REPLICATE * replicate
        confirm = self.config.confirm
        return range(first, first + (confirm.replicate_seeds if confirm else 0))

    def searched_arms(self, cell: Cell) -> list[PlannedArm]:
        """The arms of a cell that have searches of their own."""
        return [arm for arm in self.arms[cell] if arm.is_searched]

    def search_points(self, cell: Cell) -> int:
        """Number of search points of a cell: all arms, all replicates."""
        searches = len(self.searched_arms(cell)) * len(self.replicates)
        return searches * self.config.search.networks_per_cell

    def confirm_networks(self, cell: Cell) -> int:
        """Number of networks that confirm trains in a cell."""
        arms = self.arms[cell]
        of_replicates = sum(len(self.replicate_seeds(r)) for r in self.replicates if r is not None)
        pooled = len(self.confirm_seeds) * sum(arm.is_pooled for arm in arms)
        return pooled + of_replicates * sum(arm.is_replicated for arm in arms)

    def networks(self) -> dict[Stage, int]:
        """Number of networks per stage."""
        return {
            Stage.SEARCH: sum(map(self.search_points, self.arms)),
            Stage.SWEEP: sum(len(self.sweep_networks(cell)) for cell in self.arms),
            Stage.CONFIRM: sum(map(self.confirm_networks, self.arms)),
        }

    def _pooled_epsilons(self, cell: Cell) -> list[float]:
        """The ε that are fixed by arms whose learning rate comes from the sweep too."""
        if not self.config.has_best:
            return []
        arms = [arm for arm in self.arms[cell] if arm.is_pooled and arm.rescale is None]
        return [arm.epsilon for arm in arms if arm.epsilon is not None]


def make_plan(
    config: StudyConfig,
    measured: Mapping[str, MeasuredLogits] | None = None,
    earlier: Sequence[StudyConfig] = (),
    kept: KeptEpsilons | None = None,
) -> Plan:
    """The plan of a study.

    Args:
        config: the study.
        measured: {group_id: logits of untrained networks}; needed for the cells in
            `cells_to_measure`.
        earlier: what its study file said in earlier runs, the oldest first.
        kept: what the first run measured.

    Raises:
        BadInputError: a rule has no answer for a cell.
    """
    cells, arms = planned_cells(config), _parsed_arms(config)
    analytic = {c: _analytic_epsilons(c, config, arms, measured or {}, kept or {}) for c in cells}
    planned = {
        c: tuple(_planned_arms(c, arms, analytic[c], has_best=config.has_best)) for c in cells
    }
    others = [other for other in earlier if _grown(other) != _grown(config)]
    budgets = _first_budgets([*others, config]) if others else {}
    return Plan(config, planned, analytic, budgets)


def planned_cells(config: StudyConfig) -> list[Cell]:
    """The cells of a study: those of the grid, then those of plain cross-entropy."""
    cells = [
        Cell(dataset, noise, model, loss, tuple(config.grid.losses or ()))
        for dataset, model, noise, loss in itertools.product(
            config.grid.dataset,
            config.grid.model,
            config.grid.noise,
            [None] if isinstance(config.grid.loss, str) else config.grid.loss,
        )
    ]
    if Arm(CE) in _parsed_arms(config):
        # Cross-entropy has one cell per (data set, noise, model), with which others are compared.
        baselines = [Cell(c.dataset, c.noise, c.model, LossChoice(name="ce")) for c in cells]
        planned_ids = {c.cell_id for c in cells}
        cells += [b for b in dict.fromkeys(baselines) if b.cell_id not in planned_ids]
    return cells


def rules_of_logits(config: StudyConfig) -> set[str]:
    """The rules of a study that use the real network's initial logits."""
    arms = config.confirm.parsed_arms if config.confirm else []
    rules = {arm.rule for arm in arms if arm.rule in _OF_LOGITS}
    return rules if MEASURED_RULE in rules else set()


def cells_to_measure(config: StudyConfig, kept: KeptEpsilons) -> list[Cell]:
    """Cells with an ε that follows from the real network's initial logits and is not in `kept`."""
    rules = rules_of_logits(config)
    cells = [cell for cell in planned_cells(config) if cell.takes_epsilon]
    return [cell for cell in cells if not rules <= kept.get(cell.cell_id, {}).keys()]


def _parsed_arms(config: StudyConfig) -> Sequence[Arm]:
    return config.confirm.parsed_arms if config.confirm else [Arm(TUNED)]


def _replicates(config: StudyConfig) -> tuple[int | None, ...]:
    return tuple(range(config.search.replicates)) if config.has_best else (None,)


def _grown(config: StudyConfig) -> tuple[object, ...]:
    """The sections in which a study may grow."""
    return config.grid, config.search, config.sweep, config.confirm


def _first_budgets(configs: Sequence[StudyConfig]) -> dict[tuple[str, int | None], int]:
    """As `Plan.first_budgets`; the oldest study file comes first."""
    budgets: dict[tuple[str, int | None], int] = {}
    for config in configs:
        for cell in planned_cells(config):
            for replicate in _replicates(config):
                key = (cell.cell_id, replicate)
                budgets.setdefault(key, config.search.networks_per_cell)
    return budgets


def _analytic_epsilons(
    cell: Cell,
    config: StudyConfig,
    arms: Sequence[Arm],
    measured: Mapping[str, MeasuredLogits],
    kept: KeptEpsilons,
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
    known = kept.get(cell.cell_id, {}) if MEASURED_RULE in rules else {}
    try:
        values = analytic_rules(
            cell.classes,
            loss=biased[0].name,
            params=biased[0].params,
            rules=[rule for rule in rules if rule not in known],
            target=config.logit_bias.target,
            measured=measured.get(cell.group_id),
        )
    except ValueError as error:
        raise BadInputError(f"{cell.cell_id}: {error}") from error
    epsilons = {rule.rule: rule.value for rule in values if rule.value is not None} | dict(known)
    return {rule: epsilons[rule] for rule in rules if rule in epsilons}


def _planned_arms(
    cell: Cell, arms: Sequence[Arm], analytic: Mapping[str, float], *, has_best: bool
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
    planned = [
        PlannedArm(arm, choice.epsilon, choice.rescale)
        for arm, choice in choices
        if choice is not None
    ]
    return [_with_replicates(arm) for arm in planned] if has_best else planned


def _with_replicates(planned: PlannedArm) -> PlannedArm:
    """The arm as a study with the arm `best` treats it."""
    kind = ARM_KINDS[planned.arm.kind]
    return replace(
        planned,
        is_searched=kind.is_searched,
        is_pooled=kind.is_pooled,
        is_replicated=kind.is_replicated,
    )
