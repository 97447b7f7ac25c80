"""The label noise of a study as it was drawn: a transition matrix for each data set and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from study.config.sections import StudyConfig
from study.planning.plan import CONFIRM_SEEDS_FROM, data_spec, replicate_seed
from study.results.folder import StudyFolder
from trainables import noise
from trainables.errors import BadInputError


def draw_transitions(config: StudyConfig) -> list[dict[str, Any]]:
    """Load every data set and put every noise of the study on it once.

    Returns
    -------
    Rows of `study.results.schema.TRANSITIONS`: the training labels of the first confirm seed, so a draw
    that networks of the study are trained on. Pairs of classes that do not occur are left out.

    Raises
    ------
    BadInputError: a data set or a noise that cannot be had; one line says why.
    """
    seed = replicate_seed(config, CONFIRM_SEEDS_FROM, "noise")
    rows = []
    for dataset in config.grid.dataset:
        try:
            loaded = data_spec(dataset).load()
            for kind in config.grid.noise:
                drawn = noise.apply(
                    loaded, kind.kind, kind.rate, seed, root=dataset.root, **kind.options
                )
                share = drawn.train.transition
                rows += [
                    {
                        "dataset": dataset.label,
                        "noise": kind.label,
                        "noise_kind": kind.kind,
                        "noise_rate_asked": kind.rate,
                        "true_class": int(i),
                        "noisy_class": int(j),
                        "true_name": loaded.class_names[i],
                        "noisy_name": loaded.class_names[j],
                        "share": float(share[i, j]),
                    }
                    for i, j in np.argwhere(np.nan_to_num(share) > 0)
                ]
        except ValueError as error:
            raise BadInputError(str(error)) from error
    return rows


def keep_transitions(folder: StudyFolder, rows: list[dict[str, Any]]) -> None:
    """Write `noise.parquet`, where it is not there yet."""
    if folder.read_transitions() is None:
        folder.write_transitions(rows)
