"""How far a study is, from its folder alone; works on a running study and from any machine.

A run leaves `plan.json` in the folder, so that this needs neither the study file's validation nor
torch, and answers at once.
"""

from __future__ import annotations

import json
from typing import Any

from study.results.folder import ResultsError, StudyFolder

PLAN_FILE = "plan.json"
_COLUMNS = ["stage", "cell_id", "point", "loss", "loss_params", "epsilon", "lr", "status"]


def study_status(uri: str) -> dict[str, Any]:
    """Networks planned and done by stage, and the best search point of each cell.

    Raises
    ------
    ResultsError: there is no study in the folder.
    """
    folder = StudyFolder.at(uri)
    plan = _plan(folder, uri)
    columns = ["schema_version", *_COLUMNS, "finished_utc", plan["value_column"]]
    rows = folder.read("trials", columns=columns).to_pylist()
    done = {stage: sum(row["stage"] == stage for row in rows) for stage in plan["networks"]}
    finished = [row["finished_utc"] for row in rows]
    searched: dict[str, list[dict[str, Any]]] = {cell["cell_id"]: [] for cell in plan["cells"]}
    for row in rows:
        if row["stage"] == "search":
            searched.setdefault(row["cell_id"], []).append(row)
    return {
        "study": plan["study"],
        "folder": folder.uri,
        "done": all(done[stage] >= count for stage, count in plan["networks"].items()),
        "networks": {s: {"done": done[s], "planned": n} for s, n in plan["networks"].items()},
        "diverged": sum(row["status"] == "diverged" for row in rows),
        "last_row_utc": max(finished).isoformat(timespec="seconds") if finished else None,
        "cells": [
            {
                "cell_id": cell["cell_id"],
                "searched": len(searched[cell["cell_id"]]),
                "budget": cell["budget"],
                "best": _best(searched[cell["cell_id"]], cell, plan["value_column"]),
            }
            for cell in plan["cells"]
        ],
    }


def _plan(folder: StudyFolder, uri: str) -> dict[str, Any]:
    content = folder.read_bytes(PLAN_FILE)
    if content is not None:
        try:
            return dict(json.loads(content))
        except ValueError as error:
            raise ResultsError(f"{uri}: {PLAN_FILE} is damaged; run the study again") from error
    from study.planning.open_study import (  # a folder from before there was a plan.json
        open_study,
        plan_summary,
    )

    return plan_summary(open_study(uri)[1])


def _best(rows: list[dict[str, Any]], cell: dict[str, Any], column: str) -> str:
    """The best point in words; the earliest of equals, and never one that was stopped early."""
    finished = [row for row in rows if row["status"] != "pruned"]
    best = max(finished, key=lambda row: (row[column], -row["point"]), default=None)
    if best is None:
        return "–"
    params = json.loads(best["loss_params"])
    label = "-".join([best["loss"], *(f"{k}={v:g}" for k, v in sorted(params.items()))])
    loss = f"{label}, " if cell["loss_is_searched"] else ""
    bias = f"ε {best['epsilon']:.2f}, " if cell["takes_epsilon"] else ""
    return f"{best[column]:.3f} at {loss}{bias}lr {best['lr']:.3g}"
