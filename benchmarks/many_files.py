"""How fast `status` and a resume answer on a study of 10,000 cohort files.

    python benchmarks/many_files.py [--cohorts 10000] [--parts]

The folder is written here (rows that the study file itself would have produced, values made up);
`--parts` leaves every cohort in its own file, as if no stage had ended.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from study.config.loader import parse_study
from study.planning.cohort_specs import identity_columns
from study.planning.open_study import open_study, plan_summary, replay_rows
from study.planning.scheduler import Scheduler
from study.results.compaction import compact, discard_uncommitted
from study.results.folder import StudyFolder
from study.results.plan_summary import write_plan_summary
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS, Stage

LIMITS_S = {"status": 2.0, "resume": 20.0}


def study_of(cohorts: int, storage: str) -> bytes:
    """A study whose every cohort is one network: 4 arms × 4 cells, `cohorts` points in all."""
    return yaml.safe_dump(
        {
            "name": "many",
            "grid": {
                "dataset": ["digits"],
                "noise": [{"kind": "symmetric", "rate": r} for r in (0.0, 0.2, 0.4, 0.6)],
                "model": [{"name": "mlp", "width": 8, "depth": 1}],
                "loss": ["mae"],
            },
            "recipe": {"epochs": 2, "batch_size": 128},
            "search": {
                "sampler": "random",  # what is measured is reading, not Optuna's proposals
                "networks_per_cell": -(-cohorts // 16),
                "epsilon": {"low": 0, "high": 8},
                "lr": {"low": 0.05, "high": 1, "log": True},
            },
            "confirm": {"seeds": 2, "arms": ["tuned", "analytic:activation", "zero", "ce"]},
            "storage": storage,
        }
    ).encode()


def fill(folder: StudyFolder, cohorts: int) -> None:
    config = parse_study(folder.read_bytes("study.yaml") or b"", "study.yaml")
    _, plan = open_study(folder.uri)
    scheduler = Scheduler(plan, largest_cohort=1, stages=[Stage.SEARCH])
    while (cohort := scheduler.next_cohort()) and scheduler.cohorts_done < cohorts:
        network = cohort.networks[0]
        identity = identity_columns(config, network)
        row = {
            **dict.fromkeys(TRIALS.names),
            **identity,
            "schema_version": SCHEMA_VERSION,
            "cohort_id": cohort.cohort_id,
            "status": "complete",
            "epochs": 2,
            "val_acc_noisy": 0.5,
            "wall_s": 1.0,
            "networks_in_cohort": 1,
            "finished_utc": datetime.now(UTC),
        }
        epochs = [
            {**dict.fromkeys(EPOCHS.names), "network_id": network.network_id, "epoch": e}
            for e in (1, 2)
        ]
        folder.write_part(cohort.stage, cohort.cohort_id, [row], epochs)
        scheduler.tell(cohort.cohort_id, {network.network_id: row})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cohorts", type=int, default=10_000)
    options.add_argument("--parts", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        folder = StudyFolder(f"{storage}/many")
        folder.write_bytes("study.yaml", study_of(chosen.cohorts, storage))
        write_plan_summary(folder, plan_summary(open_study(folder.uri)[1]))
        fill(folder, chosen.cohorts)
        started = time.perf_counter()
        replaced = 0 if chosen.parts else compact(folder, "search")
        compacting = time.perf_counter() - started
        files = len(list(Path(folder.path).rglob("*.parquet")))
        print(f"{chosen.cohorts} cohorts in {files} files; compacting took {compacting:.1f} s")
        assert chosen.parts or replaced >= chosen.cohorts - 16

        started = time.perf_counter()
        command = [sys.executable, "-m", "study.cli", "status", folder.uri, "--json"]
        subprocess.run(command, check=True, capture_output=True)
        took = {"status": time.perf_counter() - started}

        started = time.perf_counter()
        discard_uncommitted(folder)
        _, plan = open_study(folder.uri)
        Scheduler(plan, replay_rows(folder))
        took["resume"] = time.perf_counter() - started
        for name, seconds in took.items():
            verdict = "within" if seconds <= LIMITS_S[name] else "ABOVE"
            print(f"{name}: {seconds:.1f} s ({verdict} {LIMITS_S[name]:.0f} s)")


if __name__ == "__main__":
    main()
