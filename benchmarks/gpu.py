"""Networks·epochs per second of cohorts on a GPU against one network at a time.

    python benchmarks/gpu.py [--model resnet32] [--members 1 4 8 16] [--compile] [--mps] [--pairs 5]

Synthetic CIFAR-sized images, batch 128, bf16. The baseline is an eager loop over one network with
autocast, channels-last and data on the device, training alone. `packed` is --packed such loops at a
time, one per process, as with fractional GPUs in Ray; with --mps, `packed, MPS` is the same under
NVIDIA's Multi-Process Service, which lets their kernels run at the same time. The engine also
evaluates and records its learning dynamics. Start-up is not counted: processes and imports of the
loops; initialisation, trial steps, recording and compiling of the engine (`start_s`, a cohort's
first epoch minus the median of the later ones). An epoch is the training split of --images
synthetic images. Needs only torch, torchvision and NumPy. The variants take turns; ratios are of
neighbouring runs. The share of the device's peak counts multiplications and additions of the
forward and backward pass, and needs --peak-tflops. Without a GPU: --device cpu --precision float32
--images 500 --pairs 1 --packed 0.
Writes benchmarks/results/gpu-<model>-<date>.json.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measure import ratio_summary, save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables import kernels, models
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

BATCH, CLASSES = 128, 100


def write_images(folder: str, images: int) -> DataSpec:
    """Write a data set of synthetic CIFAR-sized images with random pixels."""
    rng = np.random.default_rng(0)
    path = Path(folder) / "images.npz"
    x = rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(images) % CLASSES)
    return DataSpec(str(path))


class Rate(NamedTuple):
    """Networks·epochs per second, and seconds of start-up."""

    per_s: float
    start_s: float = 0.0


def synchronised(device: str) -> float:
    """Seconds on a clock, after the device has finished."""
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
        os.environ[kernels.VARIABLE] = "torch"  # a plain network
        try:
            return train_one()
        finally:
            del os.environ[kernels.VARIABLE]

    def train_one() -> Rate:
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


@contextlib.contextmanager
def multi_process_service() -> Iterator[None]:
    """Processes that start meanwhile share the GPU through NVIDIA's Multi-Process Service."""
    control, folder = "nvidia-cuda-mps-control", tempfile.mkdtemp(prefix="mps-")
    variables = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
    os.environ.update(dict.fromkeys(variables, folder))
    subprocess.run([control, "-d"], check=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the last registered runs first
    atexit.register(subprocess.run, [control], input=b"quit", env=dict(os.environ), check=False)
    try:
        yield
    finally:
        for variable in variables:
            del os.environ[variable]


class Packed:
    """Processes on one device that each train one network at a time."""

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
            atexit.register(process.kill)

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
    data: DataSpec,
    model: str,
    device: str,
    recipe: Recipe,
    members: int,
    with_kernels: bool = True,
) -> Callable[[], Rate]:
    """K networks of the engine, with its own kernels or PyTorch's operations."""
    spec = CohortSpec(
        data=data,
        model=ModelSpec(model),
        recipe=recipe,
        members=[Member(str(i), "ce", 0.1, init_seed=i, noise_seed=i) for i in range(members)],
    )

    def run() -> Rate:
        if not with_kernels:
            os.environ[kernels.VARIABLE] = "torch"
        try:
            return train_cohort()
        finally:
            os.environ.pop(kernels.VARIABLE, None)

    def train_cohort() -> Rate:
        ended: list[float] = []
        started = time.perf_counter()
        train(spec, device=device, save=lambda state: ended.append(synchronised(device)))
        # Members that do not fit at once train one group after another; each has a first epoch.
        later = np.diff(ended)[np.arange(1, len(ended)) % recipe.epochs != 0]
        at_once = members * recipe.epochs / len(ended)
        epoch = float(np.median(later))  # some also record their steps
        return Rate(at_once / epoch, ended[0] - started - epoch)

    return run


def flops_of_an_epoch(data: DataSpec, model: str) -> float:
    """FLOP of one network's forward and backward pass over the training images."""
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
    parser.add_argument("--compile", action="store_true", help="also the largest K compiled")
    parser.add_argument(
        "--without-kernels", action="store_true", help="also the largest K with PyTorch's kernels"
    )
    parser.add_argument("--augment", action="store_true", help="crop and flip, in the engine")
    parser.add_argument("--epochs", type=int, default=4, help="of the engine, 2 or more")
    parser.add_argument("--packed", type=int, default=4, help="processes; 0 for none")
    parser.add_argument("--mps", action="store_true", help="also the packed processes under MPS")
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
        flops, images = flops_of_an_epoch(data, arguments.model), len(data.load().train_y)
        variants: dict[str, Callable[[], Rate]] = {
            "one network": one_network(data, arguments.model, device, precision)
        }
        augment = {"crop": 4, "flip": True} if arguments.augment else {}
        recipe = Recipe(arguments.epochs, BATCH, precision=precision, augment=augment)
        for k in arguments.members:
            variants[f"K = {k}"] = cohort(data, arguments.model, device, recipe, k)
        if arguments.without_kernels:
            k = max(arguments.members)
            variants[f"K = {k}, without kernels"] = cohort(
                data, arguments.model, device, recipe, k, with_kernels=False
            )
        if arguments.compile:
            k, compiled = max(arguments.members), replace(recipe, compile=True)
            variants[f"K = {k}, compiled"] = cohort(data, arguments.model, device, compiled, k)
        if arguments.packed:
            packed = arguments.packed, data, arguments.model, device, precision
            variants["packed"] = Packed(*packed)
            if arguments.mps:
                with multi_process_service():
                    variants["packed, MPS"] = Packed(*packed)
        measured: dict[str, list[Rate]] = {variant: [] for variant in variants}
        for turn in range(arguments.pairs + 1):  # the first warms up
            for variant, run in variants.items():
                rate = run()
                print(f"turn {turn}, {variant}: {rate.per_s:.3g} networks·epochs/s", flush=True)
                if turn:
                    measured[variant].append(rate)
    rates = {variant: np.array([rate.per_s for rate in each]) for variant, each in measured.items()}
    table = {}
    for variant, per_s in rates.items():
        table[variant] = {
            "networks_epochs_per_s": ratio_summary(per_s),
            "over_one_network": ratio_summary(per_s / rates["one network"]),
            "images_per_s": ratio_summary(per_s * images),
            "ms_per_network_step": ratio_summary(1000 / (per_s * images / BATCH)),
            "tflops": ratio_summary(per_s * flops / 1e12),
        }
        if variant.startswith("K"):
            table[variant]["start_s"] = ratio_summary(
                np.array([rate.start_s for rate in measured[variant]])
            )
        for baseline in rates:
            if baseline.startswith("packed"):
                table[variant][f"over {baseline}"] = ratio_summary(per_s / rates[baseline])
        if arguments.peak_tflops:
            table[variant]["share_of_peak"] = ratio_summary(
                per_s * flops / 1e12 / arguments.peak_tflops
            )
        print(variant, "  ".join(f"{k} {v['median']:.3g}" for k, v in table[variant].items()))
    save(f"gpu-{arguments.model}", vars(arguments), table)


if __name__ == "__main__":
    main()
