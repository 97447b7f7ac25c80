"""What a cohort whose members use eight different losses costs, against a cohort of CE alone.

    python benchmarks/mixed_losses.py [--device cuda] [--members 16] [--pairs 15]

Times two things, mixed and plain in turn so that both see the same machine: one loss evaluation
with its gradient on logits [K, 128, 100], and the training of a whole cohort (digit-pairs, 100
classes). Prints the median of the paired ratios with their quartiles.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from trainables import losses
from trainables.cohort import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

MIXED = ("ce", "mae", "gce", "sce", "nce_mae", "nce_agce", "focal", "anl_ce")
BATCH, CLASSES = 128, 100


def loss_step(names: list[str], device: str) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(names), BATCH, CLASSES, generator=generator).to(device)
    labels = torch.randint(CLASSES, (len(names), BATCH), generator=generator).to(device)
    groups = []
    start = 0
    for name in dict.fromkeys(names):
        stop = start + names.count(name)
        epsilon = torch.full((stop - start,), 3.0 if name != "ce" else 0.0, device=device)
        groups.append((losses.get(name), slice(start, stop), epsilon))
        start = stop

    def step() -> None:
        leaf = logits.clone().requires_grad_()
        values = [
            losses.evaluate(loss, leaf[part], labels[part], epsilon)
            for loss, part, epsilon in groups
        ]
        torch.cat(values).mean().backward()

    return step


def cohort(names: list[str], device: str) -> Callable[[], None]:
    spec = CohortSpec(
        data=DataSpec("digit-pairs"),
        model=ModelSpec("mlp"),
        recipe=Recipe(epochs=1, batch_size=BATCH),
        members=[
            Member(network_id=str(i), loss=name, lr=0.1, epsilon=0.0 if name == "ce" else 3.0)
            for i, name in enumerate(names)
        ],
    )
    return lambda: void(train(spec, device=device))


def void(_: object) -> None:
    return None


def seconds(step: Callable[[], None], repeats: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def compare(
    what: str,
    plain: Callable[[], None],
    mixed: Callable[[], None],
    pairs: int,
    repeats: int,
    device: str,
) -> None:
    for step in (plain, mixed):
        seconds(step, 1, device)
    base, ratios = [], []
    for _ in range(pairs):
        one = seconds(plain, repeats, device)
        ratios.append(seconds(mixed, repeats, device) / one)
        base.append(one)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{what}: mixed / CE = {middle:.2f} (quartiles {low:.2f} to {high:.2f}, n = {pairs}); "
        f"CE takes {1e3 * statistics.median(base):.3g} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    count, device = arguments.members, arguments.device
    if count % len(MIXED):
        parser.error(f"--members {count}: must be a multiple of {len(MIXED)}")
    mixed = [name for name in MIXED for _ in range(count // len(MIXED))]
    plain = ["ce"] * count
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads, K = {count}")
    print(f"mixed: {', '.join(MIXED)}")
    for what, make, repeats in (("loss and gradient", loss_step, 20), ("whole cohort", cohort, 1)):
        pairs = arguments.pairs if make is loss_step else min(arguments.pairs, 7)
        compare(what, make(plain, device), make(mixed, device), pairs, repeats, device)


if __name__ == "__main__":
    main()
