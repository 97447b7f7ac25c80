"""Which networks to train next: the state of a study between planned and trained.

A scheduler uses neither Ray nor files. It is created from the rows on storage; `next_cohort` gives
work, `tell` takes results. The stages of each cell follow one another as soon as they can: search,
then confirm, which needs the search's choices. The sweep depends on nothing and fills idle workers;
pooled arms (`study.planning.confirm`) wait for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.planning.cells import Cell, Network
from study.planning.confirm import ConfirmStage
from study.planning.due_networks import DueNetworks
from study.planning.plan import SWEEP_SEEDS_FROM, Plan
from study.planning.search import ArmSearch, ReplayError
from study.planning.search_queue import SearchQueue
from study.planning.search_results import CellSearchResults
from study.results.evidence import ChoosePoints
from study.results.plan_summary import KeptPoint, SearchState
from study.results.schema import STAGES, Stage, Status
from trainables.errors import BadInputError

Row = Mapping[str, Any]
"""Columns of a row of `trials`."""

IntervalWidth = Callable[[Sequence[Row]], float | None]
"""Sweep rows of a cell → width of the 95 % interval of its best ε; None while there is none."""

SWEEP_COLUMNS = ("epsilon", "lr", "loss", "loss_params", "seed", "val_acc_noisy", "val_acc_clean")
"""The columns of each row that `IntervalWidth` receives."""

_SMALLEST_SHARE = 4
"""Fewer networks at once take as long: the last networks of a study are not spread further."""

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
    """The state of a study. A cohort costs the same however large the study is.

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
        networks_planned: networks per stage; a budget in hours or an interval may still change
            them.

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
        self._search_results = {cell: CellSearchResults(cell) for cell in plan.cells}
        self._sweep = {cell: plan.sweep_networks(cell) for cell in plan.cells}
        self._sweep_rows: dict[Cell, list[Row]] = {cell: [] for cell in plan.cells}
        self._interval_width = interval_width
        self._confirm = ConfirmStage(plan, self._searches, choose_points)
        self._in_flight: dict[str, Cohort] = {}
        self._done: set[str] = set()  # ids of networks with a row
        self._done_of_stage: Counter[Stage] = Counter()
        self._search_s = 0.0  # training time of search cohorts
        self._is_closed = False  # whether the search's hours are used up
        self._begun = [tuple(ids) for ids in begun]
        self.cohorts_done = 0
        self._replay(rows)
        self._queue = SearchQueue(self.searches)
        self._due = DueNetworks()
        self._searches_left = {
            cell: sum(not s.is_done for s in searches) for cell, searches in self._searches.items()
        }
        self._sweep_left: dict[Cell, int] = {}  # networks of the sweep without a row
        self._finished: list[Cell] = []  # cells in which the searches or the sweep came to an end
        self._has_choices: set[Cell] = set()  # cells whose confirm networks of each kind were due
        self._has_pooled: set[Cell] = set()
        for cell in plan.cells:
            self._add_sweep(cell, self._sweep[cell])
        self._finished = list(plan.cells)
        self._close_search()
        self._count_planned()

    @property
    def networks_total(self) -> int:
        """Number of networks of the whole study, in the stages that are run."""
        return sum(self.networks_planned[stage] for stage in self._stages)

    @property
    def networks_done(self) -> int:
        """Number of networks with a row, in the stages that are run.

        Those of a choice that a search has given up since it grew do not count.
        """
        superseded = self._confirm.superseded if Stage.CONFIRM in self._stages else 0
        return sum(self._done_of_stage[stage] for stage in self._stages) - superseded

    @property
    def superseded(self) -> int:
        """Confirm networks with a row that the searches, since they grew, no longer choose."""
        return self._confirm.superseded

    @property
    def kept_points(self) -> tuple[KeptPoint, ...]:
        """Pooled arms with rows that all evidence of a grown study would place elsewhere."""
        return tuple(self._confirm.kept_points)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train and nothing is in flight."""
        if self._in_flight or (Stage.SEARCH in self._stages and not self._queue.is_done):
            return False
        self._follow_up()
        return not self._due.count(self._stages)

    @property
    def missing_stages(self) -> list[Stage]:
        """Unfinished stages that confirm needs, but that are not to run."""
        if Stage.CONFIRM not in self._stages or self.plan.config.confirm is None:
            return []
        self._follow_up()
        unfinished = []
        if not self._queue.is_done:
            unfinished.append(Stage.SEARCH)
        if self.plan.config.has_best and any(self._sweep_left.values()):
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
        return {
            cell.cell_id: results.state(sum(s.points_planned for s in self._searches[cell]))
            for cell, results in self._search_results.items()
        }

    def next_cohort(self) -> Cohort | None:
        """Networks to train now, or None while everything due is in flight.

        Stages are tried in the order search, confirm, sweep. The sweep depends on no other stage,
        so it uses workers that would otherwise be idle.
        """
        self._follow_up()
        for ids in self._begun:  # a later round of a search can only follow an earlier one
            if networks := self._resume(ids):
                self._begun.remove(ids)
                return self._dispatch(networks)
        self._begun = []
        for stage in sorted(self._stages, key=_PRIORITY.index):
            if stage == Stage.SEARCH:
                networks = self._propose()
            else:
                networks = self._due.take(stage, self._share(self._due.count(self._stages)))
            if networks:
                return self._dispatch(networks)
        return None

    def tell(self, cohort_id: str, results: Mapping[str, Row]) -> None:
        """Record the results of a cohort whose rows are on storage.

        Args:
            cohort_id: a cohort in flight.
            results: {network_id: columns of its row}.
        """
        cohort = self._in_flight.pop(cohort_id)
        self.cohorts_done += 1
        for network in cohort.networks:
            row = results[network.network_id]
            self._done.add(network.network_id)
            if network.stage == Stage.SEARCH:
                self._tell_search(network, row)
            elif network.stage == Stage.SWEEP:
                self._keep_sweep_row(network.cell, network.network_id, _swept(network, row))
                self._sweep_left[network.cell] -= 1
                if not self._sweep_left[network.cell]:
                    self._finished.append(network.cell)
        self._done_of_stage[cohort.stage] += len(cohort.networks)
        self._close_search()

    def requeue(self, cohort_id: str) -> None:
        """Return a cohort that was not trained: its networks become due again."""
        cohort = self._in_flight.pop(cohort_id)
        if cohort.stage != Stage.SEARCH:
            self._due.add(cohort.networks)
            return
        for network in cohort.networks:
            search = self._search_of(network)
            search.withdraw(network)
            self._queue.update(search)

    def _dispatch(self, networks: list[Network]) -> Cohort:
        stage = networks[0].stage
        ids = "".join(n.network_id for n in networks)
        cohort_id = f"{stage}-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"
        cohort = Cohort(cohort_id, stage, networks)
        self._in_flight[cohort_id] = cohort
        return cohort

    def _resume(self, ids: Sequence[str]) -> list[Network]:
        """The networks with these ids if all of them are due, and due together; else none."""
        if networks := self._due.take_all(ids):
            return networks
        if Stage.SEARCH not in self._stages or not ids[0].startswith(Stage.SEARCH):
            return []
        rounds = [(s, s.next_round()) for s in self.searches if s.can_propose]
        matches = [s for s, networks in rounds if {n.network_id for n in networks} <= set(ids)]
        networks_by_id = {n.network_id: n for s in matches for n in s.next_round()}
        if networks_by_id.keys() != set(ids):
            return []
        for search in matches:
            self._propose_round(search)
        return [networks_by_id[i] for i in ids]

    def _propose(self) -> list[Network]:
        """One round of every free search of a group, the least advanced one first.

        A group's searches are spread over the workers. This does not change the points that any
        of them proposes.
        """
        group = self._queue.next_group()
        if group is None:
            return []
        at_a_time = self.plan.config.search.rounds_in_flight
        each = self.plan.config.search.points_per_round
        size = self._share(at_a_time * each * self._queue.active_of(group))
        proposed: list[Network] = []
        chosen: set[int] = set()  # a search gives one round to a cohort
        while (search := self._queue.next_search(group)) and id(search) not in chosen:
            # A round larger than a fair share is still dispatched as a whole.
            if proposed and len(proposed) + search.round_size > size:
                break
            chosen.add(id(search))
            proposed += self._propose_round(search)
        return sorted(proposed, key=lambda network: network.seed)  # same batches side by side

    def _propose_round(self, search: ArmSearch) -> list[Network]:
        networks = search.propose()
        self._queue.update(search)
        return networks

    def _tell_search(self, network: Network, row: Row) -> None:
        value = row[self.plan.config.search.value_column]
        search = self._search_of(network)
        was_done = search.is_done
        search.tell(network, value, row["epochs"], Status(row["status"]))
        self._search_results[network.cell].add(network, value, Status(row["status"]))
        self._search_s += row["wall_s"] / row["networks_in_cohort"]
        self._queue.update(search)
        if search.is_done and not was_done:
            self._end_search(network.cell)

    def _end_search(self, cell: Cell) -> None:
        self._searches_left[cell] -= 1
        if not self._searches_left[cell]:
            self._finished.append(cell)

    def _close_search(self) -> None:
        """End the search when its hours are used up, with equally many rounds in every arm."""
        hours = self.plan.config.search.worker_hours
        if self._is_closed or hours is None or self._search_s < 3600 * hours:
            return
        self._is_closed = True
        begun = max(s.rounds_begun for s in self.searches)
        for search in self.searches:
            was_done = search.is_done
            search.close(begun)
            self._queue.update(search)
            if search.is_done and not was_done:
                self._end_search(search.cell)
        self._count_planned()

    def _count_planned(self) -> None:
        self.networks_planned = {
            Stage.SEARCH: sum(s.points_planned for s in self.searches),
            Stage.SWEEP: sum(len(networks) for networks in self._sweep.values()),
            Stage.CONFIRM: sum(map(self.plan.confirm_networks, self.plan.cells)),
        }

    def _follow_up(self) -> None:
        """Make due what follows from searches and sweeps that have come to an end."""
        while self._finished:
            cell = self._finished.pop(0)
            if not self._sweep_left[cell]:
                self._grow_sweep(cell)
            if self.plan.config.confirm is None or Stage.CONFIRM not in self._stages:
                continue
            if self._searches_left[cell]:
                continue
            if cell not in self._has_choices:
                self._has_choices.add(cell)
                self._add_due(self._confirm.choices(cell))
            is_complete = self.plan.config.has_best and not self._sweep_left[cell]
            if is_complete and cell not in self._has_pooled:
                self._has_pooled.add(cell)
                self._add_due(self._confirm.pooled(cell, self._sweep[cell]))

    def _add_due(self, networks: Iterable[Network]) -> None:
        self._due.add(n for n in networks if n.network_id not in self._done)

    def _add_sweep(self, cell: Cell, networks: Sequence[Network]) -> None:
        left = [n for n in networks if n.network_id not in self._done]
        self._due.add(left)
        self._sweep_left[cell] = len(left)

    def _keep_sweep_row(self, cell: Cell, network_id: str, row: Row) -> None:
        """Keep what the cell's interval or its pooled arms are computed from."""
        self._confirm.add_sweep_row(network_id, row)
        sweep = self.plan.config.sweep
        if sweep is not None and sweep.until_interval is not None:
            self._sweep_rows[cell].append({name: row[name] for name in SWEEP_COLUMNS})

    def _grow_sweep(self, cell: Cell) -> None:
        """Add a seed to a trained sweep if its interval is too wide."""
        sweep, networks = self.plan.config.sweep, self._sweep[cell]
        if sweep is None or sweep.until_interval is None or not networks:
            return
        seeds = networks[-1].seed - SWEEP_SEEDS_FROM + 1
        if self._interval_width is None or seeds >= sweep.most_seeds:
            return
        width = self._interval_width(self._sweep_rows[cell])
        if width is None or width > sweep.until_interval:
            added = self.plan.sweep_networks(cell, [SWEEP_SEEDS_FROM + seeds])
            self._sweep[cell] += added
            self._add_sweep(cell, added)
            self._count_planned()

    def _share(self, networks: int) -> int:
        """Cohort size that spreads `networks` over the workers."""
        return min(self._largest, max(_SMALLEST_SHARE, -(-networks // self._workers)))

    def _search_of(self, network: Network) -> ArmSearch:
        return self._search_at[network.cell.cell_id, network.arm or "", network.seed]

    def _replay(self, rows: Iterable[Row]) -> None:
        """Rebuild every search, and everything that follows from it, from rows."""
        cells = {cell.cell_id: cell for cell in self.plan.cells}
        points: dict[tuple[str, str, int], dict[int, Row]] = {}
        for row in rows:
            if row["network_id"] in self._done:
                continue
            stage = Stage(row["stage"])
            self._done.add(row["network_id"])
            self._done_of_stage[stage] += 1
            if stage == Stage.SWEEP and row["cell_id"] in cells:
                self._keep_sweep_row(cells[row["cell_id"]], row["network_id"], row)
            if stage == Stage.CONFIRM and not self._confirm.restore(row):
                raise StudyMismatchError(
                    f"rows of cell {row['cell_id']}, arm {row['arm']}: {row['network_id']} does "
                    "not belong to this study file"
                )
            if stage == Stage.SEARCH:
                self._search_s += row["wall_s"] / row["networks_in_cohort"]
                arm_points = points.setdefault((row["cell_id"], row["arm"], row["seed"]), {})
                arm_points[row["point"]] = row
        for (cell_id, arm, seed), arm_points in points.items():
            search = self._search_at.get((cell_id, arm, seed))
            try:
                if search is None:
                    raise ReplayError("it does not belong to this study file")
                search.replay(arm_points)
            except ReplayError as error:
                raise StudyMismatchError(f"rows of cell {cell_id}, arm {arm}: {error}") from error
            for point in search.completed:
                self._search_results[search.cell].add(point.network, point.value, point.status)
        self._restore_sweep_seeds()

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
        ArmSearch(
            plan.config,
            cell,
            arm,
            i,
            len(arms),
            plan.analytic.get(cell),
            replicate,
            plan.first_budget(cell, replicate),
        )
        for replicate in plan.replicates
        for i, arm in enumerate(arms)
    ]


def _swept(network: Network, row: Row) -> Row:
    """A result of the sweep with the columns of `SWEEP_COLUMNS`."""
    settings = {"epsilon": network.epsilon, "lr": network.lr, "seed": network.seed}
    loss = {"loss": network.loss.name, "loss_params": network.loss.params_json}
    return {**row, **settings, **loss}
