"""What a study spends on anything but training: Ray's start, scheduling, writing, ends.

    python benchmarks/ray_share.py [--cohorts 16] [--epochs 200]

Runs a real study on all cores, each cohort training for half a minute or more, and compares the
seconds that workers spent training (column wall_s) with all seconds that they were there: of the
whole command, and from the first cohort's start to the last one's end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from measure import ratio_summary, save

from study.results.folder import StudyFolder

RATES = (0.0, 0.2, 0.4, 0.6)


def study(cohorts: int, epochs: int, storage: str) -> dict[str, object]:
    """`cohorts` cohorts of two networks, spread evenly over two workers at any time."""
    return {
        "name": "share",
        "grid": {
            "dataset": ["digit-pairs"],
            "noise": [{"kind": "symmetric", "rate": rate} for rate in RATES],
            "model": [{"name": "mlp", "width": 256, "depth": 2}],
            "loss": ["mae"],
        },
        "recipe": {"epochs": epochs, "batch_size": 128},
        "search": {
            "networks_per_cell": cohorts * 2 // len(RATES),
            "epsilon": {"low": 0, "high": 8},
            "lr": {"low": 0.05, "high": 1, "log": True},
        },
        "storage": storage,
    }


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cohorts", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "share.yaml")
        file.write_text(yaml.safe_dump(study(arguments.cohorts, arguments.epochs, folder)))
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "study.cli", "run", str(file)], check=True)
        whole_s = time.perf_counter() - started
        rows = StudyFolder(f"{folder}/share").read("trials").to_pylist()
    cohorts = {row["cohort_id"]: row for row in rows}.values()
    training_s = np.array([row["wall_s"] for row in cohorts])
    first = min(row["started_utc"] for row in cohorts)
    last = max(row["finished_utc"] for row in cohorts)
    steady_s = (last - first).total_seconds()
    table = {
        "cohort_training_s": ratio_summary(training_s),
        "share_of_the_whole_command": 1 - training_s.sum() / (workers * whole_s),
        "share_from_first_start_to_last_end": 1 - training_s.sum() / (workers * steady_s),
        "whole_command_s": whole_s,
        "workers": workers,
    }
    for name, value in table.items():
        print(f"{name:36} {value}")
    save("ray-share", vars(arguments), table)


if __name__ == "__main__":
    main()
