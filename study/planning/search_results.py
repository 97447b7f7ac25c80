"""What the searches of a cell have found so far."""

from __future__ import annotations

from study.planning.cells import Cell, Network
from study.results.plan_summary import SearchPoint, SearchState, best_point
from study.results.schema import Status


class CellSearchResults:
    """Number of trained points, and the best one.

    Args:
        cell: the cell.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell, self._completed = cell, 0
        self._best: SearchPoint | None = None

    def add(self, network: Network, value: float, status: Status) -> None:
        """Count a point.

        Args:
            network: its network.
            value: the accuracy that the search maximises, in [0, 1].
            status: how its training ended.
        """
        self._completed += 1
        if status == Status.PRUNED:
            return
        point = SearchPoint(
            number=network.point or 0,
            value=value,
            lr=network.lr,
            epsilon=network.epsilon if self._cell.takes_epsilon else None,
            loss=network.loss.label if self._cell.loss is None else None,
        )
        self._best = point if self._best is None else best_point([self._best, point])

    def state(self, planned: int) -> SearchState:
        """The progress of the cell's search.

        Args:
            planned: number of points at its end.
        """
        return SearchState(self._completed, planned, self._best)
