"""What a whole study reaches, through Ray: images and networks per second, accuracy.

    python benchmarks/study_rate.py [STUDY …] [--stage search]

Runs (or resumes) studies and computes from their rows, for each stage: networks, sizes of cohorts,
networks a minute from the first start to the last end, training images a second of one worker
(median over epochs from the third on, which need no preparation), and the test accuracy of each
arm. Without STUDY: the search of `studies/resnet32-rate.yaml`, and `studies/resnet32-clean.yaml`;
they need a GPU, and CIFAR-10 in LOGIT_BIAS_DATA. Writes benchmarks/results/study-rate-<date>.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import save

from study.config.loader import read_study
from study.results.folder import StudyFolder

STUDIES = Path(__file__).parent / "studies"
_FIRST_EPOCHS = 2  # in which a GPU's steps and evaluations are recorded


def rates(folder: StudyFolder) -> dict[str, Any]:
    """{stage: rates and accuracies} of a study's rows."""
    trials, epochs = (folder.read(table).to_pandas() for table in ("trials", "epochs"))
    return {
        str(stage): _of_stage(rows, epochs[epochs.network_id.isin(rows.network_id)])
        for stage, rows in trials.groupby("stage")
    }


def _of_stage(rows: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, Any]:
    seconds = (rows.finished_utc.max() - rows.started_utc.min()).total_seconds()
    later = epochs[epochs.epoch > _FIRST_EPOCHS].join(
        rows.set_index("network_id")[["cohort_id", "train_size"]], on="network_id"
    )
    # Networks that trained at once have the same time.
    together = later.groupby(["cohort_id", "epoch", "wall_s"], as_index=False).train_size.sum()
    per_s = together.train_size / together.wall_s
    tested = rows.dropna(subset=["test_acc"]).groupby(["cell_id", "arm"]).test_acc
    return {
        "networks": len(rows),
        "networks_in_cohorts": sorted(rows.groupby("cohort_id").size().tolist()),
        "devices": sorted(rows.device.unique()),
        "seconds": seconds,
        "networks_per_minute": 60 * len(rows) / seconds,
        "images_per_s": float(per_s.median()),
        "test_accuracy": {
            f"{cell}, {arm}": {
                "mean": float(some.mean()),
                "least": float(some.min()),
                "n": len(some),
            }
            for (cell, arm), some in tested
        },
    }


def main() -> None:
    """Run, measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("studies", nargs="*", help="study files, or names of presets")
    parser.add_argument("--stage", action="append", default=[], help="as of `logit-bias run`")
    arguments = parser.parse_args()
    if not arguments.studies and not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    runs = [(study, arguments.stage) for study in arguments.studies] or [
        (str(STUDIES / "resnet32-rate.yaml"), ["search"]),
        (str(STUDIES / "resnet32-clean.yaml"), []),
    ]
    table = {}
    for study, stages in runs:
        options = [option for stage in stages for option in ("--stage", stage)]
        subprocess.run([sys.executable, "-m", "study.cli", "run", study, *options], check=True)
        config, _ = read_study(study)
        table[config.name] = rates(StudyFolder.at(config.folder_uri))
        print(config.name, table[config.name], flush=True)
    save("study-rate", {"runs": runs}, table)


if __name__ == "__main__":
    main()
