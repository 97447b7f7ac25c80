"""Logits of an untrained network on real inputs, for the rules that assume no distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trainables import datasets, models
from trainables.theory.logits import MeasuredLogits

_BATCH = 128


def measure_logits(
    dataset: str,
    model: str,
    *,
    classes: int | None = None,
    root: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    init: str = "glorot_uniform",
    init_gain: float = 1.0,
    networks: int = 4,
    examples: int = 1024,
    seed: int = 0,
) -> MeasuredLogits:
    """Measure the logits of freshly initialised networks.

    Each network has its own seed; all networks see the same randomly chosen training examples in
    batches of 128. Networks are in training mode, as in the first step of training: batch
    normalisation uses the statistics of the batch.

    Args:
        dataset: name of the data set.
        model: name of the model.
        classes: number of classes to use, the first ones; None for all.
        root: folder of the downloaded data sets.
        data_options: further options of the data set.
        options: arguments of the model.
        init: name of the initialisation.
        init_gain: factor on the classifier's initial weights, above 0.
        networks: number of networks, at least 1.
        examples: number of examples, at least 1; all where the data set has fewer.
        seed: of the chosen examples and of the first network; the others have
            seed + 1, seed + 2, ….

    Returns:
        logits of shape [networks · examples, classes], with their labels.

    Raises:
        ValueError: an unknown data set, model, option or initialisation, or a count below 1.
    """
    if networks < 1 or examples < 1:
        raise ValueError(f"networks = {networks}, examples = {examples}: both must be at least 1")
    data = datasets.load(dataset, classes=classes, root=root, **(data_options or {}))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(data.train_y), min(examples, len(data.train_y)), replace=False))
    inputs = torch.from_numpy(data.normalise(data.train_x[chosen]))
    # Whole batches in random order: a last batch of one example has no batch statistics.
    order = torch.from_numpy(rng.permutation(len(inputs)))
    batches = order.tensor_split(max(1, len(inputs) // _BATCH))
    network = models.build(model, data.input_shape, data.classes, options or {})
    logits = []
    for i in range(networks):
        models.initialise(network, torch.Generator().manual_seed(seed + i), init, init_gain)
        network.train()
        with torch.no_grad():
            logits.append(torch.cat([network(inputs[batch]) for batch in batches]))
    labels = data.train_y[chosen][torch.cat(batches).numpy()]
    return MeasuredLogits(torch.cat(logits).double().numpy(), np.tile(labels, networks))
