"""The spread of untrained networks' logits, from which `activation-measured` computes ε."""

from __future__ import annotations

import numpy as np
import torch

from study.config import StudyConfig
from study.plan import Cell, data_spec, replicate_seed
from trainables import models
from trainables.cohort import DataSpec

_NETWORKS = 8
_EXAMPLES = 1000


def initial_logit_std(config: StudyConfig) -> dict[str, float]:
    """{group_id: root mean square over networks and examples of the logits' spread over classes}.

    Real networks with the study's initialisation on real training inputs; seeds of their own.
    """
    found = {}
    for dataset in config.grid.dataset:
        for model in config.grid.model:
            cell = Cell(dataset, config.grid.noise[0], model, None)
            found[cell.group_id] = measure_logit_std(
                data_spec(dataset),
                model.name,
                model.options,
                model.init,
                [replicate_seed(config, i, "measure") for i in range(_NETWORKS)],
            )
    return found


@torch.no_grad()
def measure_logit_std(
    data: DataSpec, name: str, options: dict[str, object], init: str, seeds: list[int]
) -> float:
    """Spread σ of untrained networks' logits over the classes of one example.

    Root mean square over networks (one a seed) and over the first 1,000 training examples.
    """
    loaded = data.load()
    inputs = (loaded.train_x[:_EXAMPLES].astype(np.float32) - loaded.mean) / loaded.std
    variances = []
    for seed in seeds:
        model = models.build(name, loaded.input_shape, loaded.classes, options)
        models.initialise(model, torch.Generator().manual_seed(seed), init)
        logits = model.eval()(torch.as_tensor(inputs, dtype=torch.float32))
        variances.append(float(logits.var(-1, unbiased=False).mean()))
    return float(np.sqrt(np.mean(variances)))
