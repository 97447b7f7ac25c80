"""The search stage of a study: all searches, the rounds that can be trained, and its hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study.planning.cells import Cell, Network
from study.planning.plan import Plan
from study.planning.search import ArmSearch, ReplayError
from study.planning.search_queue import SearchQueue
from study.planning.search_results import CellSearchResults
from study.results.plan_summary import SearchState
from study.results.schema import Status
from trainables.errors import BadInputError


class StudyMismatchError(BadInputError):
    """The study folder holds rows that this study file would not have produced."""


class SearchStage:
    """The searches of every arm of a study.

    Rows of earlier runs are restored first; then the stage begins.

    Args:
        plan: the study's plan.

    Attributes:
        by_cell: the searches of each cell, one replicate after the other.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.by_cell = {cell: _searches(plan, cell) for cell in plan.cells}
        self._search_at = {(s.cell.cell_id, s.arm.name, s.seed): s for s in self.searches}
        self._results = {cell: CellSearchResults(cell) for cell in plan.cells}
        # {(cell id, arm, seed): {point: its row}}, until the stage begins
        self._restored: dict[tuple[str, str, int], dict[int, Mapping[str, Any]]] = {}
        self._training_s = 0.0
        self._is_closed = False  # whether the hours are used up
        self._queue = SearchQueue([])
        self._left: dict[Cell, int] = {}  # searches that are not done

    @property
    def searches(self) -> list[ArmSearch]:
        """All searches, cell by cell."""
        return [search for searches in self.by_cell.values() for search in searches]

    @property
    def is_done(self) -> bool:
        """Whether all searches are done."""
        return self._queue.is_done

    def is_done_in(self, cell: Cell) -> bool:
        """Whether the searches of a cell are done."""
        return not self._left[cell]

    @property
    def networks_planned(self) -> int:
        """Number of networks at the end of the searches."""
        return sum(search.points_planned for search in self.searches)

    @property
    def is_over(self) -> bool:
        """Whether the hours of the searches are used up, and the searches not closed yet."""
        hours = self._plan.config.search.worker_hours
        return not self._is_closed and hours is not None and self._training_s >= 3600 * hours

    def restore(self, row: Mapping[str, Any]) -> None:
        """Take a row of an earlier run.

        Args:
            row: a row of `trials`, stage search.
        """
        self._training_s += row["wall_s"] / row["networks_in_cohort"]
        points = self._restored.setdefault((row["cell_id"], row["arm"], row["seed"]), {})
        points[row["point"]] = row

    def begin(self) -> None:
        """Rebuild every search from the restored rows.

        Raises:
            StudyMismatchError: the rows do not belong to this plan.
        """
        for (cell_id, arm, seed), points in self._restored.items():
            search = self._search_at.get((cell_id, arm, seed))
            try:
                if search is None:
                    raise ReplayError("it does not belong to this study file")
                search.replay(points)
            except ReplayError as error:
                raise StudyMismatchError(f"rows of cell {cell_id}, arm {arm}: {error}") from error
            for point in search.completed:
                self._results[search.cell].add(point.network, point.value, point.status)
        self._restored = {}
        self._queue = SearchQueue(self.searches)
        self._left = {
            cell: sum(not s.is_done for s in searches) for cell, searches in self.by_cell.items()
        }

    def state(self) -> dict[str, SearchState]:
        """{cell_id: progress of the cell's search}, all arms together."""
        return {
            cell.cell_id: results.state(sum(s.points_planned for s in self.by_cell[cell]))
            for cell, results in self._results.items()
        }

    def next_group(self) -> str | None:
        """The group of the least advanced search; None where no search has a round to train."""
        return self._queue.next_group()

    def points_at_a_time(self, group_id: str) -> int:
        """The most networks that the searches of a group can have in training at a time."""
        search = self._plan.config.search
        each = search.rounds_in_flight * search.points_per_round
        return each * self._queue.active_of(group_id)

    def propose(self, group_id: str, size: int) -> list[Network]:
        """One round of every free search of a group, the least advanced one first.

        Args:
            group_id: the group, from `next_group`.
            size: the most networks; a round larger than this is still proposed as a whole.
        """
        proposed: list[Network] = []
        chosen: set[int] = set()  # a search gives one round to a cohort
        while (search := self._queue.next_search(group_id)) and id(search) not in chosen:
            if proposed and len(proposed) + search.round_size > size:
                break
            chosen.add(id(search))
            proposed += self._propose_round(search)
        return sorted(proposed, key=lambda network: network.seed)  # same batches side by side

    def propose_again(self, ids: Sequence[str]) -> list[Network]:
        """The rounds that consist of these networks, if they can be trained now; else none.

        Args:
            ids: network ids, at least one.
        """
        rounds = [(s, s.next_round()) for s in self.searches if s.can_propose]
        matches = [s for s, networks in rounds if {n.network_id for n in networks} <= set(ids)]
        networks_by_id = {n.network_id: n for s in matches for n in s.next_round()}
        if networks_by_id.keys() != set(ids):
            return []
        for search in matches:
            self._propose_round(search)
        return [networks_by_id[i] for i in ids]

    def tell(self, network: Network, row: Mapping[str, Any]) -> bool:
        """Record the result of a proposed point.

        Args:
            network: its network.
            row: columns of its row.

        Returns:
            whether it was the last one that the searches of its cell waited for.
        """
        value = row[self._plan.config.search.value_column]
        search = self._search_of(network)
        was_done = search.is_done
        search.tell(network, value, row["epochs"], Status(row["status"]))
        self._results[network.cell].add(network, value, Status(row["status"]))
        self._training_s += row["wall_s"] / row["networks_in_cohort"]
        self._queue.update(search)
        return search.is_done and not was_done and self._ends(network.cell)

    def withdraw(self, network: Network) -> None:
        """Note that the round of a proposed point was not trained; it will be proposed again."""
        search = self._search_of(network)
        search.withdraw(network)
        self._queue.update(search)

    def close(self) -> list[Cell]:
        """End the searches early, with equally many rounds in every arm.

        Returns:
            the cells whose searches are done by this.
        """
        self._is_closed = True
        begun = max(s.rounds_begun for s in self.searches)
        ended = []
        for search in self.searches:
            was_done = search.is_done
            search.close(begun)
            self._queue.update(search)
            if search.is_done and not was_done and self._ends(search.cell):
                ended.append(search.cell)
        return ended

    def _ends(self, cell: Cell) -> bool:
        """Count a search that is done; whether it is the last one of its cell."""
        self._left[cell] -= 1
        return not self._left[cell]

    def _propose_round(self, search: ArmSearch) -> list[Network]:
        networks = search.propose()
        self._queue.update(search)
        return networks

    def _search_of(self, network: Network) -> ArmSearch:
        return self._search_at[network.cell.cell_id, network.arm or "", network.seed]


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
