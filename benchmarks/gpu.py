"""Networks·epochs per second of convolutional cohorts on a GPU against one network at a time.

    python benchmarks/gpu.py [--model resnet32] [--members 1 4 8 16] [--pairs 5] [--device cuda]

CIFAR-shaped random images, batch 128, bf16. The baseline is an eager loop over one network with
autocast, channels-last and data on the device. `packed` is --packed such loops at a time, a process
each, as fractional GPUs in Ray have it (their start and imports are not counted). Needs torch,
torchvision and NumPy alone. Ways take turns; ratios are of neighbouring runs. The achieved share of
the device's peak counts multiplications and additions of forward and backward pass, and needs
--peak-tflops. A try without a GPU: --device cpu --precision float32 --images 500 --pairs 1.
Writes benchmarks/results/gpu-<model>-<date>.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import ratio_summary, save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables import models
from trainables.cohort import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

BATCH, CLASSES = 128, 100


def write_images(folder: str, images: int) -> DataSpec:
    """A data set of one's own: CIFAR-shaped random images with random labels."""
    rng = np.random.default_rng(0)
    path = Path(folder) / "images.npz"
    x = rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(images) % CLASSES)
    return DataSpec(str(path))


def one_network(data: DataSpec, model: str, device: str, precision: str) -> Callable[[], int]:
    """One network, eager, everything on the device."""
    loaded = data.load()
    x = torch.from_numpy(loaded.normalise(loaded.train_x)).to(device)
    x = x.to(memory_format=torch.channels_last)
    y = torch.tensor(loaded.train_y).to(device)

    def run() -> int:
        network = models.build(model, loaded.input_shape, CLASSES, {}).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        network.train()
        for batch in torch.randperm(len(x), device=device).split(BATCH):
            with torch.autocast(
                torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"
            ):
                loss = nn.functional.cross_entropy(network(x[batch]).float(), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return 1

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

    def __call__(self) -> int:
        """One epoch of one network in every process."""
        self._begin.wait()
        self._end.wait()
        return len(self._processes)


def _packed(begin: Any, end: Any, data: DataSpec, model: str, device: str, precision: str) -> None:
    run = one_network(data, model, device, precision)
    while True:
        begin.wait()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        end.wait()


def cohort(
    data: DataSpec, model: str, device: str, precision: str, members: int
) -> Callable[[], int]:
    """K networks of the engine."""
    spec = CohortSpec(
        data=data,
        model=ModelSpec(model),
        recipe=Recipe(1, BATCH, precision=precision),
        members=[Member(str(i), "ce", 0.1, init_seed=i, noise_seed=i) for i in range(members)],
    )

    def run() -> int:
        train(spec, device=device)
        return members

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
    parser.add_argument("--packed", type=int, default=4, help="processes; 0 for none")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    parser.add_argument("--peak-tflops", type=float)
    arguments = parser.parse_args()
    device, precision = arguments.device, arguments.precision
    with tempfile.TemporaryDirectory() as folder:
        data = write_images(folder, arguments.images)
        flops = flops_of_an_epoch(data, arguments.model)
        ways = {
            "one network": one_network(data, arguments.model, device, precision),
            **{
                f"K = {k}": cohort(data, arguments.model, device, precision, k)
                for k in arguments.members
            },
        }
        if arguments.packed:
            ways["packed"] = Packed(arguments.packed, data, arguments.model, device, precision)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(arguments.pairs + 1):  # the first warms up
            for way, run in ways.items():
                started = time.perf_counter()
                done = run()
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                if turn:
                    rates[way].append(done / (time.perf_counter() - started))
    baseline = np.array(rates["one network"])
    packed = np.array(rates["packed"]) if arguments.packed else None
    table = {}
    for way, found in rates.items():
        rate = np.array(found)
        table[way] = {
            "networks_epochs_per_s": ratio_summary(rate),
            "over_one_network": ratio_summary(rate / baseline),
            "tflops": ratio_summary(rate * flops / 1e12),
        }
        if packed is not None:
            table[way]["over_packed"] = ratio_summary(rate / packed)
        if arguments.peak_tflops:
            table[way]["share_of_peak"] = ratio_summary(rate * flops / 1e12 / arguments.peak_tflops)
        print(way, "  ".join(f"{k} {v['median']:.3g}" for k, v in table[way].items()))
    save(f"gpu-{arguments.model}", vars(arguments), table)


if __name__ == "__main__":
    main()
