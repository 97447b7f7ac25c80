"""Progress of a study, from its folder alone; works on a running study and from any machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from study.results.folder import ResultsError, StudyFolder
from study.results.plan_summary import (
    PLAN_FILE,
    CellSummary,
    PlanSummary,
    SearchPoint,
    SearchState,
    best_point,
    read_plan_summary,
)
from study.results.schema import Stage, Status

_COLUMNS = ["stage", "cell_id", "point", "loss", "loss_params", "epsilon", "lr", "status"]


@dataclass(frozen=True)
class StageProgress:
    """Networks of one stage.

    Attributes:
        done: number of networks with a row.
        planned: number of networks in all.
    """

    done: int
    planned: int


@dataclass(frozen=True)
class StudyStatus:
    """Progress of a study.

    Attributes:
        study: the study's name.
        folder: path or URI of its folder.
        networks: progress per stage.
        diverged: number of networks that diverged.
        last_row: when the latest cohort finished; None without rows.
        cells: {cell id: progress of its search}.
    """

    study: str
    folder: str
    networks: Mapping[Stage, StageProgress]
    diverged: int
    last_row: datetime | None
    cells: Mapping[str, SearchState]

    @property
    def is_done(self) -> bool:
        """Whether every planned network has a row."""
        return all(stage.done >= stage.planned for stage in self.networks.values())

    @property
    def last_row_utc(self) -> str | None:
        """`last_row` as an ISO time in seconds."""
        return self.last_row.isoformat(timespec="seconds") if self.last_row else None

    def to_json(self) -> dict[str, Any]:
        """The content of `logit-bias status --json`."""
        return {
            "study": self.study,
            "folder": self.folder,
            "done": self.is_done,
            "networks": {stage.value: asdict(count) for stage, count in self.networks.items()},
            "diverged": self.diverged,
            "last_row_utc": self.last_row_utc,
            "cells": [
                {
                    "cell_id": cell_id,
                    "searched": state.completed,
                    "budget": state.planned,
                    "best": state.best_text,
                }
                for cell_id, state in self.cells.items()
            ],
        }


def study_status(uri: str, plan: PlanSummary | None = None) -> StudyStatus:
    """Networks planned and done per stage, and the best search point of each cell.

    Args:
        uri: the study folder, a path or URI.
        plan: the study's plan; None reads `plan.json`.

    Returns:
        The progress according to the rows on storage.

    Raises:
        ResultsError: there is no study in the folder, or no plan.
    """
    folder = StudyFolder.at(uri)
    plan = plan or read_plan_summary(folder)
    if plan is None:
        raise ResultsError(f"{uri}: no {PLAN_FILE} in this folder")
    columns = ["schema_version", *_COLUMNS, "finished_utc", plan.value_column]
    rows: list[dict[str, Any]] = folder.read("trials", columns=columns).to_pylist()
    done = Counter(row["stage"] for row in rows)
    searched: dict[str, list[dict[str, Any]]] = {cell.cell_id: [] for cell in plan.cells}
    for row in rows:
        if row["stage"] == Stage.SEARCH:
            searched.setdefault(row["cell_id"], []).append(row)
    return StudyStatus(
        study=plan.study,
        folder=folder.uri,
        networks={s: StageProgress(done[s], planned) for s, planned in plan.networks.items()},
        diverged=sum(row["status"] == Status.DIVERGED for row in rows),
        last_row=max((row["finished_utc"] for row in rows), default=None),
        cells={
            cell.cell_id: _search_state(searched[cell.cell_id], cell, plan.value_column)
            for cell in plan.cells
        },
    )


def _search_state(rows: list[dict[str, Any]], cell: CellSummary, value: str) -> SearchState:
    best = best_point(
        SearchPoint(
            number=row["point"],
            value=row[value],
            lr=row["lr"],
            epsilon=row["epsilon"] if cell.takes_epsilon else None,
            loss=cell.label_of(row["loss"], row["loss_params"]) if cell.loss_is_searched else None,
        )
        for row in rows
        if row["status"] != Status.PRUNED
    )
    return SearchState(len(rows), cell.budget, best)
