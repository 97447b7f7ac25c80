"""Where the pooled arms of a cell are confirmed, and how far they may fall short of the best ones.

Both come from one surface of accuracy over (ε, log learning rate) per loss, through all networks of
the cell's searches (every replicate) and of its sweep. Points are chosen among those that were
trained: a smoothed maximum between them is worse on average, because it may lie where nothing was
tried. docs/statistics.md has the measured operating characteristics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.response.gaussian_surface import Array, Rows
from analysis.response.top import MIDDLE, SCENARIOS, Drawn, Measured, Top
from study.results.arms import Arm
from study.results.evidence import CellEvidence, ChosenPoint, EvidenceRow
from study.results.schema import Stage

_MARGIN = 0.005  # that points are chosen under; the choice hardly depends on it
_RATES = 41  # learning rates of an ε at which nothing was trained
SAME_EPSILON = 1e-6
"""Two ε that differ by less are the same."""


def choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """Choose where the pooled arms of a cell are confirmed; see `CellSurface.choose`.

    Args:
        evidence: the networks of the cell's searches (all replicates) and of its sweep.
        arms: {arm: the ε that it fixes; None where ε is to be chosen too}. A fixed ε is returned
            as it is, and may lie outside the searched range.

    Returns:
        {arm: its point}, one for every arm.
    """
    return CellSurface(evidence, _MARGIN).choose(arms)


@dataclass(frozen=True)
class UpdatedCost:
    """What an arm's ε costs on the surface after the measured difference has moved it.

    Attributes:
        cost: draws of the best accuracy minus the arm's best one, fractions, shape (SCENARIOS, n);
            in the scenario LOW of the point that is best on average, and so possibly below 0.
        slope: derivative of the cost by the measured difference, in [0, 1]: 1 where the best point
            resembles the one that was measured, 0 where the measurement says nothing about it.
    """

    cost: Array
    slope: float


@dataclass(frozen=True)
class SurfaceDraws:
    """Draws of surfaces; fractions ≥ 0, shape (SCENARIOS, n). All are of the same surfaces.

    Attributes:
        shortfalls: {arm: how far its point falls short of the best point that the arm may have}.
        below_best: {arm: how far its point is below the best point of all}.
        costs: {arm: its cost after the measured difference has moved the surface}, of the arms that
            were measured and whose point lies near the top.
    """

    shortfalls: dict[str, Array]
    below_best: dict[str, Array]
    costs: dict[str, UpdatedCost]


class CellSurface:
    """The surfaces of a cell, one per loss.

    Args:
        evidence: the networks of the cell's searches (all replicates) and of its sweep.
        margin: δ, a fraction; the sizes of unseen features are multiples of it, up to a margin of
            1 point.
    """

    def __init__(self, evidence: CellEvidence, margin: float) -> None:
        self._evidence = evidence
        self._scale = _Scale.of(evidence)
        self._rows = {
            loss: rows
            for loss in evidence.losses
            if (rows := [row for row in evidence.rows if row.loss == loss])
        }
        self._tops = {
            loss: Top(_rows(rows, self._scale), margin) for loss, rows in self._rows.items()
        }

    def choose(self, arms: Mapping[str, float | None]) -> dict[str, ChosenPoint]:
        """Choose where the pooled arms are confirmed.

        Every arm is chosen by one rule: among the points that were trained, the one with the
        highest smoothed accuracy; with the arm's ε where the arm fixes it. An ε at which nothing
        was trained gets its learning rate from a grid.

        An arm that is free to choose ε does not take that of an analytic arm: the two would be one
        arm, and a confirm stage of one arm shows nothing. It takes the strongest challenger, the
        point whose expected improvement over the analytic one (Mockus 1975) is largest.

        Args:
            arms: as of `choose_points`.

        Returns:
            {arm: its point}, one for every arm.
        """
        chosen = {arm: self._highest(fixed) for arm, fixed in arms.items()}
        analytic = [point for arm, point in chosen.items() if Arm.of_row(arm).is_analytic]
        for arm, fixed in arms.items():
            if fixed is None:
                for point in analytic:
                    if chosen[arm].loss == point.loss and _same(chosen[arm].epsilon, point.epsilon):
                        chosen[arm] = self._challenger(point, analytic) or chosen[arm]
                        break
        return chosen

    def level(self, point: ChosenPoint) -> float:
        """Expected accuracy at a point of a loss that was trained, a fraction."""
        return float(self._tops[point.loss].level(self._scale.of_points([point]))[0]) / 100

    def has(self, point: ChosenPoint) -> bool:
        """Whether the loss of a point was trained."""
        return point.loss in self._tops

    def draw(
        self,
        arms: Mapping[str, float | None],
        points: Mapping[str, ChosenPoint],
        measured: Mapping[str, Measured] | None = None,
        rng_seed: int = 0,
        settings: int = 3,
        each: int = 60,
    ) -> SurfaceDraws | None:
        """Draw surfaces, and where each arm's point and its best point lie on them.

        Args:
            arms: as of `choose_points`.
            points: {arm: where it was confirmed}.
            measured: {arm: how much another arm exceeds it on fresh seeds}.
            rng_seed: of the draws.
            settings: draws of the surface's parameters per scenario.
            each: surfaces drawn for each of them.

        Returns:
            the draws; None where the evidence is too little for a surface.
        """
        if not self._tops or not all(self.has(point) for point in points.values()):
            return None
        rng = np.random.default_rng(rng_seed)
        by_loss: dict[str, dict[str, Drawn]] = {}
        everywhere: dict[str, Array] = {}
        for loss, top in self._tops.items():
            areas = []
            for arm, fixed in arms.items():
                epsilon = fixed if self._evidence.losses[loss] else 0.0
                point = points[arm]
                inside = self._scale.of_points([point])[0] if point.loss == loss else None
                share = None if epsilon is None else self._scale.epsilon(epsilon)
                areas.append(top.area(arm, share, inside))
            drawn = top.draw(areas, rng, settings, each, measured)
            near_top = [drawn[area.name].reached for area in areas if area.near_top]
            everywhere[loss] = np.max(near_top, axis=0)
            by_loss[loss] = drawn
        best = np.max(list(everywhere.values()), axis=0)
        reached = {
            arm: np.max([of[arm].reached for of in by_loss.values()], axis=0) for arm in arms
        }
        shortfalls, below_best, costs = {}, {}, {}
        for arm, fixed in arms.items():
            drawn_arm = by_loss[points[arm].loss][arm]
            assert drawn_arm.at_point is not None
            shortfalls[arm] = _share((best if fixed is None else reached[arm]) - drawn_arm.at_point)
            below_best[arm] = _share(best - drawn_arm.at_point)
            if drawn_arm.top_updated is not None and drawn_arm.slope is not None:
                others = [loss for loss in by_loss if loss != points[arm].loss]
                tops = [drawn_arm.top_updated, *(everywhere[loss] for loss in others)]
                lines = [
                    drawn_arm.reached_updated,
                    *(by_loss[loss][arm].reached for loss in others),
                ]
                gap = np.max(tops, axis=0) - np.max([k for k in lines if k is not None], axis=0)
                slope = drawn_arm.slope.reshape(SCENARIOS, -1)[MIDDLE].mean()
                cost = gap.reshape(SCENARIOS, -1) / 100
                costs[arm] = UpdatedCost(cost, float(np.clip(slope, 0, 1)))
        return SurfaceDraws(shortfalls, below_best, costs)

    def _highest(self, fixed: float | None) -> ChosenPoint:
        """The point with the highest smoothed accuracy; with the fixed ε if there is one."""
        candidates = []
        for loss, top in self._tops.items():
            epsilon = fixed if self._evidence.losses[loss] else 0.0
            points = [
                ChosenPoint(loss, row.epsilon if epsilon is None else epsilon, row.lr)
                for row in self._rows[loss]
                if epsilon is None or _same(row.epsilon, epsilon)
            ]
            if not points:
                assert epsilon is not None
                lrs = np.geomspace(*self._evidence.lr, _RATES)
                points = [ChosenPoint(loss, epsilon, float(lr)) for lr in lrs]
            points = sorted(set(points))
            level = top.level(self._scale.of_points(points))
            candidates.append((float(level.max()), points[int(level.argmax())]))
        # The first of equals, as the order of the losses has it.
        return max(candidates, key=lambda candidate: candidate[0])[1]

    def _challenger(
        self, incumbent: ChosenPoint, excluded: Sequence[ChosenPoint]
    ) -> ChosenPoint | None:
        """The trained point at another ε with the largest expected improvement over the incumbent.

        Args:
            incumbent: a point of the loss that is looked at.
            excluded: points whose ε do not count as other ones.

        Returns:
            None where nothing was trained at another ε.
        """
        points = sorted(
            {
                ChosenPoint(row.loss, row.epsilon, row.lr)
                for row in self._rows[incumbent.loss]
                if not any(_same(row.epsilon, point.epsilon) for point in excluded)
            }
        )
        if not points:
            return None
        at, against = self._scale.of_points(points), self._scale.of_points([incumbent])[0]
        improvement = self._tops[incumbent.loss].expected_improvement(at, against)
        return points[int(improvement.argmax())]


def _share(points: Array) -> Array:
    """Points as fractions by scenario; nothing exceeds the best point."""
    share: Array = np.maximum(points, 0.0).reshape(SCENARIOS, -1) / 100
    return share


def _same(one: float, other: float) -> bool:
    return abs(one - other) < SAME_EPSILON


@dataclass(frozen=True)
class _Scale:
    """ε and log learning rate as shares of their ranges."""

    low: Array
    width: Array

    @classmethod
    def of(cls, evidence: CellEvidence) -> _Scale:
        low = np.array([evidence.epsilon[0], np.log(evidence.lr[0])])
        high = np.array([evidence.epsilon[1], np.log(evidence.lr[1])])
        return cls(low, np.where(high > low, high - low, 1.0))

    def epsilon(self, value: float) -> float:
        return float((value - self.low[0]) / self.width[0])

    def of_points(self, points: Sequence[ChosenPoint] | Sequence[EvidenceRow]) -> Array:
        x = np.array([[point.epsilon, np.log(point.lr)] for point in points])
        shares: Array = (x - self.low) / self.width
        return shares


def _rows(rows: Sequence[EvidenceRow], scale: _Scale) -> Rows:
    """One row per network of the search, and one per point of the sweep that has all its seeds."""
    sweep: dict[tuple[float, float], dict[int, float]] = {}
    single = []
    for row in rows:
        if row.stage == Stage.SWEEP:
            sweep.setdefault((row.epsilon, row.lr), {})[row.seed] = row.accuracy
        else:
            single.append((row.epsilon, row.lr, row.accuracy, row.seed, 1))
    seeds = {seed for by_seed in sweep.values() for seed in by_seed}
    for (epsilon, lr), by_seed in sweep.items():
        if by_seed.keys() == seeds:
            mean = float(np.mean(list(by_seed.values())))
            single.append((epsilon, lr, mean, -1, len(seeds)))
        else:
            single += [(epsilon, lr, accuracy, seed, 1) for seed, accuracy in by_seed.items()]
    table = np.array(single, dtype=float)
    x = (np.column_stack([table[:, 0], np.log(table[:, 1])]) - scale.low) / scale.width
    return Rows(x, 100 * table[:, 2], table[:, 3], table[:, 4])
