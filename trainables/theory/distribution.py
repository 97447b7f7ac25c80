"""How an initial error δ_k is distributed, for whoever computes it and whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class InitialError:
    """The distribution of δ_k over initial logits, for one loss.

    `quantiles` are at 5, 50 and 95 %. `overlap` in [0, 1] is the mean |E[δ_k | z_k]| over the logit
    density, relative to the largest |δ_k| that the loss has at any logit: how much of the loss's
    largest error the initial logits meet.
    """

    mean: float
    std: float
    quantiles: tuple[float, float, float]
    overlap: float


@dataclass(frozen=True)
class ErrorCurve:
    """E[δ_k | z_k] (`error`) over `z`, with the `density` of z_k at initialisation."""

    z: _Array
    error: _Array
    density: _Array
