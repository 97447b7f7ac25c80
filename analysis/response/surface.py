"""Where the pooled arms of a cell are confirmed, and what these points may lack of the best ones.

Both come from one surface of accuracy over (ε, log learning rate) per loss, through all networks of
the cell's searches (every replicate) and of its sweep. Points are chosen among those that were
trained: a smoothed maximum between them is worse on average, because it may lie where nothing was
tried. docs/statistics.md has the measured operating characteristics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.response.gaussian_surface import PRIOR, Array, Rows, Surface
from study.results.evidence import CellEvidence, ChosenPoint, EvidenceRow
from study.results.schema import Stage

ROUGH: Array = np.array([0.06, 0.2, 0.4, 0.6, 0.9])
"""Sizes of features that the networks may not have seen, in margins δ (at most 1 point)."""
SCENARIOS = len(ROUGH)
LOW, MIDDLE, HIGH = 0, 2, 4
"""The scenarios that the low end, the estimate and the high end of an interval assume."""

_MARGIN = 0.005  # that points are chosen under; the choice hardly depends on it

_LARGEST_MARGIN = 0.01  # features that went unseen do not grow with a wide margin
_GRID = (81, 41)  # ε × learning rate, where a better point is looked for
_CANDIDATES = 250
_SAME = 1e-6  # ε closer than this are on one line
_DROP, _SDS = 4.0, 3.0  # points, and standard deviations of a network, that are still the top

_LOCAL: Array = PRIOR.copy()
_LOCAL[0] = [0.0, 1.0]
_LOCAL[1] = _LOCAL[2] = [-0.5, 0.7]


def choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """Choose where the pooled arms of a cell are confirmed.

    Every arm is chosen by one rule: among the points that were trained, the one with the highest
    smoothed accuracy; with the arm's ε where the arm fixes it. An ε at which nothing was trained
    gets its learning rate from a grid of 41.

    Args:
        evidence: the networks of the cell's searches (all replicates) and of its sweep.
        arms: {arm: the ε that it fixes; None where ε is to be chosen too}. A fixed ε is returned
            as it is, and may lie outside the searched range.

    Returns:
        {arm: its point}, one for every arm.
    """
    scale = _Scale.of(evidence)
    tops = _tops(evidence, scale, _MARGIN)
    chosen: dict[str, ChosenPoint] = {}
    for arm, fixed in arms.items():
        best = -np.inf
        for loss, (top, rows) in tops.items():
            epsilon = fixed if evidence.losses[loss] else 0.0
            points = [
                ChosenPoint(loss, row.epsilon if epsilon is None else epsilon, row.lr)
                for row in rows
                if epsilon is None or abs(row.epsilon - epsilon) < _SAME
            ]
            if not points:
                assert epsilon is not None
                lrs = np.geomspace(*evidence.lr, _GRID[1])
                points = [ChosenPoint(loss, epsilon, float(lr)) for lr in lrs]
            points = sorted(set(points))
            level = top.level(scale.of_points(points))
            k = int(level.argmax())
            if level[k] > best:
                best, chosen[arm] = float(level[k]), points[k]
    return chosen


def lacks(
    evidence: CellEvidence,
    arms: Mapping[str, float | None],
    points: Mapping[str, ChosenPoint],
    margin: float,
    rng_seed: int = 0,
    settings: int = 2,
    each: int = 60,
) -> dict[str, Array]:
    """Draws of what each arm's point lacks of the best point that the arm may have.

    Args:
        evidence: as of `choose_points`.
        arms: as of `choose_points`.
        points: {arm: where it was confirmed}.
        margin: δ, a fraction; the scenarios are multiples of it, up to a margin of 1 point.
        rng_seed: of the draws.
        settings: draws of the surface's parameters per scenario.
        each: surfaces drawn for each of them.

    Returns:
        {arm: fractions ≥ 0, shape (SCENARIOS, settings · each)}; empty where the evidence is too
        little for a surface. All arms come from the same drawn surfaces.
    """
    scale = _Scale.of(evidence)
    tops = _tops(evidence, scale, margin)
    if not tops or not all(point.loss in tops for point in points.values()):
        return {}
    rng = np.random.default_rng(rng_seed)
    reached: dict[str, Array] = {}
    at_point: dict[str, Array] = {}
    everywhere = np.array(-np.inf)
    for loss, (top, _) in tops.items():
        areas = []
        for arm, fixed in arms.items():
            epsilon = fixed if evidence.losses[loss] else 0.0
            point = points[arm]
            inside = scale.of_points([point])[0] if point.loss == loss else None
            share = None if epsilon is None else float(scale.epsilon(np.array([epsilon]))[0])
            areas.append(top.area(arm, share, inside))
        near_top = {area.name: area.near_top for area in areas}
        for arm, (best, at) in top.draw(areas, rng, settings, each).items():
            reached[arm] = np.maximum(reached.get(arm, -np.inf), best)
            if near_top[arm]:
                everywhere = np.maximum(everywhere, best)
            if at is not None:
                at_point[arm] = at
    lacking: dict[str, Array] = {}
    for arm, fixed in arms.items():
        best = everywhere if fixed is None else reached[arm]
        lacking[arm] = np.maximum(best - at_point[arm], 0.0).reshape(SCENARIOS, -1) / 100
    return lacking


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

    def epsilon(self, values: Array) -> Array:
        share: Array = (values - self.low[0]) / self.width[0]
        return share

    def of_points(self, points: Sequence[ChosenPoint] | Sequence[EvidenceRow]) -> Array:
        x = np.array([[point.epsilon, np.log(point.lr)] for point in points])
        shares: Array = (x - self.low) / self.width
        return shares


def _tops(
    evidence: CellEvidence, scale: _Scale, margin: float
) -> dict[str, tuple[Top, list[EvidenceRow]]]:
    """{loss: its surface and its rows}, of the losses that have rows."""
    by_loss = {loss: [r for r in evidence.rows if r.loss == loss] for loss in evidence.losses}
    return {loss: (Top(_rows(rows, scale), margin), rows) for loss, rows in by_loss.items() if rows}


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


@dataclass(frozen=True)
class Area:
    """Where an arm may have its best point.

    Attributes:
        name: of the arm.
        candidates: points that may be better than the arm's, shape (n, 2).
        point: the arm's point; None where it lies on another surface.
        near_top: whether the area reaches the top; else only the coarse surface describes it.
    """

    name: str
    candidates: Array
    point: Array | None
    near_top: bool


class Top:
    """The surface near its top.

    A coarse surface of all networks says where they collapse; a fine one, of the networks that do
    not, says how high the top is. A collapse therefore neither shortens the fine surface's lengths
    nor lets the fine surface run on into it.
    """

    def __init__(self, rows: Rows, margin: float) -> None:
        """Fit both surfaces.

        Args:
            rows: evidence about one loss.
            margin: δ, a fraction.
        """
        self._sizes = 100 * min(margin, _LARGEST_MARGIN) * ROUGH
        self._coarse = Surface(rows, rounds=2)
        fall, sd = self._coarse.mean(rows.x), self._coarse.sd
        self._limit = float(np.quantile(fall, 0.95)) - max(_DROP, _SDS * sd)
        kept = (fall > self._limit) & (rows.y > self._limit - 3 * sd - 1)
        self._tried = np.unique(rows.x[kept], axis=0)
        self._fine = Surface(
            Rows(rows.x[kept], rows.y[kept], rows.group[kept], rows.seeds[kept]),
            3,
            _LOCAL,
            self._sizes[1],
        )

    @property
    def sd(self) -> float:
        """Noise of one network near the top, percentage points."""
        return self._fine.sd

    def level(self, x: Array) -> Array:
        """Expected accuracy in points at x, shape (n, 2): no higher than either surface says."""
        level: Array = np.minimum(self._fine.mean(x), self._coarse.mean(x))
        return level

    def area(self, name: str, epsilon: float | None, point: Array | None) -> Area:
        """Where an arm may have its best point.

        Args:
            name: of the arm.
            epsilon: that it fixes, as a share of the range; None where it is free.
            point: where it was confirmed, on this surface; None if on another one.
        """
        rates = np.linspace(0, 1, _GRID[1])
        if epsilon is None:
            grid = np.stack(np.meshgrid(np.linspace(0, 1, _GRID[0]), rates, indexing="ij"), -1)
            x, limit, near = grid.reshape(-1, 2), _CANDIDATES, True
        else:
            x, limit = np.column_stack([np.full(len(rates), epsilon), rates]), len(rates)
            near = bool((np.abs(self._tried[:, 0] - epsilon) < _SAME).any())
            near = near or bool(self._coarse.mean(x).max() > self._limit)
        if not near:
            return Area(name, x, point, False)
        low = self._coarse.warp(np.array([self._limit]))[0]
        mean, sd = self._fine.spread(x)
        coarse_mean, coarse_sd = self._coarse.spread(x)
        hope = np.where(coarse_mean + 2 * coarse_sd > low, mean + 2.5 * sd, -np.inf)
        best_mean = mean.max() if point is None else self._fine.spread(point[None])[0][0]
        order = np.argsort(-hope)[:limit]
        return Area(name, x[order[hope[order] > best_mean]], point, True)

    def draw(
        self, areas: Sequence[Area], rng: np.random.Generator, settings: int, each: int
    ) -> dict[str, tuple[Array, Array | None]]:
        """Draws of each area's maximum and of the accuracy at its point.

        Args:
            areas: from `area`.
            rng: of the draws.
            settings: draws of the surface's parameters per scenario.
            each: surfaces drawn for each of them.

        Returns:
            {area: (maximum, at its point or None)}, percentage points, shape (SCENARIOS · settings
            · each,), scenario by scenario.
        """
        parts, marks, slices, start = [], [], {}, 0
        for area in areas:
            if area.near_top:
                points = area.candidates if area.point is None else _stack(area)
                parts.append(points)
                marks.append(np.arange(len(points)) >= len(area.candidates))
                slices[area.name] = slice(start, start + len(points))
                start += len(points)
        count = SCENARIOS * settings * each
        f = np.full((0, count), -np.inf)
        if start:
            f = self._draws(np.vstack(parts), np.concatenate(marks), rng, settings, each)
        drawn: dict[str, tuple[Array, Array | None]] = {}
        for area in areas:
            if area.near_top:
                rows = f[slices[area.name]]
                top = rows.max(axis=0, initial=-np.inf)
                drawn[area.name] = (top, None if area.point is None else rows[-1])
            else:
                points = area.candidates if area.point is None else _stack(area)
                g = self._coarse.draw(points, count, rng)
                drawn[area.name] = (g.max(axis=0), None if area.point is None else g[-1])
        return drawn

    def _draws(
        self,
        x: Array,
        chosen: NDArray[np.bool_],
        rng: np.random.Generator,
        settings: int,
        each: int,
    ) -> Array:
        """Drawn accuracies at x, −inf where the coarse surface's draw says collapse."""
        low = self._coarse.warp(np.array([self._limit]))[0]
        sizes = np.repeat(self._sizes, settings)
        parts = []
        for theta, rough in zip(self._fine.hyperparameters(len(sizes), rng), sizes, strict=True):
            fine = self._fine.at(theta, float(rough))
            f, c = fine.draw(x, each, rng), self._coarse.draw(x, each, rng, warped=True)
            parts.append(np.where((c > low) | chosen[:, None], f, -np.inf))
        return np.concatenate(parts, axis=1)


def _stack(area: Area) -> Array:
    assert area.point is not None
    return np.vstack([area.candidates, area.point[None]])
