"""How far a study is, from its folder alone; works on a running study and from any machine."""

from __future__ import annotations

from typing import Any

from study.campaign import Campaign
from study.run import open_study, replay_rows


def study_status(uri: str) -> dict[str, Any]:
    """Networks planned and done by stage, and the best search point of each cell.

    Raises
    ------
    ResultsError: there is no study in the folder.
    """
    folder, plan = open_study(uri)
    rows = replay_rows(folder, plan.config)
    campaign = Campaign(plan, rows)
    planned = plan.networks()
    done = {stage: sum(row["stage"] == stage for row in rows) for stage in planned}
    finished = [row["finished_utc"] for row in rows]
    return {
        "study": plan.config.name,
        "folder": folder.uri,
        "done": campaign.is_done,
        "networks": {s: {"done": done[s], "planned": planned[s]} for s in planned},
        "diverged": sum(row["status"] == "diverged" for row in rows),
        "last_row_utc": max(finished).isoformat(timespec="seconds") if finished else None,
        "cells": [
            {"cell_id": cell_id, "searched": tried, "budget": budget, "best": best}
            for cell_id, (tried, budget, best) in campaign.search_state().items()
        ],
    }
