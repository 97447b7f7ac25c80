"""Networks·epochs per second of cohorts on a GPU against one network at a time.

    python benchmarks/gpu.py [--model resnet32] [--members 1 4 8 16] [--compile] [--pairs 5]

CIFAR-shaped random images, batch 128, bf16. The baseline is an eager loop over one network with
autocast, channels-last and data on the device, training alone. `packed` is --packed such loops at a
time, a process each, as fractional GPUs in Ray have it. The engine also evaluates and records its
learning dynamics. Starting is not counted: processes and imports there; initialisation, trial
steps, recording and compiling here (`start_s`, a cohort's first epoch less the mean of the later).
Needs torch, torchvision and NumPy alone. Ways take turns; ratios are of neighbouring runs. The
achieved share of the device's peak counts multiplications and additions of forward and backward
pass, and needs --peak-tflops. A try without a GPU: --device cpu --precision float32 --images 500
--pairs 1 --packed 0.
Writes benchmarks/results/gpu-<model>-<date>.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measure import ratio_summary, save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables import models
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

BATCH, CLASSES = 128, 100


def write_images(folder: str, images: int) -> DataSpec:
    """A data set of one's own: CIFAR-shaped random images with random labels."""
    rng = np.random.default_rng(0)
    path = Path(folder) / "images.npz"
    x = rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(images) % CLASSES)
    return DataSpec(str(path))


class Rate(NamedTuple):
    """Networks·epochs per second, and seconds before that rate was reached."""

    per_s: float
    start_s: float = 0.0


def synchronised(device: str) -> float:
    """Seconds on a clock, once the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def one_network(data: DataSpec, model: str, device: str, precision: str) -> Callable[[], Rate]:
    """One network, eager, everything on the device."""
    loaded = data.load()
    x = torch.from_numpy(loaded.normalise(loaded.train_x)).to(device)
    x = x.to(memory_format=torch.channels_last)
    y = torch.tensor(loaded.train_y).to(device)

    def run() -> Rate:
        network = models.build(model, loaded.input_shape, CLASSES, {}).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        network.train()
        started = synchronised(device)
        for batch in torch.randperm(len(x), device=device).split(BATCH):
            with torch.autocast(
                torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"
            ):
                loss = nn.functional.cross_entropy(network(x[batch]).float(), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return Rate(1 / (synchronised(device) - started))

    return run


class Packed:
    """Processes that each train one network at a time on the same device."""

    def __init__(
        self, processes: int, data: DataSpec, model: str, device: str, precision: str
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._begin, self._end = context.Barrier(processes + 1), context.Barrier(processes + 1)
        arguments = (self._begin, self._end, data, model, device, precision)
        self._processes = [
            context.Process(target=_packed, args=arguments, daemon=True) for _ in range(processes)
        ]
        for process in self._processes:
            process.start()

    def __call__(self) -> Rate:
        """One epoch of one network in every process."""
        self._begin.wait()
        started = time.perf_counter()
        self._end.wait()
        return Rate(len(self._processes) / (time.perf_counter() - started))


def _packed(begin: Any, end: Any, data: DataSpec, model: str, device: str, precision: str) -> None:
    run = one_network(data, model, device, precision)
    while True:
        begin.wait()
        run()
        end.wait()


def cohort(
    data: DataSpec, model: str, device: str, recipe: Recipe, members: int
) -> Callable[[], Rate]:
    """K networks of the engine."""
    spec = CohortSpec(
        data=data,
        model=ModelSpec(model),
        recipe=recipe,
        members=[Member(str(i), "ce", 0.1, init_seed=i, noise_seed=i) for i in range(members)],
    )

    def run() -> Rate:
        ended: list[float] = []
        started = time.perf_counter()
        train(spec, device=device, save=lambda state: ended.append(synchronised(device)))
        # Parts that do not fit together come one after the other; each has a first epoch.
        later = np.diff(ended)[np.arange(1, len(ended)) % recipe.epochs != 0]
        together = members * recipe.epochs / len(ended)
        epoch = float(np.mean(later))
        return Rate(together / epoch, ended[0] - started - epoch)

    return run


def flops_of_an_epoch(data: DataSpec, model: str) -> float:
    """Of one network's forward and backward pass over the training images."""
    loaded = data.load()
    network = models.build(model, loaded.input_shape, CLASSES, {})
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, *loaded.input_shape)).sum().backward()
    return counter.get_total_flops() / 2 * len(loaded.train_y)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet32")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--compile", action="store_true", help="the largest K compiled, too")
    parser.add_argument("--epochs", type=int, default=4, help="of the engine, 2 or more")
    parser.add_argument("--packed", type=int, default=4, help="processes; 0 for none")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    parser.add_argument("--peak-tflops", type=float)
    arguments = parser.parse_args()
    device, precision = arguments.device, arguments.precision
    if device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: no CUDA device; --device cpu --precision float32 tries the script without")
        return
    with tempfile.TemporaryDirectory() as folder:
        data = write_images(folder, arguments.images)
        flops = flops_of_an_epoch(data, arguments.model)
        ways: dict[str, Callable[[], Rate]] = {
            "one network": one_network(data, arguments.model, device, precision)
        }
        recipe = Recipe(arguments.epochs, BATCH, precision=precision)
        for k in arguments.members:
            ways[f"K = {k}"] = cohort(data, arguments.model, device, recipe, k)
        if arguments.compile:
            k, compiled = max(arguments.members), replace(recipe, compile=True)
            ways[f"K = {k}, compiled"] = cohort(data, arguments.model, device, compiled, k)
        if arguments.packed:
            ways["packed"] = Packed(arguments.packed, data, arguments.model, device, precision)
        found: dict[str, list[Rate]] = {way: [] for way in ways}
        for turn in range(arguments.pairs + 1):  # the first warms up
            for way, run in ways.items():
                rate = run()
                print(f"turn {turn}, {way}: {rate.per_s:.3g} networks·epochs/s", flush=True)
                if turn:
                    found[way].append(rate)
    rates = {way: np.array([rate.per_s for rate in each]) for way, each in found.items()}
    table = {}
    for way, per_s in rates.items():
        table[way] = {
            "networks_epochs_per_s": ratio_summary(per_s),
            "over_one_network": ratio_summary(per_s / rates["one network"]),
            "tflops": ratio_summary(per_s * flops / 1e12),
        }
        if way.startswith("K"):
            table[way]["start_s"] = ratio_summary(np.array([rate.start_s for rate in found[way]]))
        if arguments.packed:
            table[way]["over_packed"] = ratio_summary(per_s / rates["packed"])
        if arguments.peak_tflops:
            table[way]["share_of_peak"] = ratio_summary(
                per_s * flops / 1e12 / arguments.peak_tflops
            )
        print(way, "  ".join(f"{k} {v['median']:.3g}" for k, v in table[way].items()))
    save(f"gpu-{arguments.model}", vars(arguments), table)


if __name__ == "__main__":
    main()
