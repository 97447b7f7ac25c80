"""Memory of one process and of four processes that use CIFAR-10 at the same time.

    LOGIT_BIAS_DATA=… python benchmarks/memory.py [--processes 1 4]

A process loads the data set and reads every pixel; for comparison, copies the data set; or trains a
cohort on it. Measured is the proportional set size, in which a page that n processes share counts
1/n in each, summed over the processes while all of them hold their data. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path


def read_shared() -> object:
    """Read the shared data set, as every worker does."""
    from trainables import datasets

    data = datasets.load("cifar10")
    for inputs in (data.train_x, data.val_x, data.test_x):
        inputs.sum()
    return data


def read_copy() -> object:
    """Copy the data set, as if it were not shared."""
    from trainables import datasets

    data = datasets.load("cifar10")
    return [inputs.copy() for inputs in (data.train_x, data.val_x, data.test_x)]


def import_torch() -> object:
    """Import what every worker needs."""
    import torch

    return torch


def train_mlp() -> object:
    """Train a cohort of 8 MLPs."""
    return _train("mlp", {"width": 256, "depth": 2}, members=8)


def train_cnn() -> object:
    """Train a cohort of one eight-layer CNN."""
    return _train("cnn8", {}, members=1)


def _train(model: str, options: dict[str, int], members: int) -> object:
    from trainables.engine.runtime import configure_process
    from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

    configure_process()
    spec = CohortSpec(
        data=DataSpec("cifar10", 2),
        model=ModelSpec(model, options),
        recipe=Recipe(1, 128),
        members=[Member(str(i), "ce", 0.01, init_seed=i) for i in range(members)],
    )
    train(spec)
    return read_shared()


ACTIONS = (read_shared, read_copy, import_torch, train_mlp, train_cnn)


def pss_mb() -> float:
    """Proportional set size of this process, in MB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Pss in /proc/self/smaps_rollup")


def one_process(
    action: Callable[[], object],
    ready: Barrier,
    sizes_mb: multiprocessing.Queue[float],
) -> None:
    """Act, wait for the other processes, and measure while all of them hold their data."""
    held = action()
    ready.wait()
    sizes_mb.put(pss_mb())
    ready.wait()
    del held


def measured(action: Callable[[], object], processes: int) -> float:
    """MB of `processes` new processes in total."""
    context = multiprocessing.get_context("spawn")
    ready, sizes_mb = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=one_process, args=(action, ready, sizes_mb))
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    total = sum(sizes_mb.get() for _ in started)
    for process in started:
        process.join()
    return total


def main() -> None:
    """Measure, print and save."""
    from measure import (
        save,
    )  # here, because it imports torch, which the measured processes must not

    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, nargs=2, default=[1, 4])
    arguments = parser.parse_args()
    one, many = arguments.processes
    table = {}
    for action in ACTIONS:
        alone, total = measured(action, one), measured(action, many)
        table[action.__name__] = {
            f"mb_{one}": alone,
            f"mb_{many}": total,
            "ratio": total / alone,
        }
        print(f"{action.__name__:14} {alone:7.0f} MB {total:7.0f} MB  {total / alone:.2f} times")
    save("memory-cifar10", vars(arguments), table)


if __name__ == "__main__":
    main()
