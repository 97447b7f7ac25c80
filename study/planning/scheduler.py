"""Which networks to train next: the state of a study between planned and trained.

A scheduler uses neither Ray nor files. It is created from the rows on storage; `next_cohort` gives
work, `tell` takes results. The stages of each cell follow one another as soon as they can: search,
then confirm, which needs the search's choices. The sweep depends on nothing and fills idle workers;
pooled arms (`study.planning.confirm`) wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.planning.cells import Cell, Network
from study.planning.cohort_specs import identity_columns
from study.planning.confirm import ConfirmStage
from study.planning.plan import SWEEP_SEEDS_FROM, Plan
from study.planning.search import ArmSearch, CompletedPoint, ReplayError
from study.results.evidence import ChoosePoints
from study.results.plan_summary import SearchPoint, SearchState, best_point
from study.results.schema import STAGES, Stage, Status
from trainables.errors import BadInputError

Row = Mapping[str, Any]
"""Columns of a row of `trials`."""

IntervalWidth = Callable[[Sequence[Row]], float | None]
"""Sweep rows of a cell → width of the 95 % interval of its best ε; None while there is none."""

SWEEP_COLUMNS = (
    *("epsilon", "lr", "loss", "loss_params", "seed"),
    *("val_acc_noisy", "val_acc_clean"),
)
"""The columns of each row that `IntervalWidth` receives."""

_PRIORITY = (Stage.SEARCH, Stage.CONFIRM, Stage.SWEEP)


@dataclass(frozen=True)
class Cohort:
    """Networks of one group and stage, to be trained together.

    Attributes:
        cohort_id: the stage and a hash of the networks' ids.
        stage: their stage.
        networks: the networks.
    """

    cohort_id: str
    stage: Stage
    networks: list[Network]


class StudyMismatchError(BadInputError):
    """The study folder holds rows that this study file would not have produced."""


class Scheduler:
    """The state of a study.

    Args:
        plan: the study's plan.
        rows: rows of `trials` from earlier runs, in any order.
        workers: number of cohorts that can train at a time; the due networks of a group are
            spread over them.
        largest_cohort: largest number of networks in one cohort.
        stages: stages to run; the others are left unchanged.
        interval_width: needed where the sweep continues until an interval is narrow.
        choose_points: needed where a study with the arm `best` runs its confirm stage.
        begun: network ids of each cohort that an earlier run began and kept a checkpoint of;
            these cohorts are formed again first.

    Attributes:
        plan: the study's plan.
        cohorts_done: number of cohorts trained in this run.

    Raises:
        StudyMismatchError: `rows` do not belong to this plan.
    """

    def __init__(
        self,
        plan: Plan,
        rows: Iterable[Row] = (),
        *,
        workers: int = 1,
        largest_cohort: int = 32,
        stages: Iterable[Stage] = STAGES,
        interval_width: IntervalWidth | None = None,
        choose_points: ChoosePoints | None = None,
        begun: Iterable[Sequence[str]] = (),
    ) -> None:
        self.plan = plan
        self._workers, self._largest = max(1, workers), largest_cohort
        self._stages = tuple(stages)
        self._searches = {cell: _searches(plan, cell) for cell in plan.cells}
        self._search_at = {(s.cell.cell_id, s.arm.name, s.seed): s for s in self.searches}
        self._sweep = {cell: plan.sweep_networks(cell) for cell in plan.cells}
        self._sweep_rows: dict[Cell, list[Row]] = {cell: [] for cell in plan.cells}
        self._interval_width = interval_width
        self._widths: dict[tuple[Cell, int], float | None] = {}  # by cell and number of seeds
        self._confirm = ConfirmStage(plan, self._searches, choose_points)
        self._in_flight: dict[str, Cohort] = {}
        self._busy: set[str] = set()  # network ids in flight
        self._done: dict[str, Stage] = {}  # stage of each network id with a row
        self._search_s = 0.0  # training time of search cohorts
        self._begun = [tuple(ids) for ids in begun]
        self.cohorts_done = 0
        self._replay(rows)

    @property
    def networks_planned(self) -> dict[Stage, int]:
        """Networks per stage; a budget in hours or an interval may still change them."""
        return {
            Stage.SEARCH: sum(s.points_planned for s in self.searches),
            Stage.SWEEP: sum(len(networks) for networks in self._sweep.values()),
            Stage.CONFIRM: sum(map(self.plan.confirm_networks, self.plan.cells)),
        }

    @property
    def networks_total(self) -> int:
        """Number of networks of the whole study, in the stages that are run."""
        return sum(n for stage, n in self.networks_planned.items() if stage in self._stages)

    @property
    def networks_done(self) -> int:
        """Number of networks with a row, in the stages that are run."""
        return sum(1 for stage in self._done.values() if stage in self._stages)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train and nothing is in flight."""
        searching = Stage.SEARCH in self._stages and not all(s.is_done for s in self.searches)
        due = any(self._due(stage) for stage in self._stages if stage != Stage.SEARCH)
        return not (self._in_flight or searching or due)

    @property
    def missing_stages(self) -> list[Stage]:
        """Unfinished stages that confirm needs, but that are not to run."""
        if Stage.CONFIRM not in self._stages or self.plan.config.confirm is None:
            return []
        unfinished = []
        if not all(s.is_done for s in self.searches):
            unfinished.append(Stage.SEARCH)
        if self.plan.config.has_best and not all(map(self._sweep_is_done, self.plan.cells)):
            unfinished.append(Stage.SWEEP)
        return [stage for stage in unfinished if stage not in self._stages]

    @property
    def in_flight(self) -> list[Cohort]:
        """Cohorts in training."""
        return list(self._in_flight.values())

    @property
    def searches(self) -> list[ArmSearch]:
        """The searches of every arm, cell by cell."""
        return [search for searches in self._searches.values() for search in searches]

    def search_state(self) -> dict[str, SearchState]:
        """{cell_id: progress of the cell's search}, all arms together."""
        state = {}
        for cell, searches in self._searches.items():
            completed = [point for s in searches for point in s.completed]
            state[cell.cell_id] = SearchState(
                completed=len(completed),
                planned=sum(s.points_planned for s in searches),
                best=best_point(
                    _search_point(point) for point in completed if point.status != Status.PRUNED
                ),
            )
        return state

    def next_cohort(self) -> Cohort | None:
        """Networks to train now, or None while everything due is in flight.

        Stages are tried in the order search, confirm, sweep. The sweep depends on no other stage,
        so it uses workers that would otherwise be idle.
        """
        for ids in self._begun:  # a later round of a search can only follow an earlier one
            if networks := self._resume(ids):
                self._begun.remove(ids)
                return self._dispatch(networks)
        self._begun = []
        for stage in sorted(self._stages, key=_PRIORITY.index):
            networks = self._propose() if stage == Stage.SEARCH else self._choose(stage)
            if networks:
                return self._dispatch(networks)
        return None

    def tell(self, cohort_id: str, results: Mapping[str, Row]) -> None:
        """Record the results of a cohort whose rows are on storage.

        Args:
            cohort_id: a cohort in flight.
            results: {network_id: columns of its row}.
        """
        column = self.plan.config.search.value_column
        cohort = self._in_flight.pop(cohort_id)
        self.cohorts_done += 1
        for network in cohort.networks:
            row = results[network.network_id]
            self._busy.discard(network.network_id)
            self._done[network.network_id] = network.stage
            if network.stage == Stage.SEARCH:
                search = self._search_of(network)
                search.tell(network, row[column], row["epochs"], Status(row["status"]))
                self._search_s += row["wall_s"] / row["networks_in_cohort"]
            elif network.stage == Stage.SWEEP:
                identity = identity_columns(self.plan.config, network)
                self._keep_sweep_row(network.cell, {**identity, **row})
        self._close_search()

    def requeue(self, cohort_id: str) -> None:
        """Return a cohort that was not trained: its networks become due again."""
        cohort = self._in_flight.pop(cohort_id)
        for network in cohort.networks:
            self._busy.discard(network.network_id)
            if network.stage == Stage.SEARCH:
                self._search_of(network).withdraw(network)

    def _dispatch(self, networks: list[Network]) -> Cohort:
        stage = networks[0].stage
        ids = "".join(n.network_id for n in networks)
        cohort_id = f"{stage}-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"
        cohort = Cohort(cohort_id, stage, networks)
        self._in_flight[cohort_id] = cohort
        self._busy |= {n.network_id for n in networks}
        return cohort

    def _resume(self, ids: Sequence[str]) -> list[Network]:
        """The networks with these ids if all of them are due, and due together; else none."""
        for stage in self._stages:
            if stage != Stage.SEARCH:
                due = {n.network_id: n for n in self._due(stage)}
                if due.keys() >= set(ids):
                    return [due[i] for i in ids]
        if Stage.SEARCH not in self._stages:
            return []
        rounds = [(s, s.next_round()) for s in self.searches if s.can_propose]
        matches = [s for s, networks in rounds if {n.network_id for n in networks} <= set(ids)]
        networks_by_id = {n.network_id: n for s in matches for n in s.next_round()}
        if networks_by_id.keys() != set(ids):
            return []
        for search in matches:
            search.propose()
        return [networks_by_id[i] for i in ids]

    def _propose(self) -> list[Network]:
        """One round of every free search of a group, the least advanced one first.

        A group's searches are spread over the workers. This does not change the points that any
        of them proposes.
        """
        active = [s for s in self.searches if not s.is_done]
        free = sorted((s for s in active if s.can_propose), key=lambda s: s.points_completed)
        if not free:
            return []
        group = free[0].cell.group_id
        at_a_time = self.plan.config.search.rounds_in_flight
        of_group = [s for s in active if s.cell.group_id == group]
        each = self.plan.config.search.points_per_round
        size = self._share(at_a_time * each * len(of_group))
        proposed: list[Network] = []
        for search in free:
            fits = len(proposed) + search.round_size <= size
            if search.cell.group_id == group and fits:
                proposed += search.propose()
        # A round larger than a fair share is still dispatched as a whole.
        return _by_seed(proposed or free[0].propose())

    def _close_search(self) -> None:
        """End the search when its hours are used up, with equally many rounds in every arm."""
        hours = self.plan.config.search.worker_hours
        if hours is not None and self._search_s >= 3600 * hours:
            begun = max(s.rounds_begun for s in self.searches)
            for search in self.searches:
                search.close(begun)

    def _keep_sweep_row(self, cell: Cell, row: Row) -> None:
        """Keep what the cell's interval or its pooled arms are computed from."""
        self._confirm.add_sweep_row(row)
        sweep = self.plan.config.sweep
        if sweep is not None and sweep.until_interval is not None:
            self._sweep_rows[cell].append({name: row[name] for name in SWEEP_COLUMNS})

    def _grow_sweep(self, cell: Cell) -> None:
        """Add a seed if all seeds so far are trained and the interval is too wide."""
        sweep, networks = self.plan.config.sweep, self._sweep[cell]
        if sweep is None or sweep.until_interval is None or not networks:
            return
        if any(n.network_id not in self._done for n in networks):
            return
        seeds = networks[-1].seed - SWEEP_SEEDS_FROM + 1
        if self._interval_width is None or seeds >= sweep.most_seeds:
            return
        if (cell, seeds) not in self._widths:
            self._widths[cell, seeds] = self._interval_width(self._sweep_rows[cell])
        width = self._widths[cell, seeds]
        if width is None or width > sweep.until_interval:
            networks += self.plan.sweep_networks(cell, [SWEEP_SEEDS_FROM + seeds])

    def _choose(self, stage: Stage) -> list[Network]:
        """Due networks of one group."""
        due = self._due(stage)
        if not due:
            return []
        group = due[0].cell.group_id
        size = self._share(sum(len(self._due(s)) for s in self._stages if s != Stage.SEARCH))
        return _by_seed(n for n in due if n.cell.group_id == group)[:size]

    def _share(self, networks: int) -> int:
        """Cohort size that spreads `networks` over the workers."""
        return min(self._largest, max(1, -(-networks // self._workers)))

    def _search_of(self, network: Network) -> ArmSearch:
        return self._search_at[network.cell.cell_id, network.arm or "", network.seed]

    def _due(self, stage: Stage) -> list[Network]:
        """Networks of the sweep or confirm stage that could start now."""
        if stage == Stage.CONFIRM:
            networks = [n for cell in self.plan.cells for n in self._confirm_networks(cell)]
        else:
            for cell in self.plan.cells:
                self._grow_sweep(cell)
            networks = [n for cell in self.plan.cells for n in self._sweep[cell]]
        begun = self._done.keys() | self._busy
        return [n for n in networks if n.network_id not in begun]

    def _confirm_networks(self, cell: Cell) -> list[Network]:
        """The cell's networks of the confirm stage that can be trained by now."""
        waits = self.plan.config.has_best and not self._sweep_is_done(cell)
        return self._confirm.networks(cell, None if waits else self._sweep[cell])

    def _sweep_is_done(self, cell: Cell) -> bool:
        self._grow_sweep(cell)
        return all(n.network_id in self._done for n in self._sweep[cell])

    def _replay(self, rows: Iterable[Row]) -> None:
        """Rebuild every search, and everything that follows from it, from rows."""
        column = self.plan.config.search.value_column
        cells = {cell.cell_id: cell for cell in self.plan.cells}
        points: dict[tuple[str, str, int], dict[int, Row]] = {}
        for row in rows:
            if row["network_id"] in self._done:
                continue
            stage = self._done[row["network_id"]] = Stage(row["stage"])
            if stage == Stage.SWEEP and row["cell_id"] in cells:
                self._keep_sweep_row(cells[row["cell_id"]], row)
            if stage == Stage.CONFIRM and not self._confirm.restore(row):
                raise StudyMismatchError(
                    f"rows of cell {row['cell_id']}, arm {row['arm']}: {row['network_id']} does "
                    "not belong to this study file"
                )
            if stage == Stage.SEARCH:
                self._search_s += row["wall_s"] / row["networks_in_cohort"]
                arm_points = points.setdefault((row["cell_id"], row["arm"], row["seed"]), {})
                arm_points[row["point"]] = {**row, "value": row[column]}
        for (cell_id, arm, seed), arm_points in points.items():
            search = self._search_at.get((cell_id, arm, seed))
            try:
                if search is None:
                    raise ReplayError("it does not belong to this study file")
                search.replay(arm_points)
            except ReplayError as error:
                raise StudyMismatchError(f"rows of cell {cell_id}, arm {arm}: {error}") from error
        self._restore_sweep_seeds()
        self._close_search()

    def _restore_sweep_seeds(self) -> None:
        """Add the seeds that earlier runs have begun to the sweeps."""
        for cell, rows in self._sweep_rows.items():
            seeds = {row["seed"] for row in rows} - {n.seed for n in self._sweep[cell]}
            if seeds:
                self._sweep[cell] += self.plan.sweep_networks(cell, sorted(seeds))


def _searches(plan: Plan, cell: Cell) -> list[ArmSearch]:
    """The searches of a cell, one replicate after the other."""
    arms = plan.searched_arms(cell)
    return [
        ArmSearch(plan.config, cell, arm, i, len(arms), plan.analytic.get(cell), replicate)
        for replicate in plan.replicates
        for i, arm in enumerate(arms)
    ]


def _by_seed(networks: Iterable[Network]) -> list[Network]:
    """Networks with the same seed, which train on the same batches, next to each other."""
    return sorted(networks, key=lambda network: network.seed)


def _search_point(point: CompletedPoint) -> SearchPoint:
    """A completed point as tables show it."""
    network = point.network
    return SearchPoint(
        number=network.point or 0,
        value=point.value,
        lr=network.lr,
        epsilon=network.epsilon if network.cell.takes_epsilon else None,
        loss=network.loss.label if network.cell.loss is None else None,
    )
