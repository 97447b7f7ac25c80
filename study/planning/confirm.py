"""Which networks confirm trains: the choices of searches, and the points of pooled arms.

In a study with the arm `best` there are two kinds. *Pooled arms* are confirmed on common seeds, at
points that are chosen from all evidence of the cell; they measure what ε is worth. The *choices of
each replicate* of the search are confirmed on seeds of that replicate; they measure what a user
gains by tuning ε. In a study without it, the choices of the search are confirmed on common seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study.planning.cells import Cell, Network, PlannedArm
from study.planning.plan import Plan
from study.planning.search import ArmSearch, CompletedPoint
from study.results.evidence import CellEvidence, ChoosePoints, ChosenPoint, EvidenceRow
from study.results.plan_summary import KeptPoint
from study.results.schema import Stage, Status


class ConfirmStage:
    """The confirm stage of a study: what can be trained by now.

    Args:
        plan: the study's plan.
        searches: all searches of each cell.
        choose_points: chooses the points of pooled arms; needed before a study with the arm `best`
            confirms.

    Attributes:
        kept_points: pooled arms that have rows and that all evidence of a study that has grown
            would place elsewhere.
        superseded: number of confirm networks with a row that are no choice of their search any
            more, because it has grown and found a better point.
    """

    def __init__(
        self,
        plan: Plan,
        searches: Mapping[Cell, Sequence[ArmSearch]],
        choose_points: ChoosePoints | None,
    ) -> None:
        self._plan, self._searches, self._choose_points = plan, searches, choose_points
        self._sweep_results: dict[str, tuple[float, int, Status]] = {}  # by network id
        self._cells = {cell.cell_id: cell for cell in plan.cells}
        # points of pooled arms that have rows
        self._known: dict[Cell, dict[str, ChosenPoint]] = {cell: {} for cell in plan.cells}
        self._choice_rows: dict[str, set[str]] = {}  # {cell id: network ids} of searches' choices
        self.kept_points: list[KeptPoint] = []
        self.superseded = 0

    def add_sweep_row(self, network_id: str, row: Mapping[str, Any]) -> None:
        """Record a result of the sweep as evidence."""
        if self._plan.config.has_best:
            value = row[self._plan.config.search.value_column]
            self._sweep_results[network_id] = (value, row["epochs"], Status(row["status"]))

    def restore(self, row: Mapping[str, Any]) -> bool:
        """Take the point of a pooled arm from a row of an earlier run.

        Another processor may round a choice differently, but the networks of an arm must not
        differ; so an arm with a row is not chosen again.

        Args:
            row: a row of `trials`, stage confirm.

        Returns:
            whether the row belongs to the plan.
        """
        if not self._plan.config.has_best or row["replicate"] is not None:
            self._choice_rows.setdefault(row["cell_id"], set()).add(row["network_id"])
            return True  # follows from the rows of the search
        cell = self._cells.get(row["cell_id"])
        if cell is None or row["seed"] not in self._plan.confirm_seeds:
            return False
        for arm in self._plan.arms[cell]:
            for loss in cell.losses if arm.is_pooled and arm.name == row["arm"] else ():
                point = ChosenPoint(loss.label, row["epsilon"], row["lr"])
                if _network(cell, arm, point, row["seed"]).network_id == row["network_id"]:
                    return self._known[cell].setdefault(arm.name, point) == point
        return False

    def choices(self, cell: Cell) -> list[Network]:
        """The best point of each search, on fresh seeds that its arms have in common.

        Args:
            cell: a cell whose searches are done.
        """
        plan = self._plan
        best = {
            s: s.best
            for s in self._searches[cell]
            if s.arm.is_replicated or not plan.config.has_best
        }
        networks = [
            _network(cell, search.arm, _point(chosen.network), seed, replicate)
            for replicate in plan.replicates
            for seed in (
                plan.confirm_seeds if replicate is None else plan.replicate_seeds(replicate)
            )
            for search, chosen in best.items()
            if chosen is not None and search.replicate == replicate
        ]
        earlier = self._choice_rows.pop(cell.cell_id, set())
        self.superseded += len(earlier - {network.network_id for network in networks})
        return networks

    def pooled(self, cell: Cell, sweep: Sequence[Network]) -> list[Network]:
        """The pooled arms at their points, on common seeds.

        Args:
            cell: a cell whose searches and sweep are done.
            sweep: its sweep.
        """
        points = [point for search in self._searches[cell] for point in search.completed]
        points += [CompletedPoint(n, *self._sweep_results.pop(n.network_id)) for n in sweep]
        choices = self._choose(cell, points)
        return [
            _network(cell, arm, choices[arm.name], seed)
            for seed in self._plan.confirm_seeds
            for arm in self._plan.arms[cell]
            if arm.is_pooled
        ]

    def _choose(self, cell: Cell, points: Sequence[CompletedPoint]) -> dict[str, ChosenPoint]:
        """The points of the pooled arms.

        Arms that do not rescale the loss share one surface: their evidence is the sweep and the
        searches of all such arms. The evidence of an arm that does is its own searches.
        """
        if self._choose_points is None:
            raise ValueError("choose_points is needed for the arm best")
        known = self._known[cell]
        pooled = [a for a in self._plan.arms[cell] if a.is_pooled]
        biased = {loss.label: loss.takes_epsilon for loss in cell.losses}
        shared = {arm.name: arm.epsilon for arm in pooled if arm.rescale is None}
        chosen: dict[str, ChosenPoint] = {}
        # In a study that has grown, arms with rows are chosen too, to say where they would be.
        if self._plan.has_grown or shared.keys() - known.keys():
            rows = [p for p in points if p.network.rescale is None]
            # All of them, because the choice of one may depend on the ε of another.
            chosen |= self._choose_points(_evidence(self._plan, rows, biased), shared)
        for arm in pooled:
            if arm.rescale is not None and (self._plan.has_grown or arm.name not in known):
                rows = [p for p in points if p.network.arm == arm.name]
                evidence = _evidence(self._plan, rows, dict.fromkeys(biased, False))
                chosen |= self._choose_points(evidence, {arm.name: 0.0})
        self.kept_points += [
            KeptPoint(cell.cell_id, name, point, chosen[name])
            for name, point in known.items()
            if name in chosen and _differ(point, chosen[name])
        ]
        return chosen | known


def _differ(one: ChosenPoint, other: ChosenPoint) -> bool:
    """Whether two points differ by more than the rounding of another processor."""
    is_same = one.loss == other.loss and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
        for a, b in ((one.epsilon, other.epsilon), (one.lr, other.lr))
    )
    return not is_same


def _point(network: Network) -> ChosenPoint:
    return ChosenPoint(network.loss.label, network.epsilon, network.lr)


def _evidence(
    plan: Plan, points: Iterable[CompletedPoint], losses: Mapping[str, bool]
) -> CellEvidence:
    search = plan.config.search
    return CellEvidence(
        rows=tuple(
            EvidenceRow(
                stage=point.network.stage,
                arm=point.network.arm,
                seed=point.network.seed,
                loss=point.network.loss.label,
                epsilon=point.network.epsilon,
                lr=point.network.lr,
                accuracy=point.value,
                status=point.status,
            )
            for point in points
            if point.status != Status.PRUNED
        ),
        losses=losses,
        epsilon=(search.epsilon.low, search.epsilon.high),
        lr=(search.lr.low, search.lr.high),
    )


def _network(
    cell: Cell, arm: PlannedArm, chosen: ChosenPoint, seed: int, replicate: int | None = None
) -> Network:
    loss = next(loss for loss in cell.losses if loss.label == chosen.loss)
    epsilon = chosen.epsilon if arm.epsilon is None else arm.epsilon
    return Network(
        stage=Stage.CONFIRM,
        cell=cell,
        loss=loss,
        epsilon=epsilon if loss.takes_epsilon else 0.0,
        lr=chosen.lr,
        seed=seed,
        arm=arm.name,
        rule=arm.rule,
        rescale=arm.rescale,
        replicate=replicate,
    )
