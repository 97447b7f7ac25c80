"""The cost of a cohort with eight different losses, compared with a cohort of CE alone.

    python benchmarks/mixed_losses.py [--device cuda] [--members 16] [--pairs 15]

Measures on one thread, mixed and plain in turn so that both see the same machine: the members'
losses with their gradient on logits [K, 128, 100], and the training of a whole cohort (digit-pairs,
100 classes). Writes benchmarks/results/mixed-losses-<date>.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from measure import ratio_summary, save

from trainables.engine.cohort_losses import CohortLosses, loss_key
from trainables.engine.runtime import configure_process
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

MIXED = ("ce", "mae", "gce", "sce", "nce_mae", "nce_agce", "focal", "anl_ce")
BATCH, CLASSES = 128, 100


def members(names: list[str]) -> list[Member]:
    """One member per name; all except CE have a logit bias."""
    return [
        Member(network_id=str(i), loss=name, lr=0.1, epsilon=0.0 if name == "ce" else 3.0)
        for i, name in enumerate(names)
    ]


def loss_step(names: list[str], device: str) -> Callable[[], object]:
    """Every member's losses and their gradient, as the engine computes them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(names), BATCH, CLASSES, generator=generator).to(device)
    labels = torch.randint(CLASSES, (len(names), BATCH), generator=generator).to(device)
    in_order = sorted(members(names), key=loss_key)
    cohort_losses = CohortLosses(in_order, CLASSES, torch.device(device), logits.dtype)

    def step() -> None:
        leaf = logits.clone().requires_grad_()
        values = cohort_losses(leaf, labels, cohort_losses.bias(1.0, BATCH)).loss
        values.backward(torch.full_like(values, 1 / BATCH))

    return step


def cohort(names: list[str], device: str) -> Callable[[], object]:
    """An epoch of training."""
    spec = CohortSpec(
        data=DataSpec("digit-pairs"),
        model=ModelSpec("mlp"),
        recipe=Recipe(epochs=1, batch_size=BATCH),
        members=members(names),
    )
    return lambda: train(spec, device=device)


def seconds(step: Callable[[], object], repeats: int, device: str) -> float:
    """Mean time of one step."""
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    count, device = arguments.members, arguments.device
    if count % len(MIXED):
        parser.error(f"--members {count}: must be a multiple of {len(MIXED)}")
    configure_process()
    mixed = [name for name in MIXED for _ in range(count // len(MIXED))]
    table = {}
    for what, make, repeats in (("losses and gradient", loss_step, 20), ("cohort", cohort, 1)):
        plain, eight = make(["ce"] * count, device), make(mixed, device)
        for step in (plain, eight):
            seconds(step, 1, device)
        pairs = [
            (seconds(plain, repeats, device), seconds(eight, repeats, device))
            for _ in range(arguments.pairs)
        ]
        one, other = np.array(pairs).T
        table[what] = {"mixed_over_ce": ratio_summary(other / one), "ce_s": ratio_summary(one)}
        print(what, table[what])
    save("mixed-losses", vars(arguments), table)


if __name__ == "__main__":
    main()
