"""Networks per minute of a whole study against the same search written as tutorials teach it.

    python benchmarks/end_to_end.py [--networks 512] [--tutorial-networks 24] [--pairs 3]

Both search ε and learning rate of MAE with TPE on digit-pairs (100 classes, 40 % symmetric noise)
for the same MLP and recipe, and are timed as whole processes, Ray's start included. The tutorial's
way is one Ray Tune trial a network with OptunaSearch, a DataLoader and an eager loop that reports
each epoch. It is given fewer networks, because its rate hardly depends on their number.
Writes benchmarks/results/end_to_end-<date>.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from measure import ratio_summary, save

WIDTH, EPOCHS, BATCH = 128, 8, 128


def study(networks: int, folder: str) -> dict[str, Any]:
    """A study of one data set whose search has about `networks` networks in eight cells."""
    cells = 8  # tuned arms of eight noise rates, so that there is something to fuse
    return {
        "name": "end-to-end",
        "grid": {
            "dataset": ["digit-pairs"],
            "noise": [{"kind": "symmetric", "rate": 0.4 + i / 1000} for i in range(cells)],
            "model": [{"name": "mlp", "width": WIDTH, "depth": 2}],
            "loss": ["mae"],
        },
        "recipe": {"epochs": EPOCHS, "batch_size": BATCH},
        "search": {
            "networks_per_cell": networks // cells,
            "epsilon": {"low": 0, "high": 8},
            "lr": {"low": 0.05, "high": 2, "log": True},
        },
        "storage": folder,
    }


def run_study(networks: int) -> None:
    """The engine's way, in this process."""
    from study.config.loader import parse_study
    from study.execution.run import run_study as run

    with tempfile.TemporaryDirectory() as folder:
        content = yaml.safe_dump(study(networks, folder)).encode()
        run(parse_study(content, "benchmark"), content)


def run_tutorial(networks: int) -> None:
    """The tutorial's way, in this process."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, float]) -> None:
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset

        from trainables import datasets, noise

        data = datasets.load("digit-pairs")
        noisy = noise.apply(data, "symmetric", 0.4, 0)
        train = TensorDataset(
            torch.from_numpy(data.normalise(data.train_x)), torch.tensor(noisy.train.labels)
        )
        x, y = torch.from_numpy(data.normalise(data.val_x)), torch.tensor(noisy.val.labels)
        net = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(128, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()),
            nn.Linear(WIDTH, 100),
        )
        optimizer = torch.optim.SGD(net.parameters(), config["lr"], momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        for _ in range(EPOCHS):
            for inputs, labels in DataLoader(train, BATCH, shuffle=True):
                bias = config["epsilon"] * nn.functional.one_hot(labels, 100)
                p = (net(inputs) + bias).softmax(1).gather(1, labels[:, None])
                optimizer.zero_grad()
                (1 - p).mean().backward()
                optimizer.step()
            schedule.step()
            with torch.no_grad():
                tune.report({"val_acc": (net(x).argmax(1) == y).float().mean().item()})

    ray.init(address="local", log_to_driver=False, include_dashboard=False)
    space = {"lr": tune.loguniform(0.05, 2), "epsilon": tune.uniform(0, 8)}
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric="val_acc", mode="max"), num_samples=networks
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()


def main() -> None:
    """Measure, print and save; with --way, be one of the two processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=512)
    parser.add_argument("--tutorial-networks", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--way", choices=["study", "tutorial"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way == "study":
        return run_study(arguments.networks)
    if arguments.way == "tutorial":
        return run_tutorial(arguments.tutorial_networks)
    counts = {"study": arguments.networks, "tutorial": arguments.tutorial_networks}
    rates: dict[str, list[float]] = {way: [] for way in counts}
    for _ in range(arguments.pairs):
        for way, count in counts.items():
            started = time.perf_counter()
            command = [sys.executable, str(Path(__file__)), "--way", way]
            command += ["--networks", str(count), "--tutorial-networks", str(count)]
            subprocess.run(command, check=True, capture_output=True)
            rates[way].append(60 * count / (time.perf_counter() - started))
            print(f"{way:9} {rates[way][-1]:.0f} networks/min")
    ours, theirs = np.array(rates["study"]), np.array(rates["tutorial"])
    table = {
        "study_networks_per_min": ratio_summary(ours),
        "tutorial_networks_per_min": ratio_summary(theirs),
        "ratio": ratio_summary(ours / theirs),
    }
    print(f"ratio {table['ratio']['median']:.1f}")
    save("end_to_end", {k: v for k, v in vars(arguments).items() if k != "way"}, table)
    return None


if __name__ == "__main__":
    main()
