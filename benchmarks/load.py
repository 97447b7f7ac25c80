"""A study of thousands of networks with many workers, where training is replaced by sleeping.

    python benchmarks/load.py [--workers 4 16 64] [--networks 2000 6000 20000]

Everything but training is real: Ray Tune, one process for each worker, the scheduler with its
search, rows in parquet, compaction. Each cohort sleeps (`--train-s`), and storage is slow: every
file takes `--write-s` longer. The last study loses its driver halfway (SIGKILL) and is resumed.
Measured for each number of workers: networks and cohorts (Ray Tune trials) per second between the
first cohort and the last one, the processor time of the driver's process in that time, its memory,
and both in every quarter of the study. Ray's own processes and the workers are left out.
Writes benchmarks/results/load-<date>.json.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tens of processes that start on few cores need longer than Ray's 60 s; it would end them and begin
# again without end.
os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")

from study.planning.scheduler import Cohort
from study.results.atomic_write import AtomicFile
from study.results.folder import StudyFolder
from trainables.engine.results import EpochMetrics, MemberResult, TrialMetrics
from trainables.status import Status

_EPOCHS = 2
_QUARTERS = 4


def delay_writes(seconds: float) -> None:
    """Make every file that this process writes take longer."""
    finish = AtomicFile.__exit__

    def finish_late(
        self: AtomicFile,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        time.sleep(seconds)
        finish(self, kind, error, trace)

    if not hasattr(finish, "is_late"):  # a worker runs many cohorts
        finish_late.is_late = True  # type: ignore[attr-defined]
        AtomicFile.__exit__ = finish_late  # type: ignore[method-assign]


def made_up(network_id: str) -> MemberResult:
    """What training could give, by the network's id."""
    accuracy = random.Random(network_id).random()
    epochs = [
        EpochMetrics(
            network_id=network_id,
            epoch=epoch,
            train_loss=1.0,
            train_acc_noisy=accuracy,
            train_acc_clean=accuracy,
            mean_delta=0.1,
            mean_activation=0.1,
            vanishing_share=0.1,
            lr=0.1,
            grad_norm=1.0,
            val_acc_noisy=accuracy,
            val_acc_clean=accuracy,
            test_acc=accuracy,
            input_stall_share=0.0,
            wall_s=0.5,
        )
        for epoch in range(1, _EPOCHS + 1)
    ]
    metrics = TrialMetrics(
        status=Status.COMPLETE,
        epochs=_EPOCHS,
        train_acc_noisy=accuracy,
        train_acc_clean=accuracy,
        val_acc_noisy=accuracy,
        val_acc_clean=accuracy,
        test_acc=accuracy,
        best_val_acc_noisy=accuracy,
        noise_rate_realised=0.1,
        noise_rate_per_class=[0.1] * 10,
        logit_std_init=0.5,
        classes=10,
        train_size=1000,
        wall_s=1.0,
        networks_in_cohort=1,
    )
    return MemberResult(network_id, metrics, epochs)


def sleep_through(
    config: Mapping[str, Any],
    *,
    write_rows: Any,
    checkpointer: Any,
    train_s: float,
    write_s: float,
) -> None:
    """`trainables.tune.train_cohort` without training, and without importing torch."""
    from ray import tune

    delay_writes(write_s)
    started, cohort_id = datetime.now(UTC), config["cohort_id"]
    checkpointer.load(cohort_id)
    time.sleep(train_s)
    results = [made_up(identity["network_id"]) for identity in config["identity"]]
    write_rows(config, results, "none", started)
    checkpointer.discard(cohort_id)
    members = [{"network_id": r.network_id, **r.metrics.to_row()} for r in results]
    for member in members:
        del member["test_correct"]
    tune.report({"networks": len(members), "members": members, "memory_mb": None})


def drive(settings: Mapping[str, Any], storage: str) -> None:
    """Run or resume the study in this process; a line of its log is a cohort that is done."""
    from driver import cells_for, choose_points, study_of

    from study.config.sections import Resources
    from study.execution.run import RunOptions, run_study

    workers = settings["workers"]
    resources = Resources(workers=workers, cpus_per_cohort=(os.cpu_count() or 1) / workers)
    config = study_of(cells_for(settings["networks"])).model_copy(
        update={"storage": storage, "resources": resources}
    )
    delay_writes(settings["write_s"])
    with Path(storage, "log").open("a", buffering=1) as log:

        def note(_: StudyFolder, cohort: Cohort) -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory_mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            line = (time.monotonic(), len(cohort.networks), time.process_time(), memory_mb)
            log.write(json.dumps(line) + "\n")

        trainable = functools.partial(
            sleep_through, train_s=settings["train_s"], write_s=settings["write_s"]
        )
        options = RunOptions(after_cohort=note, trainable=trainable)
        content = json.dumps(config.model_dump(mode="json")).encode()
        run_study(config, content, options, choose_points=choose_points)


