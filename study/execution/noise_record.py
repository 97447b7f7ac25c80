"""The label noise of a study as it was drawn: one transition matrix for each data set and noise.

`noise.parquet` is written by the first run. Later runs draw only noise that the study file has
gained, and otherwise check that this machine has every data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from study.config.choices import DatasetChoice, NoiseChoice
from study.config.sections import StudyConfig
from study.planning.cohort_specs import data_spec, derived_seed
from study.planning.plan import CONFIRM_SEEDS_FROM
from study.results.folder import StudyFolder
from trainables import noise
from trainables.datasets.base import Dataset
from trainables.errors import BadInputError

NoiseRecord = list[dict[str, Any]]
"""Rows of `study.results.schema.TRANSITIONS`."""


def draw_noise_record(config: StudyConfig, recorded: pa.Table | None) -> NoiseRecord | None:
    """The label noise of the study; noise that is not recorded yet is drawn once.

    Args:
        config: the study.
        recorded: rows of `study.results.schema.TRANSITIONS` from earlier runs; None where there
            are none.

    Returns:
        The transitions of the training labels of the first confirm seed. Networks of the study
        train on these labels. Pairs of classes that do not occur are left out. Of labels as they
        are, the transitions of the test examples whose correct labels are known; else none. None
        where everything is recorded.

    Raises:
        BadInputError: a data set or a noise cannot be loaded; one line says why.
    """
    seed = derived_seed(config, CONFIRM_SEEDS_FROM, "noise")
    rows: NoiseRecord = [] if recorded is None else recorded.to_pylist()
    known = {(row["dataset"], row["noise"]) for row in rows}
    drawn: NoiseRecord = []
    with _one_line_errors():
        for dataset in config.grid.dataset:
            new = [c for c in config.grid.noise if (dataset.label, c.label) not in known]
            loaded = data_spec(dataset).load() if new else None
            for choice in new:
                assert loaded is not None
                drawn += _transitions(dataset, loaded, choice, seed)
    return [*rows, *drawn] if drawn else None


def check_datasets(config: StudyConfig) -> None:
    """Check that every data set of the study, and every file of human labels, can be loaded.

    Args:
        config: the study.

    Raises:
        BadInputError: one of them cannot be loaded; one line says why.
    """
    with _one_line_errors():
        for dataset in config.grid.dataset:
            loaded = data_spec(dataset).load()
            for choice in config.grid.noise:
                kind = noise.get(choice.kind)
                if kind.has_own_rate and kind.is_drawn_only:  # labels in a file, without a draw
                    noise.apply(loaded, kind.name, None, 0, root=dataset.root)


def write_noise_record(folder: StudyFolder, record: NoiseRecord) -> None:
    """Write `noise.parquet`."""
    folder.write_transitions(record)


def _transitions(
    dataset: DatasetChoice, loaded: Dataset, choice: NoiseChoice, seed: int
) -> NoiseRecord:
    drawn = noise.apply(loaded, choice.kind, choice.rate, seed, root=dataset.root, **choice.options)
    share = drawn.train.transition
    if not noise.get(choice.kind).truth_is_known and loaded.test_given is not None:
        share = noise.describe(loaded.test_y, loaded.test_given, loaded.classes).transition
    return [
        {
            "dataset": dataset.label,
            "noise": choice.label,
            "noise_kind": choice.kind,
            "noise_rate_asked": choice.rate,
            "true_class": int(i),
            "noisy_class": int(j),
            "true_name": loaded.class_names[i],
            "noisy_name": loaded.class_names[j],
            "share": float(share[i, j]),
        }
        for i, j in np.argwhere(np.nan_to_num(share) > 0)
    ]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn the errors of data sets and noises into errors for the user."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(str(error)) from error
