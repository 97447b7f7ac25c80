"""Contrasts of a cell's pooled arms: paired differences, and what the surface says about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.data.evidence import confirmed_point
from analysis.data.load import StudyCell
from analysis.inference.examples import ExampleEffects, example_effects
from analysis.inference.means import Array
from analysis.inference.value import Contrast
from analysis.response.surface import SAME_EPSILON, CellSurface, SurfaceDraws
from analysis.response.top import Measured
from study.results.arms import BEST, CE, ZERO, Arm


def confirm_table(confirm: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy on the common seeds, shape (seeds, arms); NaN where an arm lacks a seed.

    Args:
        confirm: confirm rows of a cell on the common seeds, with those of plain cross-entropy.
    """
    return confirm.pivot_table(index="seed", columns="arm", values="test_acc", aggfunc="mean")


def confirmed_epsilons(confirm: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """{arm: (loss with parameters, ε)} of confirm rows."""
    first = confirm.drop_duplicates("arm")
    return {
        str(row["arm"]): (f"{row['loss']} {row['loss_params']}", float(row["epsilon"]))
        for row in first[["arm", "loss", "loss_params", "epsilon"]].to_dict("records")
    }


def have_same_epsilon(one: tuple[str, float], other: tuple[str, float]) -> bool:
    """Whether two arms have the same loss and ε, from `confirmed_epsilons`."""
    return one[0] == other[0] and abs(one[1] - other[1]) < SAME_EPSILON


class ArmComparison:
    """Contrasts of the pooled arms of one cell."""

    def __init__(
        self,
        cell: StudyCell,
        pooled: pd.DataFrame,
        table: pd.DataFrame,
        correct: Mapping[Any, bytes],
        surface: CellSurface | None,
    ) -> None:
        self._cell, self._table = cell, table
        self._epsilon = confirmed_epsilons(pooled)
        self._bits: dict[str, dict[int, bytes]] = {}
        for label, arm, seed in zip(pooled.index, pooled["arm"], pooled["seed"], strict=True):
            if label in correct:
                self._bits.setdefault(str(arm), {})[int(seed)] = correct[label]
        self._draws: SurfaceDraws | None = None
        self._rank = [BEST]  # arms that may be the best one, highest on the surface first
        if surface is not None and BEST in table:
            self._draw_surface(surface, pooled)

    def _draw_surface(self, surface: CellSurface, pooled: pd.DataFrame) -> None:
        """Ask the surface about the arms that lie on it."""
        on_it = pooled[pooled["rescale"].isna() & (pooled["arm"] != CE)]
        points = {str(arm): confirmed_point(rows) for arm, rows in on_it.groupby("arm")}
        arms = {arm: None if arm == BEST else point.epsilon for arm, point in points.items()}
        if not all(surface.has(point) for point in points.values()):
            return
        analytic = [arm for arm in points if rule_of(arm) is not None]
        level = {arm: surface.level(points[arm]) for arm in (BEST, *analytic)}
        self._rank = sorted(level, key=lambda arm: -level[arm])
        measured = {}
        for arm in analytic:
            over = self._comparator(arm)
            plain = self._plain(over, arm)
            if len(plain.differences):
                difference = 100 * float(plain.differences.mean())
                measured[arm] = Measured(over, difference, over_is_fixed=over != BEST)
        self._draws = surface.draw(arms, points, measured)

    def _comparator(self, arm: str) -> str:
        """The arm that an analytic arm is compared with: the highest other one on the surface."""
        others = [name for name in self._rank if name != arm]
        other_epsilon = [
            name
            for name in others
            if not have_same_epsilon(self._epsilon[name], self._epsilon[arm])
        ]
        return (other_epsilon or others)[0]

    def cost_contrast(self, arm: str) -> Contrast:
        """What an arm costs against the best ε, with what the surface says about it.

        The comparator is the highest arm on the surface, mostly `best`: where search and sweep rank
        an analytic ε first, the other arms are compared with that one, and it is compared with the
        strongest challenger.
        """
        if rule_of(arm) is None:
            first = self._rank[0]
            return replace(self._plain(first, arm), adjustment=self._below_best(first, arm))
        first = self._comparator(arm)
        plain = self._plain(first, arm)
        if plain.same_epsilon:
            return plain
        leads = self._rank[0] == arm
        given = None if self._draws is None else self._draws.costs.get(arm)
        if given is None:
            return replace(plain, adjustment=self._below_best(first, arm), leads=leads)
        return replace(
            plain,
            adjustment=given.cost - given.slope * float(plain.differences.mean()),
            slope=given.slope,
            leads=leads,
        )

    def contrast(self, first: str, second: str) -> Contrast:
        """First arm minus second arm, each at its best learning rate."""
        return replace(self._plain(first, second), adjustment=self._shortfall(first, second))

    def _below_best(self, first: str, second: str) -> Array | None:
        """How far the first point is below the best one, minus the shortfall of the second."""
        if self._draws is None or not {first, second} <= self._draws.shortfalls.keys():
            return None
        return self._draws.below_best[first] - self._draws.shortfalls[second]

    def _shortfall(self, first: str, second: str) -> Array | None:
        """The shortfall of the first point minus that of the second."""
        if self._draws is None or not {first, second} <= self._draws.shortfalls.keys():
            return None
        return self._draws.shortfalls[first] - self._draws.shortfalls[second]

    def _plain(self, first: str, second: str) -> Contrast:
        """First arm minus second arm as measured; nothing where the two ε are one."""
        difference = (self._table[first] - self._table[second]).dropna()
        names = {first, second}
        same = any(rule_of(name) is not None for name in names) and ZERO not in names
        same = same and have_same_epsilon(self._epsilon[first], self._epsilon[second])
        return Contrast(
            cell_id=self._cell.cell_id,
            dataset=self._cell.dataset,
            differences=difference[:0] if same else difference,
            examples=None if same else self._examples(first, second),
            same_epsilon=same,
        )

    def _examples(self, first: str, second: str) -> ExampleEffects | None:
        bits = self._bits
        return example_effects(bits[first], bits[second]) if {first, second} <= set(bits) else None


def rule_of(arm_name: str) -> str | None:
    """The rule of an analytic arm; None for other arms."""
    arm = Arm.of_row(arm_name)
    return arm.rule if arm.is_analytic else None
