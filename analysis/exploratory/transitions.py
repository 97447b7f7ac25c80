"""Transition matrices of a study's label noise, as drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.load import LoadError, Study
from study.results.folder import ResultsError, StudyFolder


@dataclass(frozen=True)
class Transition:
    """One data set's noise.

    Attributes:
        dataset, noise: as in cell ids.
        matrix: (C, C), share of the training examples of class i that are labelled j.
        names: C class names.
        wrong: mean over classes of the share that is wrong, in [0, 1].
    """

    dataset: str
    noise: str
    matrix: np.ndarray
    names: tuple[str, ...]
    wrong: float

    def largest(self, count: int = 3) -> list[tuple[str, str, float]]:
        """The most frequent confusions: (true class, label, share), the largest first."""
        off = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(-off, axis=None, kind="stable")[:count]
        at = [divmod(int(k), len(off)) for k in order]
        return [(self.names[i], self.names[j], float(off[i, j])) for i, j in at if off[i, j] > 0]


def transition_matrices(study: Study) -> list[Transition]:
    """The transition matrices in `noise.parquet` of a study's folders; clean ones are left out.

    Raises:
        LoadError: a damaged file.
    """
    tables = []
    for uri in study.uris:
        try:
            found = StudyFolder(uri).read_transitions()
        except ResultsError as error:
            raise LoadError(str(error)) from error
        if found is not None:
            tables.append(found.to_pandas())
    if not tables:
        return []
    rows = pd.concat(tables).drop_duplicates(["dataset", "noise", "true_class", "noisy_class"])
    matrices = []
    for (dataset, noise), mine in rows.groupby(["dataset", "noise"], sort=False):
        classes = int(max(mine["true_class"].max(), mine["noisy_class"].max())) + 1
        matrix = np.zeros((classes, classes))
        matrix[mine["true_class"], mine["noisy_class"]] = mine["share"]
        names = [str(k) for k in range(classes)]
        for end in ("true", "noisy"):
            for k, name in zip(mine[f"{end}_class"], mine[f"{end}_name"], strict=True):
                names[int(k)] = str(name)
        there = matrix.sum(axis=1) > 0
        wrong = float(1 - np.diag(matrix)[there].mean())
        if wrong > 0:
            matrices.append(Transition(str(dataset), str(noise), matrix, tuple(names), wrong))
    return matrices
