"""Counts the classes that a network of `class-count` with 10 classes never gets right.

    python docs/findings/missing_classes.py

The rows say which test examples a network gets right; their labels come from the data set, so this
needs the extra `train`, and the page does not compute it.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from questions import HERE, RULE
from wording import ARMS

from analysis.verdict import compute
from study.results.schema import Stage
from trainables import datasets

NEVER = 0.05  # recall below which a class counts as missing


def main() -> None:
    """Print, for each arm and noise rate, how many networks miss how many classes."""
    labels = np.asarray(datasets.load("digit-pairs", classes=10).test_y)
    study = compute(str(HERE / "class-count")).study
    rows = study.stage(Stage.CONFIRM)
    rows = rows[(rows["classes"] == 10) & rows["replicate"].isna()].dropna(subset=["arm"])
    correct = study.test_correct(rows)
    for (rate, arm), group in rows.groupby(["noise_rate", "arm"]):
        missing = Counter(_missing(correct[label], labels) for label in group.index)
        counts = ", ".join(f"{n} networks miss {k}" for k, n in sorted(missing.items()))
        name = ARMS[str(arm).replace(f":{RULE}", "")]
        print(f"{100 * float(str(rate)):.0f} % noise, {name}: {counts}")


def _missing(correct: bytes, labels: NDArray[np.int64]) -> int:
    bits = np.unpackbits(np.frombuffer(correct, np.uint8))[: len(labels)]
    recall = [bits[labels == k].mean() for k in range(labels.max() + 1)]
    return int((np.array(recall) < NEVER).sum())


if __name__ == "__main__":
    main()
