"""Memory of one and of four processes that use CIFAR-10 at the same time.

    LOGIT_BIAS_DATA=… python benchmarks/memory.py [--processes 1 4]

Three things that a process may do: load the data set and read every pixel; the same with an array
of its own, for comparison; train a cohort on it. The figure is the proportional set size, in which
a page that n processes share counts 1/n in each, summed over the processes at the moment when all
of them hold what they need. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path


def read_shared() -> object:
    """The data set as every worker has it."""
    from trainables import datasets

    data = datasets.load("cifar10")
    for part in (data.train_x, data.val_x, data.test_x):
        part.sum()
    return data


def read_own() -> object:
    """A copy, as if it were not shared."""
    from trainables import datasets

    data = datasets.load("cifar10")
    return [part.copy() for part in (data.train_x, data.val_x, data.test_x)]


def import_torch() -> object:
    """What a worker needs whatever it trains."""
    import torch

    return torch


def train_mlp() -> object:
    """A cohort of 8 MLPs, in the middle of training."""
    return _train("mlp", {"width": 256, "depth": 2}, members=8)


def train_cnn() -> object:
    """A cohort of one eight-layer CNN."""
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


WAYS = (read_shared, read_own, import_torch, train_mlp, train_cnn)


def pss_mb() -> float:
    """Proportional set size of this process, in MB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Pss in /proc/self/smaps_rollup")


def one_process(
    way: Callable[[], object],
    ready: Barrier,
    found: multiprocessing.Queue[float],
) -> None:
    """Do it, wait for the others, and say what it takes while all of them are there."""
    held = way()
    ready.wait()
    found.put(pss_mb())
    ready.wait()
    del held


def measured(way: Callable[[], object], processes: int) -> float:
    """MB of `processes` fresh processes together."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=one_process, args=(way, ready, found)) for _ in range(processes)
    ]
    for process in started:
        process.start()
    total = sum(found.get() for _ in started)
    for process in started:
        process.join()
    return total


def main() -> None:
    """Measure, print and save."""
    from measure import save  # here, because it imports torch and the measured processes may not

    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, nargs=2, default=[1, 4])
    arguments = parser.parse_args()
    one, many = arguments.processes
    table = {}
    for way in WAYS:
        alone, together = measured(way, one), measured(way, many)
        table[way.__name__] = {
            f"mb_{one}": alone,
            f"mb_{many}": together,
            "ratio": together / alone,
        }
        print(f"{way.__name__:14} {alone:7.0f} MB {together:7.0f} MB  {together / alone:.2f} times")
    save("memory-cifar10", vars(arguments), table)


if __name__ == "__main__":
    main()
