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
    networks: int = 4,
    examples: int = 1024,
    seed: int = 0,
) -> MeasuredLogits:
    """Logits [networks · examples, classes] of freshly initialised networks, with their labels.

    Each of `networks` networks, initialised with its own seed, sees the same `examples` randomly
    chosen training examples in batches of 128. Networks are in training mode, as in the first step
    of training: batch normalisation uses the batch.

    Raises ValueError for an unknown data set, model, option or initialisation, or counts below 1.
    """
    if networks < 1 or examples < 1:
        raise ValueError(f"networks = {networks}, examples = {examples}: both must be at least 1")
    data = datasets.load(dataset, classes=classes, root=root, **(data_options or {}))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(data.train_y), min(examples, len(data.train_y)), replace=False))
    inputs = torch.from_numpy(data.normalise(data.train_x[chosen]))
    # Whole batches in random order: a last batch of one example has no batch statistics.
    order = torch.from_numpy(rng.permutation(len(inputs)))
    parts = order.tensor_split(max(1, len(inputs) // _BATCH))
    network = models.build(model, data.input_shape, data.classes, options or {})
    logits = []
    for i in range(networks):
        models.initialise(network, torch.Generator().manual_seed(seed + i), init)
        network.train()
        with torch.no_grad():
            logits.append(torch.cat([network(inputs[part]) for part in parts]))
    labels = data.train_y[chosen][torch.cat(parts).numpy()]
    return MeasuredLogits(torch.cat(logits).double().numpy(), np.tile(labels, networks))
