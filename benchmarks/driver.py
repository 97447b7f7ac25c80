"""What a driver costs: a campaign in which training is replaced by a made-up result.

    python benchmarks/driver.py [--networks 10000 100000 1000000]

Measured in one process, for each size of a study: proposing cohorts, making what a worker receives,
and taking results, in milliseconds per network of every tenth of the study, and the peak memory;
then, with all rows on a local disk, how long a run takes to read them and start again, and how long
`logit-bias status` takes to read them. Ray, training and the workers' writing are left out.
Writes benchmarks/results/driver-<date>.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import yaml

from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.planning.cells import Network
from study.planning.cohort_specs import cohort_spec, identity_columns
from study.planning.open_study import REPLAYED, plan_summary, replay_rows
from study.planning.plan import Plan, make_plan
from study.planning.scheduler import Cohort, Scheduler
from study.results.evidence import CellEvidence, ChosenPoint
from study.results.folder import StudyFolder
from study.results.plan_summary import write_plan_summary
from study.results.schema import SCHEMA_VERSION, TRIALS, Stage
from study.results.status import study_status
from study.results.table_files import compacted_metadata, compacted_name

WORKERS = 256
_TENTHS = 10
_ROWS_PER_FILE = 16_000


def cells_for(networks: int) -> int:
    """Number of cells with which a study has about so many networks."""
    of_one_cell = sum(make_plan(study_of(1)).networks().values())
    return max(1, round(networks / of_one_cell))


def study_of(cells: int) -> StudyConfig:
    """MAE on the digits, one cell for each noise rate."""
    content = {
        "name": "driver",
        "grid": {
            "dataset": ["digits"],
            "noise": [{"kind": "symmetric", "rate": 0.8 * i / cells} for i in range(cells)],
            "model": [{"name": "mlp", "width": 16}],
            "loss": ["mae"],
        },
        "recipe": {"epochs": 2, "batch_size": 128},
        "search": {
            "networks_per_cell": 16,
            "replicates": 4,
            "epsilon": {"low": 0.0, "high": 8.0},
            "lr": {"low": 0.05, "high": 2.0, "log": True},
        },
        "sweep": {"points": 9, "seeds": 5, "lr_points": 3},
        "confirm": {
            "seeds": 12,
            "replicate_seeds": 3,
            "arms": ["best", "tuned", "analytic:activation", "zero"],
        },
        "storage": "results/",
    }
    return parse_study(yaml.safe_dump(content).encode(), "driver")


def choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """The point of the best network for every arm: the surface's cost is the analysis's."""
    best = max(evidence.rows, key=lambda row: row.accuracy)
    return {
        name: ChosenPoint(best.loss, best.epsilon if epsilon is None else epsilon, best.lr)
        for name, epsilon in arms.items()
    }


def result(network: Network, rng: random.Random) -> dict[str, Any]:
    """What training would give."""
    accuracy = rng.random()
    return {
        "network_id": network.network_id,
        "val_acc_noisy": accuracy,
        "val_acc_clean": accuracy,
        "epochs": 2,
        "status": "complete",
        "wall_s": 1.0,
        "networks_in_cohort": 32,
    }


def write(rows: list[dict[str, Any]], plan: Plan, storage: str) -> None:
    """All rows on storage as a study leaves them: compacted files of some thousand rows."""
    folder = StudyFolder.at(storage)
    write_plan_summary(folder, plan_summary(plan))
    common = dict.fromkeys(TRIALS.names) | {
        "schema_version": SCHEMA_VERSION,
        "finished_utc": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }
    for stage in Stage:
        of_stage = [row for row in rows if row["stage"] == stage]
        for start in range(0, len(of_stage), _ROWS_PER_FILE):
            some = of_stage[start : start + _ROWS_PER_FILE]
            columns = {
                name: [row.get(name, value) for row in some] for name, value in common.items()
            }
            table = pa.table(columns, schema=TRIALS)
            table = table.replace_schema_metadata(compacted_metadata([f"{stage}-{start}"]))
            folder.write_table(table, "trials", stage, compacted_name(str(start)))


def campaign(cells: int, storage: str) -> dict[str, Any]:
    """The costs of one study, from its plan to its last network and back from rows in `storage`."""
    started = time.process_time()
    plan = make_plan(study_of(cells))
    scheduler = Scheduler(plan, workers=WORKERS, choose_points=choose_points)
    total = scheduler.networks_total
    planned_s = time.process_time() - started
    rng = random.Random(0)
    in_flight: list[tuple[Cohort, dict[str, dict[str, Any]]]] = []
    rows: list[dict[str, Any]] = []
    seconds, counts = [0.0] * _TENTHS, [0] * _TENTHS
    while True:
        started = time.process_time()
        cohort = scheduler.next_cohort() if len(in_flight) < WORKERS else None
        if cohort is not None:
            cohort_spec(plan.config, cohort.networks).to_dict()
            identities = [identity_columns(plan.config, n) for n in cohort.networks]
            tenth = min(len(rows) * _TENTHS // total, _TENTHS - 1)
            counts[tenth] += len(cohort.networks)
            seconds[tenth] += time.process_time() - started
            results = {n.network_id: result(n, rng) for n in cohort.networks}
            in_flight.append((cohort, results))
            rows += [
                {name: (identity | results[identity["network_id"]])[name] for name in REPLAYED}
                for identity in identities
            ]
            continue
        if not in_flight:
            break
        told, results = in_flight.pop(rng.randrange(len(in_flight)))
        started = time.process_time()
        scheduler.tell(told.cohort_id, results)
        assert scheduler.networks_done <= sum(scheduler.networks_planned.values())
        seconds[min(len(rows) * _TENTHS // total, _TENTHS - 1)] += time.process_time() - started
    assert scheduler.is_done
    assert len(rows) == total
    write(rows, plan, storage)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    del scheduler, rows
    folder = StudyFolder.at(storage)
    started = time.perf_counter()
    assert study_status(folder.uri).is_done
    status_s = time.perf_counter() - started
    started = time.perf_counter()
    assert Scheduler(plan, replay_rows(folder), choose_points=choose_points).is_done
    return {
        "networks": total,
        "plan_s": planned_s,
        "restart_s": time.perf_counter() - started,
        "status_s": status_s,
        "ms_per_network": [1000 * s / max(n, 1) for s, n in zip(seconds, counts, strict=True)],
        "campaign_s": sum(seconds),
        "peak_gb": peak_gb,
    }


def measured(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Each size in a process of its own, whose memory is then its alone."""
    for size in sizes:
        with ProcessPoolExecutor(1) as process, tempfile.TemporaryDirectory() as storage:
            yield process.submit(campaign, cells_for(size), storage).result()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--print-only", action="store_true", help="write no file")
    arguments = parser.parse_args()
    table = {}
    for row in measured(arguments.networks):
        table[str(row["networks"])] = row
        tenths = " ".join(f"{ms:.2f}" for ms in row["ms_per_network"])
        print(
            f"{row['networks']:9,} networks: plan {row['plan_s']:.1f} s, campaign "
            f"{row['campaign_s']:.0f} s, ms a network by tenths of the study {tenths}, "
            f"start again {row['restart_s']:.1f} s, status {row['status_s']:.1f} s, "
            f"peak {row['peak_gb']:.2f} GB",
            flush=True,
        )
    if not arguments.print_only:
        from measure import save  # here, because it imports torch

        save("driver", vars(arguments), table)


if __name__ == "__main__":
    main()
