"""Which networks to train next: the state of a study between what is done and what is not.

A campaign knows neither Ray nor files. It is filled with the rows that exist, asked for cohorts,
and told results; the stages of each cell follow one another as soon as they can (search, then
confirm, which needs the search's choices; sweep fills whatever is idle).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from study.errors import BadInputError
from study.plan import (
    CONFIRM_SEEDS_FROM,
    Cell,
    Network,
    Plan,
)
from study.results import STAGES
from study.search import ArmSearch


@dataclass(frozen=True)
class Cohort:
    """Networks of one group, stage and seed, to be trained together."""

    cohort_id: str
    stage: str
    networks: list[Network]


class ForeignRowsError(BadInputError):
    """The study folder holds rows that this study file would not have produced."""


class Campaign:
    """The state of a study.

    Parameters
    ----------
    rows: rows of `trials` from earlier runs, in any order.
    workers: cohorts that can be in flight at a time; a group's due networks are spread over them.
    largest_cohort: most networks in one cohort.
    stages: stages to run; others are left as they are.

    Raises
    ------
    ForeignRowsError: `rows` do not belong to this plan.
    """

    def __init__(
        self,
        plan: Plan,
        rows: Iterable[Mapping[str, Any]] = (),
        *,
        workers: int = 1,
        largest_cohort: int = 32,
        stages: Iterable[str] = STAGES,
    ) -> None:
        self.plan = plan
        self._workers, self._largest = max(1, workers), largest_cohort
        self._stages = tuple(stages)
        self._searches = {
            cell: [ArmSearch(plan.config, cell, arm, i, len(arms)) for i, arm in enumerate(arms)]
            for cell, arms in plan.arms.items()
        }
        self._sweep = [n for cell in plan.cells for n in plan.sweep_networks(cell)]
        self._confirm: dict[Cell, list[Network]] = {}  # cells whose search is done
        self._in_flight: dict[str, Cohort] = {}
        self._busy: set[str] = set()  # network ids in flight
        self._done: set[str] = set()  # network ids with a row
        self.cohorts_done = 0  # in this run
        self._replay(rows)

    @property
    def networks_total(self) -> int:
        """Networks of the whole study, in the stages that are run."""
        return sum(n for stage, n in self.plan.networks().items() if stage in self._stages)

    @property
    def networks_done(self) -> int:
        """Networks with a row, in the stages that are run."""
        return sum(1 for network_id in self._done if network_id.partition("-")[0] in self._stages)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train and nothing is in flight."""
        searching = "search" in self._stages and not all(
            s.is_done for searches in self._searches.values() for s in searches
        )
        due = any(self._due(stage) for stage in self._stages if stage != "search")
        return not (self._in_flight or searching or due)

    @property
    def lacks_search(self) -> bool:
        """Whether confirm is to run, but not the search that it needs."""
        confirm = "confirm" in self._stages and self.plan.config.confirm is not None
        searched = all(s.is_done for searches in self._searches.values() for s in searches)
        return confirm and "search" not in self._stages and not searched

    @property
    def in_flight(self) -> list[Cohort]:
        """Cohorts being trained."""
        return list(self._in_flight.values())

    @property
    def searches(self) -> list[ArmSearch]:
        """Every arm's search, cell by cell."""
        return [search for searches in self._searches.values() for search in searches]

    def search_state(self) -> dict[str, tuple[int, int, str]]:
        """{cell_id: (points tried, points in all, the best point in words)}."""
        budget = self.plan.config.search.networks_per_cell
        state = {}
        for cell, searches in self._searches.items():
            tried = [t for s in searches for t in s.tried]
            best = max(tried, key=lambda t: t.value, default=None)
            words = "–"
            if best is not None:
                loss = f"{best.network.loss.label}, " if cell.loss is None else ""
                bias = f"ε {best.network.epsilon:.2f}, " if cell.takes_epsilon else ""
                words = f"{best.value:.3f} at {loss}{bias}lr {best.network.lr:.3g}"
            state[cell.cell_id] = (len(tried), budget * len(searches), words)
        return state

    def next_cohort(self) -> Cohort | None:
        """Networks to train now, or None while everything due is in flight.

        Stages are tried in the order search, confirm, sweep: the sweep waits for nothing, so it
        fills the workers that the others leave idle.
        """
        for stage in sorted(self._stages, key=("search", "confirm", "sweep").index):
            chosen = self._propose() if stage == "search" else self._choose(stage)
            if chosen:
                ids = "".join(n.network_id for n in chosen)
                cohort_id = f"{stage}-{hashlib.sha256(ids.encode()).hexdigest()[:16]}"
                cohort = Cohort(cohort_id, stage, chosen)
                self._in_flight[cohort_id] = cohort
                self._busy |= {n.network_id for n in chosen}
                return cohort
        return None

    def tell(self, cohort_id: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        """A cohort is trained and written: {network_id: columns of its row}."""
        column = self.plan.config.search.value_column
        cohort = self._in_flight.pop(cohort_id)
        self.cohorts_done += 1
        for network in cohort.networks:
            self._busy.discard(network.network_id)
            self._done.add(network.network_id)
            if network.stage == "search":
                row = results[network.network_id]
                self._search_of(network).tell(network, row[column], row["epochs"], row["status"])

    def give_up(self, cohort_id: str) -> None:
        """A cohort was not trained; its networks are due again."""
        cohort = self._in_flight.pop(cohort_id)
        for network in cohort.networks:
            self._busy.discard(network.network_id)
            if network.stage == "search" and (search := self._search_of(network)).is_waiting:
                search.withdraw()

    def _propose(self) -> list[Network]:
        """One point of every free search of a group, the least advanced group first.

        A group's searches are spread over the workers. That does not change what any of them
        proposes or finds.
        """
        active = [s for searches in self._searches.values() for s in searches if not s.is_done]
        free = sorted((s for s in active if not s.is_waiting), key=lambda s: len(s.tried))
        if not free:
            return []
        group = free[0].cell.group_id
        size = self._share(sum(s.round_size for s in active if s.cell.group_id == group))
        chosen: list[Network] = []
        for search in free:
            if search.cell.group_id == group and len(chosen) + search.round_size <= size:
                chosen += search.propose()
        # A round that is larger than a fair share still goes as a whole.
        return chosen or free[0].propose()

    def _choose(self, stage: str) -> list[Network]:
        """Due networks of one group and seed."""
        due = self._due(stage)
        if not due:
            return []
        first = due[0]
        size = self._share(sum(len(self._due(s)) for s in self._stages if s != "search"))
        together = [
            n for n in due if n.seed == first.seed and n.cell.group_id == first.cell.group_id
        ]
        return together[:size]

    def _share(self, networks: int) -> int:
        """Cohort size that spreads `networks` over the workers."""
        return min(self._largest, max(1, -(-networks // self._workers)))

    def _search_of(self, network: Network) -> ArmSearch:
        return next(s for s in self._searches[network.cell] if s.arm.name == network.arm)

    def _due(self, stage: str) -> list[Network]:
        """Networks of the sweep or confirm stage that could start now."""
        if stage == "confirm":
            for cell in self.plan.cells:
                if cell not in self._confirm and all(s.is_done for s in self._searches[cell]):
                    self._confirm[cell] = self._confirm_networks(cell)
            networks = [n for cell in self.plan.cells for n in self._confirm.get(cell, [])]
        else:
            networks = self._sweep
        gone = self._done | self._busy
        return [n for n in networks if n.network_id not in gone]

    def _confirm_networks(self, cell: Cell) -> list[Network]:
        """The best point of each arm of a searched cell, on fresh seeds."""
        confirm = self.plan.config.confirm
        if confirm is None:
            return []
        chosen = [(search.arm, search.best) for search in self._searches[cell]]
        return [
            Network(
                stage="confirm",
                cell=cell,
                loss=best.network.loss,
                epsilon=best.network.epsilon,
                lr=best.network.lr,
                seed=seed,
                arm=arm.name,
                rule=arm.rule,
            )
            for seed in range(CONFIRM_SEEDS_FROM, CONFIRM_SEEDS_FROM + confirm.seeds)
            for arm, best in chosen
            if best is not None
        ]

    def _replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild every search from rows, each arm in the order of its points."""
        column = self.plan.config.search.value_column
        arms = {(s.cell.cell_id, s.arm.name): s for ss in self._searches.values() for s in ss}
        ordered = sorted(rows, key=lambda row: (row["point"] is None, row["point"] or 0))
        for row in ordered:
            if row["network_id"] in self._done:
                continue
            self._done.add(row["network_id"])
            if row["stage"] != "search":
                continue
            search = arms.get((row["cell_id"], row["arm"]))
            if search is None or search.next_point != row["point"]:
                raise ForeignRowsError(
                    f"row {row['network_id']} (cell {row['cell_id']}, arm {row['arm']}, point "
                    f"{row['point']}) does not belong to this study file"
                )
            label = next(
                (
                    loss.label
                    for loss in search.cell.losses
                    if loss.name == row["loss"] and loss.params_json == row["loss_params"]
                ),
                None,
            )
            if label is None:
                raise ForeignRowsError(
                    f"row {row['network_id']}: loss {row['loss']} is not in this study file"
                )
            search.replay(
                label,
                row["epsilon"],
                row["lr"],
                row[column],
                row["epochs"],
                row["status"],
            )
