"""Logits of a study's untrained networks, from which `activation-measured` computes ε."""

from __future__ import annotations

from collections.abc import Iterable

from study.config.sections import StudyConfig
from study.planning.cells import Cell
from study.planning.cohort_specs import derived_seed
from trainables.datasets import DatasetError
from trainables.engine.initial_logits import measure_logits
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits


def initial_logits(
    config: StudyConfig, cells: Iterable[Cell], *, is_estimate: bool = False
) -> dict[str, MeasuredLogits]:
    """Measure the initial logits of untrained networks.

    Args:
        config: the study.
        cells: its cells that need them.
        is_estimate: whether one network and 64 examples suffice, which takes a few seconds.

    Returns:
        {group_id: logits of networks with the study's initialisation on real training inputs}.

    Raises:
        BadInputError: a data set cannot be read.
    """
    size = {"networks": 1, "examples": 64} if is_estimate else {}
    logits = {}
    for group, cell in {cell.group_id: cell for cell in cells}.items():
        dataset, model = cell.dataset, cell.model
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
                **size,
            )
        except DatasetError as error:
            raise BadInputError(f"analytic:activation-measured: {error}") from error
    return logits
