"""Networks·epochs per second of the engine against training one network at a time.

    python benchmarks/engine.py [--data digits] [--pairs 7] [--members 1 4 16 64]

Measured: (a) what tutorials teach: one network, DataLoader, eager, in this process; (a, own
process) the same with a new process per network, like a trial of Ray Tune without reused actors;
(b) one network, batches indexed from one tensor, eager; the engine with K members at once; the
engine with 64 members, of which it chooses itself how many to train at once; and the engine without
its record of learning dynamics. All on one thread of one process. (a) and (b) only train, without
noise or learning dynamics, and evaluate the validation set once per epoch, as the engine does.

The variants take turns, so that a change of the machine's speed affects all of them; the ratios are
of neighbouring runs. Writes benchmarks/results/engine-<data>-<date>.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from measure import ratio_summary, save
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainables import models
from trainables.engine.metrics import EpochDynamics
from trainables.engine.runtime import configure_process
from trainables.engine.trainer import (
    CohortRun,
    CohortSpec,
    DataSpec,
    Member,
    ModelSpec,
    Recipe,
    train,
)
from trainables.stacking import matmul

MODELS = {
    "digits": ("mlp", {"width": 128, "depth": 2}),
    "digit-pairs": ("mlp", {"width": 128, "depth": 2}),
    "fashion-mnist": ("mlp", {"width": 256, "depth": 2}),
    "cifar10": ("resnet20", {}),
}
BATCH = 128


def plain_loop(data_name: str, epochs: int, loader: bool, classes: int | None) -> Callable[[], int]:
    """(a) with `loader`, else (b): one network in plain PyTorch."""
    data = DataSpec(data_name, classes).load()
    name, options = MODELS[data_name]
    x = torch.from_numpy(data.normalise(data.train_x))
    y = torch.tensor(data.train_y)
    val_x, val_y = torch.from_numpy(data.normalise(data.val_x)), torch.tensor(data.val_y)

    def run() -> int:
        network = models.build(name, data.input_shape, data.classes, options)
        models.initialise(network, torch.Generator().manual_seed(0))
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        batches = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
        for _ in range(epochs):
            network.train()
            each = (
                batches if loader else ((x[i], y[i]) for i in torch.randperm(len(x)).split(BATCH))
            )
            for inputs, labels in each:
                loss = nn.functional.cross_entropy(network(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                for rows in torch.arange(len(val_x)).split(1000):
                    (network(val_x[rows]).argmax(1) == val_y[rows]).float().mean().item()
        return epochs

    return run


def new_process(data_name: str, epochs: int, classes: int | None) -> Callable[[], int]:
    """(a) in a new process, imports and data included."""
    code = (
        "from engine import MODELS, configure_process, plain_loop; configure_process(); "
        f"MODELS[{data_name!r}] = {MODELS[data_name]!r}; "
        f"plain_loop({data_name!r}, {epochs}, True, {classes})()"
    )

    def run() -> int:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
        return epochs

    return run


def cohort(data_name: str, epochs: int, members: int, classes: int | None) -> CohortSpec:
    """K members of MAE with logit bias."""
    name, options = MODELS[data_name]
    return CohortSpec(
        data=DataSpec(data_name, classes),
        model=ModelSpec(name, options),
        recipe=Recipe(epochs, BATCH, schedule="constant"),
        members=[
            Member(str(i), "mae", 0.1, epsilon=1.0, init_seed=i, noise_seed=i)
            for i in range(members)
        ],
    )


def at_once(spec: CohortSpec, dynamics: bool = True) -> Callable[[], int]:
    """All members in one stack, with or without the record of learning dynamics."""

    def run() -> int:
        with mock.patch.object(EpochDynamics, "add", EpochDynamics.add if dynamics else count_one):
            run = CohortRun(spec, torch.device("cpu"), torch.float32)
            while not run.is_done:
                run.train_epoch()
            run.results()
        return spec.recipe.epochs * len(spec.members)

    return run


def count_one(dynamics: EpochDynamics, *batch: torch.Tensor) -> None:
    """Count one example instead of a batch, so that the means are defined."""
    dynamics._examples = 1


def as_picked(spec: CohortSpec) -> Callable[[], int]:
    """As many members at once as the engine chooses."""

    def run() -> int:
        train(spec)
        return spec.recipe.epochs * len(spec.members)

    return run


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=MODELS, default="digits")
    parser.add_argument("--model", help="another model than the data set's usual one")
    parser.add_argument("--classes", type=int, help="use only the first so many classes")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--picked-of", type=int, default=64, help="members from which it chooses")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.model:
        MODELS[arguments.data] = (arguments.model, {})
    configure_process()
    data, epochs, classes = arguments.data, arguments.epochs, arguments.classes
    cohorts = {k: cohort(data, epochs, k, classes) for k in arguments.members}
    largest = cohorts[max(k for k in cohorts if k <= 16)]
    variants = {
        "a: DataLoader": plain_loop(data, epochs, True, classes),
        "a, own process": new_process(data, epochs, classes),
        "b: tensor loop": plain_loop(data, epochs, False, classes),
        **{f"K = {k}": at_once(spec) for k, spec in cohorts.items()},
        f"K = {len(largest.members)}, no dynamics": at_once(largest, dynamics=False),
        "as picked": as_picked(cohort(data, epochs, arguments.picked_of, classes)),
    }
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    for turn in range(arguments.pairs + 1):  # the first warms up
        for variant, run in variants.items():
            started = time.perf_counter()
            done = run()
            if turn:
                rates[variant].append(done / (time.perf_counter() - started))
    against = {"over_a": "a: DataLoader", "over_own_process": "a, own process"}
    against["over_b"] = "b: tensor loop"
    table: dict[str, dict[str, dict[str, float]]] = {}
    for variant, measured in rates.items():
        table[variant] = {"networks_epochs_per_s": ratio_summary(np.array(measured))}
        for name, baseline in against.items():
            table[variant][name] = ratio_summary(np.array(measured) / np.array(rates[baseline]))
        words = "  ".join(
            f"{name} {r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"
            for name, r in table[variant].items()
        )
        print(f"{data:14} {variant:20} {words}")
    with_, without = (rates[f"K = {len(largest.members)}{end}"] for end in ("", ", no dynamics"))
    cost = ratio_summary(np.array(without) / np.array(with_) - 1)
    print(f"dynamics cost {100 * cost['median']:.1f} % [{100 * cost['low']:.1f}, ", end="")
    print(f"{100 * cost['high']:.1f}] of the training time")
    configuration = {**vars(arguments), "matmul": matmul.library()}
    name = data if arguments.model is None else f"{data}-{arguments.model}"
    save(f"engine-{name}", configuration, {**table, "dynamics_cost": cost})


if __name__ == "__main__":
    main()
