"""What an accuracy on noisy labels stands for on correct labels.

With a transition matrix T, a network that is right on a share a of the examples agrees with the
noisy label on  a · d + (its errors that coincide with the wrong label),  where d is the mean of T's
diagonal. If the errors do not follow the noise, they coincide with a share o = (1 − d) / (C − 1)
of the remaining examples, so that a = (noisy − o) / (d − o). For symmetric noise this holds for
every network that does not know the noise draw. In general the coincidences lie between 0 and
(1 − a) · m, with m the mean of each row's largest entry beside the diagonal. Both bounds assume
that wrong labels are as frequent where the network is right as on the other examples of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.recommendation.records import CleanAccuracy


@dataclass(frozen=True)
class NoiseModel:
    """What is known of a label noise.

    Attributes:
        kept: share d of the labels that are correct, in [0, 1].
        coincidence: share o of the remaining examples on which a wrong prediction agrees with the
            label, if errors do not follow the noise.
        largest: the most that this share can be; None where it is unknown.
    """

    kept: float
    coincidence: float
    largest: float | None

    @property
    def slope(self) -> float:
        """How many points a point of accuracy on correct labels is worth on noisy ones."""
        return self.kept - self.coincidence


def of_rate(rate: float, classes: int, *, is_symmetric: bool) -> NoiseModel:
    """Noise of which the rate is known, and that it is symmetric or nothing else.

    Args:
        rate: share of wrong labels, in [0, 1].
        classes: number of classes.
        is_symmetric: a wrong label is each of the others with the same probability.
    """
    even = rate / (classes - 1)
    return NoiseModel(1 - rate, even, even if is_symmetric else rate)


def of_transitions(transitions: pd.DataFrame, classes: int) -> NoiseModel:
    """Noise of which the transitions are known.

    Args:
        transitions: rows of `noise.parquet` of one data set and noise.
        classes: number of classes.
    """
    matrix = np.zeros((classes, classes))
    rows, columns = transitions["true_class"].to_numpy(), transitions["noisy_class"].to_numpy()
    matrix[rows, columns] = transitions["share"].to_numpy()
    occurs = matrix.sum(axis=1) > 0
    kept = float(np.diag(matrix)[occurs].mean())
    np.fill_diagonal(matrix, 0.0)
    largest = float(matrix[occurs].max(axis=1).mean())
    return NoiseModel(kept, (1 - kept) / (classes - 1), largest)


def clean_accuracy(noisy: float, model: NoiseModel) -> CleanAccuracy | None:
    """The accuracy on correct labels that an accuracy on noisy ones stands for.

    Args:
        noisy: accuracy on noisy labels, in [0, 1].
        model: the noise.

    Returns:
        None where noisy labels say nothing about correct ones.
    """
    if model.slope <= 0:
        return None
    high = min(1.0, noisy / model.kept)
    low = None
    if model.largest is not None and model.kept > model.largest:
        low = max(0.0, (noisy - model.largest) / (model.kept - model.largest))
        if model.largest == model.coincidence:
            high = low
    estimate = min(1.0, max(0.0, (noisy - model.coincidence) / model.slope))
    if low is not None:
        low = min(low, estimate)
    return CleanAccuracy(noisy, estimate, low, max(high, estimate))
