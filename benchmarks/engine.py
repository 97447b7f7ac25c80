"""Networks·epochs per second of the engine against training one network at a time.

    python benchmarks/engine.py [--data digits] [--pairs 7] [--members 1 4 16 64]

Ways: (a) what tutorials teach: one network, DataLoader, eager; (b) one network, batches indexed
from one tensor, eager; and the engine with K members. All on one thread of one process. (a) and (b)
train only: no noise bookkeeping, no learning dynamics, one pass over the validation set an epoch,
as the engine does. Ways take turns, so that a change of the machine's speed hits all of them; the
ratios are of neighbouring runs. Writes benchmarks/results/engine-<date>-<host cpu>.json.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from measure import ratio_summary, save
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainables import models
from trainables.cohort import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train
from trainables.runtime import configure_process

MODELS = {
    "digits": ("mlp", {"width": 128, "depth": 2}),
    "digit-pairs": ("mlp", {"width": 128, "depth": 2}),
    "fashion-mnist": ("mlp", {"width": 256, "depth": 2}),
    "cifar10": ("resnet20", {}),
}
BATCH = 128


def plain_loop(data_name: str, epochs: int, loader: bool, classes: int | None) -> Callable[[], int]:
    """(a) with `loader`, else (b): one network, written as anybody would."""
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
                for part in torch.arange(len(val_x)).split(1000):
                    (network(val_x[part]).argmax(1) == val_y[part]).float().mean().item()
        return epochs

    return run


def engine(data_name: str, epochs: int, members: int, classes: int | None) -> Callable[[], int]:
    """K members of plain CE with all of the engine's bookkeeping."""
    name, options = MODELS[data_name]
    spec = CohortSpec(
        data=DataSpec(data_name, classes),
        model=ModelSpec(name, options),
        recipe=Recipe(epochs, BATCH, schedule="constant"),
        members=[Member(str(i), "ce", 0.1, init_seed=i, noise_seed=i) for i in range(members)],
    )

    def run() -> int:
        train(spec)
        return epochs * members

    return run


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=MODELS, default="digits")
    parser.add_argument("--classes", type=int, help="keep the first so many classes")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    configure_process()
    data, epochs, classes = arguments.data, arguments.epochs, arguments.classes
    ways = {
        "a: DataLoader": plain_loop(data, epochs, True, classes),
        "b: tensor loop": plain_loop(data, epochs, False, classes),
        **{f"K = {k}": engine(data, epochs, k, classes) for k in arguments.members},
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.pairs + 1):  # the first warms up
        for way, run in ways.items():
            started = time.perf_counter()
            done = run()
            if turn:
                rates[way].append(done / (time.perf_counter() - started))
    baseline_a, baseline_b = np.array(rates["a: DataLoader"]), np.array(rates["b: tensor loop"])
    table = {
        way: {
            "networks_epochs_per_s": ratio_summary(np.array(found)),
            "over_a": ratio_summary(np.array(found) / baseline_a),
            "over_b": ratio_summary(np.array(found) / baseline_b),
        }
        for way, found in rates.items()
    }
    for way, row in table.items():
        words = "  ".join(
            f"{name} {r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for name, r in row.items()
        )
        print(f"{data:14} {way:15} {words}")
    save(f"engine-{data}", vars(arguments), table)


if __name__ == "__main__":
    main()
