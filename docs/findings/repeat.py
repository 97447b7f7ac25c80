"""Keeps what repetitions of studies on another machine said, for the page to compare.

    python docs/findings/repeat.py "two cores of an Intel Xeon" results/imbalance …

Writes repeated.json. The rows of a repetition are not kept: anyone can make others.
"""

import json
import sys
from pathlib import Path

from questions import HERE, arm_name

from analysis.verdict import compute


def repeated(folder: str) -> dict[str, object]:
    """What one repetition says about its cells."""
    verdict = compute(folder).verdict
    cells = {}
    for cell in verdict.cells:
        value = cell.primary_value
        if value is not None and cell.epsilon_analytic:
            cells[cell.cell_id] = {
                "verdict": cell.verdict.value,
                "cost": {"mean": value.mean, "low": value.low, "high": value.high},
                "accuracy": cell.accuracy[arm_name(cell, "analytic")].mean,
            }
    commits = [commit[:7] for commit in verdict.provenance.git_commit]
    return {"commits": commits, "started_utc": verdict.provenance.started_utc, "cells": cells}


if __name__ == "__main__":
    machine, *folders = sys.argv[1:]
    kept = {"machine": machine, "studies": {Path(f).name: repeated(f) for f in folders}}
    (HERE / "repeated.json").write_text(json.dumps(kept, indent=1) + "\n")
