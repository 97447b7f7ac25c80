"""The sweep of a study: a fixed grid on common seeds, and more seeds while an interval is wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from study.planning.cells import Cell, Network
from study.planning.plan import SWEEP_SEEDS_FROM, Plan

IntervalWidth = Callable[[Sequence[Mapping[str, Any]]], float | None]
"""Sweep rows of a cell → width of the 95 % interval of its best ε; None while there is none."""

SWEEP_COLUMNS = ("epsilon", "lr", "loss", "loss_params", "seed", "val_acc_noisy", "val_acc_clean")
"""The columns of each row that `IntervalWidth` receives."""


class SweepStage:
    """The sweep of a study: its networks, how many are left, and when a cell needs another seed.

    Rows of earlier runs are restored first; then the stage begins.

    Args:
        plan: the study's plan.
        interval_width: needed where the sweep continues until an interval is narrow.
    """

    def __init__(self, plan: Plan, interval_width: IntervalWidth | None) -> None:
        self._plan, self._interval_width = plan, interval_width
        self._networks = {cell: plan.sweep_networks(cell) for cell in plan.cells}
        self._rows: dict[Cell, list[Mapping[str, Any]]] = {cell: [] for cell in plan.cells}
        self._left = dict.fromkeys(plan.cells, 0)  # networks without a row

    @property
    def networks_planned(self) -> int:
        """Number of networks, those of the seeds that have been added included."""
        return sum(map(len, self._networks.values()))

    @property
    def is_done(self) -> bool:
        """Whether every network has a row."""
        return not any(self._left.values())

    def is_done_in(self, cell: Cell) -> bool:
        """Whether every network of a cell has a row."""
        return not self._left[cell]

    def networks_of(self, cell: Cell) -> list[Network]:
        """All networks of a cell, with and without a row."""
        return self._networks[cell]

    def restore(self, cell: Cell, row: Mapping[str, Any]) -> None:
        """Take a row of an earlier run.

        Args:
            cell: its cell.
            row: a row of `trials`, stage sweep.
        """
        sweep = self._plan.config.sweep
        if sweep is not None and sweep.until_interval is not None:
            self._rows[cell].append({name: row[name] for name in SWEEP_COLUMNS})

    def begin(self, done: set[str]) -> list[Network]:
        """The networks to train, those of seeds that earlier runs have added included.

        Args:
            done: ids of the networks with a row.
        """
        due = []
        for cell, rows in self._rows.items():
            seeds = {row["seed"] for row in rows} - {n.seed for n in self._networks[cell]}
            if seeds:
                self._networks[cell] += self._plan.sweep_networks(cell, sorted(seeds))
            left = [n for n in self._networks[cell] if n.network_id not in done]
            self._left[cell] = len(left)
            due += left
        return due

    def tell(self, network: Network, row: Mapping[str, Any]) -> bool:
        """Record a result.

        Args:
            network: a network of the sweep.
            row: columns of its row.

        Returns:
            whether it was the last one that its cell waited for.
        """
        settings = {"epsilon": network.epsilon, "lr": network.lr, "seed": network.seed}
        loss = {"loss": network.loss.name, "loss_params": network.loss.params_json}
        self.restore(network.cell, {**row, **settings, **loss})
        self._left[network.cell] -= 1
        return not self._left[network.cell]

    def grow(self, cell: Cell) -> list[Network]:
        """The networks of one more seed where the cell's interval is too wide; else none.

        Args:
            cell: a cell whose sweep is done.
        """
        sweep, networks = self._plan.config.sweep, self._networks[cell]
        if sweep is None or sweep.until_interval is None or not networks:
            return []
        seeds = networks[-1].seed - SWEEP_SEEDS_FROM + 1
        if self._interval_width is None or seeds >= sweep.most_seeds:
            return []
        width = self._interval_width(self._rows[cell])
        if width is not None and width <= sweep.until_interval:
            return []
        added = self._plan.sweep_networks(cell, [SWEEP_SEEDS_FROM + seeds])
        self._networks[cell] += added
        self._left[cell] = len(added)
        return added
