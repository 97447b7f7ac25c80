"""The searches that have a round to train, the least advanced ones first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

from study.planning.search import ArmSearch


class SearchQueue:
    """Finds the next searches without looking at all of them: a study may have 100,000.

    Args:
        searches: all searches, in the order in which equally advanced ones are taken.
    """

    def __init__(self, searches: Sequence[ArmSearch]) -> None:
        self._searches = searches
        self._position = {id(search): i for i, search in enumerate(searches)}
        # By group: heaps of (points completed, position). An entry that no longer agrees with
        # `_queued` is out of date.
        self._heaps: dict[str, list[tuple[int, int]]] = {s.cell.group_id: [] for s in searches}
        self._queued: dict[int, int] = {}  # points completed by position
        self._active: set[int] = set()  # positions of the searches that are not done
        self._active_of_group: Counter[str] = Counter()
        for i, search in enumerate(searches):
            if not search.is_done:
                self._active.add(i)
                self._active_of_group[search.cell.group_id] += 1
            self.update(search)

    @property
    def is_done(self) -> bool:
        """Whether all searches are done."""
        return not self._active

    def active_of(self, group_id: str) -> int:
        """Number of searches of a group that are not done."""
        return self._active_of_group[group_id]

    def update(self, search: ArmSearch) -> None:
        """Note that a search has changed."""
        i = self._position[id(search)]
        if search.is_done and i in self._active:
            self._active.remove(i)
            self._active_of_group[search.cell.group_id] -= 1
        if not search.can_propose:
            self._queued.pop(i, None)
        elif self._queued.get(i) != search.points_completed:
            self._queued[i] = search.points_completed
            heap = self._heaps[search.cell.group_id]
            heapq.heappush(heap, (search.points_completed, i))

    def next_group(self) -> str | None:
        """The group of the least advanced search; None where no search has a round to train."""
        firsts = {group: self._first(heap) for group, heap in self._heaps.items()}
        waiting = {group: first for group, first in firsts.items() if first is not None}
        return min(waiting, key=lambda group: waiting[group]) if waiting else None

    def next_search(self, group_id: str) -> ArmSearch | None:
        """The least advanced search of a group that has a round to train."""
        first = self._first(self._heaps[group_id])
        return None if first is None else self._searches[first[1]]

    def _first(self, heap: list[tuple[int, int]]) -> tuple[int, int] | None:
        while heap and self._queued.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0] if heap else None
