"""The surface near its top, for one loss: how high it is, and what better points there may be.

Two surfaces of all networks: a coarse one says where they collapse, a fine one how high the top is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.response.gaussian_surface import (
    PRIOR,
    Array,
    Rows,
    Surface,
    normal_draws,
    root_of,
)
from analysis.response.line import LEAST_RATES, RateCurve

LOW, MIDDLE, HIGH = 0, 1, 2
"""The scenarios that the low end, the estimate and the high end of an interval assume."""
ROUGH: Array = np.array([0.06, 0.6, 1.2])
"""Sizes of features that the networks may not have seen, in margins δ (at most 1 point); chosen on
planted surfaces (docs/statistics.md)."""
SCENARIOS = len(ROUGH)

_FITTED = 0.2  # size, in margins, under which the parameters are fitted
_LARGEST_MARGIN = 0.01  # features that went unseen do not grow with a wide margin
_GRID = (81, 41)  # ε × learning rate, where a better point is looked for
_CANDIDATES = 250
_SAME = 1e-6  # ε closer than this are on one line
_NEARBY: Array = np.array([0.03, 0.06])  # widths in which networks fail alike
_DROP, _SDS = 4.0, 3.0  # points, and standard deviations of a network, that are still the top

_LOCAL: Array = PRIOR.copy()
_LOCAL[0] = [0.0, 1.0]
_LOCAL[1] = _LOCAL[2] = [-0.5, 0.7]


@dataclass(frozen=True)
class Area:
    """Where an arm may have its best point.

    Attributes:
        name: of the arm.
        candidates: points that may be better than the arm's, shape (n, 2).
        point: the arm's point; None where it lies on another surface.
        near_top: whether the area reaches the top; else the fine surface does not describe it.
    """

    name: str
    candidates: Array
    point: Array | None
    near_top: bool


@dataclass(frozen=True)
class Measured:
    """A paired difference on fresh seeds.

    Attributes:
        over: the area whose point exceeds that of another area.
        value: by how much, percentage points.
        over_is_fixed: whether `over` fixes ε.
    """

    over: str
    value: float
    over_is_fixed: bool


@dataclass(frozen=True)
class Drawn:
    """Draws of an area, percentage points, each of shape (draws,).

    Attributes:
        reached: maximum.
        at_point: accuracy at the arm's point; None where it lies on another surface.
        top_updated: maximum over all areas, after a measured difference has moved the surface; in
            the scenario LOW, the point that is best on average. None where nothing was measured.
        reached_updated: maximum of this area on the moved surface; None likewise.
        slope: derivative of top_updated − reached_updated by the measured difference; None
            likewise.
    """

    reached: Array
    at_point: Array | None
    top_updated: Array | None = None
    reached_updated: Array | None = None
    slope: Array | None = None


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
        self._rows = rows
        self._coarse = Surface(rows, rounds=2)
        fall, sd = self._coarse.mean(rows.x), self._coarse.sd
        self._limit = float(np.quantile(fall, 0.95)) - max(_DROP, _SDS * sd)
        kept = (fall > self._limit) & (rows.y > self._limit - 3 * sd - 1)
        self._tried = np.unique(rows.x[kept], axis=0)
        self._fine = Surface(
            Rows(rows.x[kept], rows.y[kept], rows.group[kept], rows.seeds[kept]),
            3,
            _LOCAL,
            100 * min(margin, _LARGEST_MARGIN) * _FITTED,
        )
        self._shortfall = np.minimum(rows.y - self._smooth_level(rows.x), 0.0)  # of each network

    @property
    def sd(self) -> float:
        """Noise of one network near the top, percentage points."""
        return self._fine.sd

    def level(self, x: Array) -> Array:
        """Expected accuracy in points at x, shape (n, 2): no higher than either surface says.

        Where some of the networks fail (near the learning rate at which training breaks down), both
        surfaces describe those that do not. The mean shortfall of the networks nearby counts.
        """
        square = (((x[:, None] - self._rows.x[None]) / _NEARBY) ** 2).sum(axis=2)
        weight = self._rows.seeds * np.exp(-0.5 * square)
        shortfall = weight @ self._shortfall / (weight.sum(axis=1) + 1)
        level: Array = self._smooth_level(x) + shortfall
        return level

    def _smooth_level(self, x: Array) -> Array:
        level: Array = np.minimum(self._fine.mean(x), self._coarse.mean(x))
        return level

    def expected_improvement(self, x: Array, incumbent: Array) -> Array:
        """How much points are expected to exceed another one, at their best (Mockus 1975).

        Points that resemble the incumbent cannot exceed it by much; points that the networks left
        uncertain can. Features that the networks may not have seen have their middle size. Points
        that are expected to be far below the incumbent count only where all are.

        Args:
            x: points, shape (n, 2).
            incumbent: the point to exceed, shape (2,).

        Returns:
            E max(difference, 0), shape (n,), percentage points; where all points are far below,
            the expected difference.
        """
        surface = self._fine.at(self._fine.theta, float(self._sizes[MIDDLE]))
        _, covariance = surface.joint(np.vstack([x, incumbent[None]]))
        gap = self.level(x) - self.level(incumbent[None])
        variance = np.diag(covariance)
        sd = np.sqrt(np.maximum(variance[:-1] + variance[-1] - 2 * covariance[:-1, -1], 1e-12))
        z = gap / sd
        improvement: Array = sd * (z * stats.norm.cdf(z) + stats.norm.pdf(z))
        near = -gap < max(_SDS * self.sd, 1.0)
        return np.where(near, improvement, 0.0) if near.any() else gap

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
        self,
        areas: Sequence[Area],
        rng: np.random.Generator,
        settings: int,
        each: int,
        measured: Mapping[str, Measured] | None = None,
    ) -> dict[str, Drawn]:
        """Draws of each area's maximum and of the accuracy at its point.

        Args:
            areas: from `area`.
            rng: of the draws.
            settings: draws of the surface's parameters per scenario.
            each: surfaces drawn for each of them.
            measured: {area: how much the point of another area exceeds that of this one}, of areas
                that reach the top and have their points on this surface.

        Returns:
            {area: draws}, shape (SCENARIOS · settings · each,), scenario by scenario.
        """
        near = [area for area in areas if area.near_top]
        count = SCENARIOS * settings * each
        drawn: dict[str, Drawn] = {}
        if near:
            names = {area.name for area in near if area.point is not None}
            on_it = {
                name: difference
                for name, difference in (measured or {}).items()
                if {name, difference.over} <= names
            }
            drawn = self._fine_draws(near, rng, settings, each, on_it)
        for area in areas:
            if not area.near_top:
                g = self._draws_below(area, count, rng)
                drawn[area.name] = Drawn(g.max(axis=0), None if area.point is None else g[-1])
        return {area.name: drawn[area.name] for area in areas}

    def _draws_below(self, area: Area, count: int, rng: np.random.Generator) -> Array:
        """Draws of an area that does not reach the top, percentage points, shape (n, count)."""
        points = area.candidates if area.point is None else _stack(area)
        on_line = np.abs(self._rows.x[:, 0] - points[0, 0]) < _SAME
        rates = self._rows.x[on_line, 1]
        if len(np.unique(rates)) < LEAST_RATES:
            return self._coarse.draw(points, count, rng)
        curve = RateCurve(rates, self._rows.y[on_line], self._rows.seeds[on_line])
        return curve.draw(points[:, 1], count, rng)

    def _fine_draws(
        self,
        areas: Sequence[Area],
        rng: np.random.Generator,
        settings: int,
        each: int,
        measured: Mapping[str, Measured],
    ) -> dict[str, Drawn]:
        """As of `draw`, of areas that reach the top."""
        stacks = [area.candidates if area.point is None else _stack(area) for area in areas]
        ends = np.cumsum([len(stack) for stack in stacks])
        rows = {a.name: slice(e - len(s), e) for a, e, s in zip(areas, ends, stacks, strict=True)}
        x = np.vstack(stacks)
        chosen = np.zeros((len(x), 1), dtype=bool)
        for area in areas:
            chosen[rows[area.name].stop - 1] |= area.point is not None
        low = self._coarse.warp(np.array([self._limit]))[0]
        coarse_mean, coarse_covariance = self._coarse.joint(x)
        coarse_root = root_of(coarse_covariance)
        collapsed = {
            name
            for name, difference in measured.items()
            if self.level(x[[rows[difference.over].stop - 1]])[0] <= self._limit
        }
        sizes = np.repeat(self._sizes, settings)
        drawn_parts: dict[str, list[tuple[Array, Array | None]]] = {a.name: [] for a in areas}
        updates: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in measured}
        for k, theta in enumerate(self._fine.hyperparameters(len(sizes), rng)):
            fine = self._fine.at(theta, float(sizes[k]))
            mean, covariance = fine.joint(x)
            accuracy = fine.points(normal_draws(mean, root_of(covariance), each, rng))
            trains = (normal_draws(coarse_mean, coarse_root, each, rng) > low) | chosen
            reached = np.where(trains, accuracy, -np.inf)
            for area in areas:
                of_area = reached[rows[area.name]]
                at = None if area.point is None else of_area[-1]
                drawn_parts[area.name].append((of_area.max(axis=0, initial=-np.inf), at))
            for name, difference in measured.items():
                first, second = rows[difference.over], rows[name]
                if name in collapsed:  # such a point says nothing about the top
                    gain = np.zeros(len(x))
                else:
                    gain = _gain(fine, x, difference, first, second)
                on_average = k // settings == LOW
                updates[name].append(
                    _update(accuracy, trains, gain, difference, first, second, on_average)
                )
        drawn = {}
        for area in areas:
            top, at = zip(*drawn_parts[area.name], strict=True)
            drawn[area.name] = Drawn(
                np.concatenate(top),
                None if area.point is None else np.concatenate(at),
                *(np.concatenate(part) for part in zip(*updates.get(area.name, ()), strict=True)),
            )
        return drawn


def _gain(fine: Surface, x: Array, difference: Measured, first: slice, second: slice) -> Array:
    """How far each point follows a measured difference, shape (n,).

    Args:
        fine: the fine surface under drawn parameters.
        x: all points, shape (n, 2).
        difference: of the last points of both areas.
        first: rows of the area that is higher by the difference.
        second: rows of the other area, which fixes ε.
    """
    b, a = first.stop - 1, second.stop - 1
    gain = fine.gain(x, x[b], x[a])
    # What a measurement says about an ε holds at every learning rate.
    gain[second] = gain[a]
    if difference.over_is_fixed:
        gain[first] = gain[b]
    return gain


def _update(
    accuracy: Array,
    trains: NDArray[np.bool_],
    gain: Array,
    difference: Measured,
    first: slice,
    second: slice,
    on_average: bool,
) -> tuple[Array, Array, Array]:
    """Move drawn surfaces so that two points differ by what was measured (Matheron's rule).

    Args:
        accuracy: drawn, percentage points, shape (n, draws).
        trains: whether the coarse surface's draw says that training succeeds, shape (n, draws).
        gain: how far each point follows, shape (n,).
        difference: what was measured.
        first: rows of the area that is higher by the difference.
        second: rows of the other area.
        on_average: take the point that is best on average instead of each draw's best point.

    Returns:
        accuracy of the best point, that of the best point of the second area, and the derivative
        of their difference by the measured one, each of shape (draws,).
    """
    b, a = first.stop - 1, second.stop - 1
    moved = accuracy + gain[:, None] * (difference.value - (accuracy[b] - accuracy[a]))
    best_of_second = np.where(trains[second], moved[second], -np.inf).max(axis=0)
    draws = accuracy.shape[1]
    if on_average:
        mean = np.where(trains.mean(axis=1) > 0.5, moved.mean(axis=1), -np.inf)
        best = np.full(draws, int(mean.argmax()))
    else:
        best = np.where(trains, moved, -np.inf).argmax(axis=0)
    return moved[best, np.arange(draws)], best_of_second, gain[best] - gain[a]


def _stack(area: Area) -> Array:
    assert area.point is not None
    return np.vstack([area.candidates, area.point[None]])
