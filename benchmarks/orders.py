"""What it costs that members of a cohort have orders of batches of their own.

    python benchmarks/orders.py [--data digit-pairs] [--device cuda] [--pairs 7]

A cohort of 16 members with 1, 2, 4 and 16 orders, and the small cohorts that one seed alone would
give, train in turn on one thread, so that all see the same machine. The ratio is time per network
over that of 16 members with one order. Writes benchmarks/results/orders-<data>-<date>.json.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from measure import ratio_summary, save

from trainables.engine.runtime import configure_process
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

CASES = ((16, 1), (16, 2), (16, 4), (16, 16), (6, 1), (3, 1), (2, 1))  # members, orders


def cohort(data: str, members: int, orders: int) -> CohortSpec:
    """MAE and CE with 40 % wrong labels; members with the same order side by side."""
    return CohortSpec(
        data=DataSpec(data),
        model=ModelSpec("mlp", {"width": 128, "depth": 2}),
        recipe=Recipe(epochs=1, batch_size=128),
        members=[
            Member(
                network_id=str(i),
                loss="mae" if i % 3 else "ce",
                lr=0.1,
                epsilon=1.0 if i % 3 else 0.0,
                noise_rate=0.4,
                noise_seed=i * orders // members,
                init_seed=i * orders // members,
                order_seed=i * orders // members,
            )
            for i in range(members)
        ],
    )


def seconds(spec: CohortSpec, device: str) -> float:
    """Time per network."""
    started = time.perf_counter()
    train(spec, device=device)
    return (time.perf_counter() - started) / len(spec.members)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digit-pairs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    configure_process()
    specs = [cohort(arguments.data, *case) for case in CASES]
    for spec in specs:
        seconds(spec, arguments.device)
    times = np.array(
        [[seconds(spec, arguments.device) for spec in specs] for _ in range(arguments.pairs)]
    )
    table = {}
    for (members, orders), column in zip(CASES, times.T, strict=True):
        name = f"{members} members, {orders} orders"
        table[name] = ratio_summary(column / times[:, 0])
        print(name, table[name])
    save(f"orders-{arguments.data}", vars(arguments), table)


if __name__ == "__main__":
    main()
