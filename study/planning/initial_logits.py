"""Logits of a study's untrained networks, from which `activation-measured` computes ε."""

from __future__ import annotations

from study.config.sections import StudyConfig
from study.planning.cells import Cell
from study.planning.cohort_specs import derived_seed
from trainables.datasets import DatasetError
from trainables.engine.initial_logits import measure_logits
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits


def initial_logits(config: StudyConfig) -> dict[str, MeasuredLogits]:
    """Measure the initial logits of every group of a study.

    Returns:
        {group_id: logits of networks with the study's initialisation on real training inputs}.

    Raises:
        BadInputError: a data set cannot be read.
    """
    logits = {}
    for dataset in config.grid.dataset:
        for model in config.grid.model:
            group = Cell(dataset, config.grid.noise[0], model, None).group_id
            try:
                logits[group] = measure_logits(
                    dataset.name,
                    model.name,
                    classes=dataset.classes,
                    root=dataset.root,
                    data_options=dataset.options,
                    options=model.options,
                    init=model.init,
                    init_gain=model.init_gain,
                    seed=derived_seed(config, 0, "measure"),
                )
            except DatasetError as error:
                raise BadInputError(f"analytic:activation-measured: {error}") from error
    return logits
