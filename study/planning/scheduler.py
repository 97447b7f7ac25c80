"""Which networks to train next: cohorts from what the stages of a study have to train by now.

A scheduler uses neither Ray nor files. It is created from the rows on storage; `next_cohort` gives
work, `tell` takes results. The stages of each cell (`search_stage`, `sweep`, `confirm`) follow one
another as soon as they can: search, then confirm, which needs the search's choices. The sweep
depends on nothing and fills idle workers; pooled arms wait for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.planning.cells import Cell, Network
from study.planning.confirm import ConfirmStage
from study.planning.due_networks import DueNetworks
from study.planning.plan import Plan
from study.planning.search import ArmSearch
from study.planning.search_stage import SearchStage, StudyMismatchError
from study.planning.sweep import IntervalWidth as IntervalWidth
from study.planning.sweep import SweepStage
from study.results.evidence import ChoosePoints
from study.results.plan_summary import KeptPoint, SearchState
from study.results.schema import STAGES, Stage

Row = Mapping[str, Any]
"""Columns of a row of `trials`."""

_SMALLEST_SHARE = 4
"""Fewer networks at once take as long: the last networks of a study are not spread further."""

_SMALLEST_ON_SHARED_GPU = 32
"""Cohorts that share a GPU take turns on it. Several small ones gain nothing over one that holds
their networks, and each costs the host and Ray a start."""

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


class Scheduler:
    """The state of a study. A cohort costs the same however large the study is.

    Args:
        plan: the study's plan.
        rows: rows of `trials` from earlier runs, in any order.
        workers: number of cohorts that can train at a time; the due networks of a group are
            spread over them.
        largest_cohort: largest number of networks in one cohort.
        shared_gpus: number of GPUs that the workers share, several on each; 0 where each worker has
            a device of its own.
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
        shared_gpus: int = 0,
        stages: Iterable[Stage] = STAGES,
        interval_width: IntervalWidth | None = None,
        choose_points: ChoosePoints | None = None,
        begun: Iterable[Sequence[str]] = (),
    ) -> None:
        self.plan = plan
        self._workers, self._largest = max(1, workers), largest_cohort
        self._shared_gpus = shared_gpus
        self._stages = tuple(stages)
        self._search = SearchStage(plan)
        self._sweep = SweepStage(plan, interval_width)
        self._confirm = ConfirmStage(plan, self._search.by_cell, choose_points)
        self._due = DueNetworks()
        self._in_flight: dict[str, Cohort] = {}
        self._begun = [tuple(ids) for ids in begun]
        self._done: set[str] = set()  # ids of networks with a row
        self._done_of_stage: Counter[Stage] = Counter()
        self._has_choices: set[Cell] = set()  # cells whose confirm networks of each kind were due
        self._has_pooled: set[Cell] = set()
        self.cohorts_done = 0
        self._restore(rows)
        self._search.begin()
        self._due.add(self._sweep.begin(self._done))
        self._finished = list(plan.cells)  # cells in which the searches or the sweep have ended
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
        if self._in_flight or (Stage.SEARCH in self._stages and not self._search.is_done):
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
        if not self._search.is_done:
            unfinished.append(Stage.SEARCH)
        if self.plan.config.has_best and not self._sweep.is_done:
            unfinished.append(Stage.SWEEP)
        return [stage for stage in unfinished if stage not in self._stages]

    @property
    def in_flight(self) -> list[Cohort]:
        """Cohorts in training."""
        return list(self._in_flight.values())

    @property
    def searches(self) -> list[ArmSearch]:
        """The searches of every arm, cell by cell."""
        return self._search.searches

    def search_state(self) -> dict[str, SearchState]:
        """{cell_id: progress of the cell's search}, all arms together."""
        return self._search.state()

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
                has_ended = self._search.tell(network, row)
            elif network.stage == Stage.SWEEP:
                self._confirm.add_sweep_row(network.network_id, row)
                has_ended = self._sweep.tell(network, row)
            else:
                has_ended = False
            if has_ended:
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
            self._search.withdraw(network)

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
        return self._search.propose_again(ids)

    def _propose(self) -> list[Network]:
        """One round of the free searches of a group.

        A group's searches are spread over the workers. This does not change the points that any
        of them proposes.
        """
        group = self._search.next_group()
        if group is None:
            return []
        return self._search.propose(group, self._share(self._search.points_at_a_time(group)))

    def _close_search(self) -> None:
        """End the search when its hours are used up."""
        if self._search.is_over:
            self._finished += self._search.close()
            self._count_planned()

    def _count_planned(self) -> None:
        self.networks_planned = {
            Stage.SEARCH: self._search.networks_planned,
            Stage.SWEEP: self._sweep.networks_planned,
            Stage.CONFIRM: sum(map(self.plan.confirm_networks, self.plan.cells)),
        }

    def _follow_up(self) -> None:
        """Make due what follows from searches and sweeps that have come to an end."""
        while self._finished:
            cell = self._finished.pop(0)
            if self._sweep.is_done_in(cell) and (added := self._sweep.grow(cell)):
                self._due.add(added)
                self._count_planned()
            if self.plan.config.confirm is None or Stage.CONFIRM not in self._stages:
                continue
            if not self._search.is_done_in(cell):
                continue
            if cell not in self._has_choices:
                self._has_choices.add(cell)
                self._add_due(self._confirm.choices(cell))
            has_evidence = self.plan.config.has_best and self._sweep.is_done_in(cell)
            if has_evidence and cell not in self._has_pooled:
                self._has_pooled.add(cell)
                self._add_due(self._confirm.pooled(cell, self._sweep.networks_of(cell)))

    def _add_due(self, networks: Iterable[Network]) -> None:
        self._due.add(n for n in networks if n.network_id not in self._done)

    def _share(self, networks: int) -> int:
        """Cohort size that spreads `networks` over the workers.

        Where workers share GPUs, the networks of one GPU are spread no further than into cohorts of
        32.
        """
        share = max(_SMALLEST_SHARE, -(-networks // self._workers))
        if self._shared_gpus:
            of_gpu = -(-networks // self._shared_gpus)
            share = max(share, min(_SMALLEST_ON_SHARED_GPU, of_gpu))
        return min(self._largest, share)

    def _restore(self, rows: Iterable[Row]) -> None:
        """Give each stage its rows of earlier runs."""
        cells = {cell.cell_id: cell for cell in self.plan.cells}
        for row in rows:
            network_id, stage = row["network_id"], Stage(row["stage"])
            if network_id in self._done:
                continue
            self._done.add(network_id)
            self._done_of_stage[stage] += 1
            if stage == Stage.SEARCH:
                self._search.restore(row)
            elif stage == Stage.SWEEP:
                if row["cell_id"] in cells:
                    self._confirm.add_sweep_row(network_id, row)
                    self._sweep.restore(cells[row["cell_id"]], row)
            elif not self._confirm.restore(row):
                raise StudyMismatchError(
                    f"rows of cell {row['cell_id']}, arm {row['arm']}: {network_id} does not "
                    "belong to this study file"
                )