def measure(settings: Mapping[str, Any], loses_driver: bool) -> dict[str, Any]:
    """One study from its start to its last network."""
    from driver import cells_for, study_of

    from study.planning.plan import make_plan

    total = sum(make_plan(study_of(cells_for(settings["networks"]))).networks().values())
    with tempfile.TemporaryDirectory() as storage:
        log = Path(storage, "log")
        log.touch()
        command = [sys.executable, __file__, "--drive", json.dumps(settings), storage]
        resumed_s = None
        process = start_driver(command)
        if loses_driver:
            while process.poll() is None and networks(log) < total / 2:
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            before, lost = networks(log), time.monotonic()
            first = StudyFolder.at(f"{storage}/driver").read("trials").num_rows
            process = start_driver(command)
            while process.poll() is None and networks(log) == before:
                time.sleep(0.2)
            resumed_s = time.monotonic() - lost
        assert process.wait() == 0
        rows = StudyFolder.at(f"{storage}/driver").read("trials").column("network_id").to_pylist()
        assert len(set(rows)) == len(rows) == total
        noted = [json.loads(line) for line in log.read_text().splitlines()]
    # After a loss the processor time starts again.
    starts = [0, *(i for i in range(1, len(noted)) if noted[i][2] < noted[i - 1][2]), len(noted)]
    runs = [noted[a:b] for a, b in itertools.pairwise(starts)]
    wall_s = sum(run[-1][0] - run[0][0] for run in runs)
    cpu_s = sum(run[-1][2] - run[0][2] for run in runs)
    result = {
        "networks": total,
        "networks_per_s": sum(n for run in runs for _, n, _, _ in run[1:]) / wall_s,
        "cohorts_per_s": sum(len(run) - 1 for run in runs) / wall_s,
        "networks_per_cohort": total / len(noted),
        "driver_cpu_share": cpu_s / wall_s,
        "driver_cpu_ms_per_network": 1000 * cpu_s / total,
        "driver_mb": max(line[3] for line in noted),
        "quarters": [quarter(run, i) for run in runs for i in range(_QUARTERS)],
    }
    if resumed_s is not None:
        result |= {"rows_at_the_loss": first, "first_cohort_after_the_loss_s": resumed_s}
    return result


def start_driver(command: list[str]) -> subprocess.Popen[bytes]:
    """A driver that does not outlive this process."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    atexit.register(process.kill)
    return process


def quarter(run: list[list[float]], number: int) -> dict[str, float]:
    """What a quarter of a run's cohorts cost."""
    part = run[number * len(run) // _QUARTERS : (number + 1) * len(run) // _QUARTERS]
    wall_s = part[-1][0] - part[0][0]
    return {
        "networks_per_s": sum(line[1] for line in part[1:]) / wall_s,
        "driver_cpu_share": (part[-1][2] - part[0][2]) / wall_s,
        "driver_mb": part[-1][3],
    }


def networks(log: Path) -> int:
    """Networks whose cohorts the driver knows to be done."""
    lines = log.read_text().splitlines(keepends=True)
    return sum(json.loads(line)[1] for line in lines if line.endswith("\n"))


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--networks", type=int, nargs="+", default=[2000, 6000, 20_000])
    parser.add_argument("--train-s", type=float, default=1.0)
    parser.add_argument("--write-s", type=float, default=0.1)
    parser.add_argument("--print-only", action="store_true", help="write no file")
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(json.loads(arguments.drive[0]), arguments.drive[1])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    table = {}
    for workers, size in zip(arguments.workers, arguments.networks, strict=True):
        settings = {
            "workers": workers,
            "networks": size,
            "train_s": arguments.train_s,
            "write_s": arguments.write_s,
        }
        loads = [os.getloadavg()[0]]
        row = measure(settings, loses_driver=workers == arguments.workers[-1])
        row["load_average"] = [*loads, os.getloadavg()[0]]
        table[str(workers)] = row
        print(f"{workers} workers: {json.dumps(row)}", flush=True)
    if not arguments.print_only:
        from measure import save  # here, because it imports torch

        save("load", {k: v for k, v in vars(arguments).items() if k != "drive"}, table)


if __name__ == "__main__":
    main()
