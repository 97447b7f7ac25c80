"""Progress of a study, from its folder alone; works on a running study and from any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from study.results.folder import CHECKPOINTS, ResultsError, StudyFolder
from study.results.plan_summary import (
    PLAN_FILE,
    CellSummary,
    PlanSummary,
    SearchPoint,
    SearchState,
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
        saved_cohorts: number of unfinished cohorts with a checkpoint, from which they continue.
    """

    study: str
    folder: str
    networks: Mapping[Stage, StageProgress]
    diverged: int
    last_row: datetime | None
    cells: Mapping[str, SearchState]
    saved_cohorts: int = 0

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
            "saved_cohorts": self.saved_cohorts,
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
    rows = folder.read("trials", columns=columns)
    done = {count["values"]: count["counts"] for count in rows["stage"].value_counts().to_pylist()}
    diverged = pc.sum(pc.equal(rows["status"], Status.DIVERGED.value)).as_py()
    searched = rows.filter(pc.equal(rows["stage"], Stage.SEARCH.value))
    points = {
        row["cell_id"]: row["count_all"]
        for row in searched.group_by("cell_id").aggregate([([], "count_all")]).to_pylist()
    }
    best = _best_rows(searched, plan.value_column)
    return StudyStatus(
        study=plan.study,
        folder=folder.uri,
        networks={
            stage: StageProgress(
                done.get(stage.value, 0) - (plan.superseded if stage == Stage.CONFIRM else 0),
                planned,
            )
            for stage, planned in plan.networks.items()
        },
        diverged=diverged or 0,
        last_row=pc.max(rows["finished_utc"]).as_py(),
        saved_cohorts=_saved_cohorts(folder),
        cells={
            cell.cell_id: SearchState(
                points.get(cell.cell_id, 0),
                cell.budget,
                _point(best[cell.cell_id], cell, plan.value_column)
                if cell.cell_id in best
                else None,
            )
            for cell in plan.cells
        },
    )


def _saved_cohorts(folder: StudyFolder) -> int:
    """Cohorts with both files of a checkpoint."""
    names = set(folder.file_names(CHECKPOINTS))
    return sum(
        name.endswith(".json") and f"{name.removesuffix('.json')}.pt" in names for name in names
    )


def _best_rows(searched: pa.Table, value: str) -> dict[str, dict[str, Any]]:
    """{cell id: the row of its best point}; the earliest of equally good ones, none pruned."""
    rows = searched.filter(pc.not_equal(searched["status"], Status.PRUNED.value))
    order = [("cell_id", "ascending"), (value, "descending"), ("point", "ascending")]
    firsts = rows.sort_by(order).group_by("cell_id", use_threads=False)
    columns = [name for name in rows.column_names if name != "cell_id"]
    best = firsts.aggregate([(name, "first") for name in columns])
    return {
        row["cell_id"]: {name: row[f"{name}_first"] for name in columns} for row in best.to_pylist()
    }


def _point(row: Mapping[str, Any], cell: CellSummary, value: str) -> SearchPoint:
    return SearchPoint(
        number=row["point"],
        value=row[value],
        lr=row["lr"],
        epsilon=row["epsilon"] if cell.takes_epsilon else None,
        loss=cell.label_of(row["loss"], row["loss_params"]) if cell.loss_is_searched else None,
    )
