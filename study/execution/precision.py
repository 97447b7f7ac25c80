"""Whether this machine computes in the precision that a study file asks for.

A network's settings determine its numbers, so a study never trains in another precision than its
file says: where the device lacks bf16, the study is refused before anything is written.
"""

from __future__ import annotations

import torch

from study.config.sections import StudyConfig
from trainables.engine.runtime import check_precision


def check_machine(config: StudyConfig, address: str | None) -> None:
    """Refuse a study whose precision this machine lacks.

    Args:
        config: the study.
        address: a Ray cluster; its workers, which may be other machines, check for themselves.

    Raises:
        trainables.engine.runtime.PrecisionError: the device of this machine lacks the precision.
    """
    if address is None:
        uses_gpu = config.resources.gpus_per_cohort != 0 and torch.cuda.is_available()
        check_precision(config.recipe.precision, "cuda" if uses_gpu else "cpu")
