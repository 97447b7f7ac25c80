"""The transition matrices of a study: which labels the noise drew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.load import LoadError, Study
from study.results.folder import ResultsError, StudyFolder


@dataclass(frozen=True)
class Transition:
    """The label noise of one data set.

    Attributes:
        dataset: as in cell ids.
        noise: as in cell ids, such as `symmetric-0.4`.
        matrix: share of the training examples of class i that carry label j, shape (C, C).
        names: C class names.
        wrong: mean over classes of the share of wrong labels, in [0, 1].
    """

    dataset: str
    noise: str
    matrix: NDArray[np.float64]
    names: tuple[str, ...]
    wrong: float

    def largest(self, count: int = 3) -> list[tuple[str, str, float]]:
        """The most frequent confusions, in descending order.

        Args:
            count: number of confusions.

        Returns:
            (true class, label, share of the true class in [0, 1]) of each.
        """
        off = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(-off, axis=None, kind="stable")[:count]
        at = [divmod(int(k), len(off)) for k in order]
        return [(self.names[i], self.names[j], float(off[i, j])) for i, j in at if off[i, j] > 0]


def transition_matrices(study: Study) -> list[Transition]:
    """The transition matrices in `noise.parquet` of a study's folders, except clean ones.

    Args:
        study: as loaded.

    Raises:
        LoadError: a file is damaged.
    """
    tables = []
    for uri in study.uris:
        try:
            table = StudyFolder(uri).read_transitions()
        except ResultsError as error:
            raise LoadError(str(error)) from error
        if table is not None:
            tables.append(table.to_pandas())
    if not tables:
        return []
    rows = pd.concat(tables).drop_duplicates(["dataset", "noise", "true_class", "noisy_class"])
    matrices = []
    for (dataset, noise), shares in rows.groupby(["dataset", "noise"], sort=False):
        classes = int(max(shares["true_class"].max(), shares["noisy_class"].max())) + 1
        matrix = np.zeros((classes, classes))
        matrix[shares["true_class"], shares["noisy_class"]] = shares["share"]
        names = [str(k) for k in range(classes)]
        for end in ("true", "noisy"):
            for k, name in zip(shares[f"{end}_class"], shares[f"{end}_name"], strict=True):
                names[int(k)] = str(name)
        occurring = matrix.sum(axis=1) > 0
        wrong = float(1 - np.diag(matrix)[occurring].mean())
        if wrong > 0:
            matrices.append(Transition(str(dataset), str(noise), matrix, tuple(names), wrong))
    return matrices
