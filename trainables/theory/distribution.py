"""Distribution of the initial error δ_k, for the modules that compute it and that plot it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class InitialError:
    """The distribution of δ_k over the initial logits, for one loss.

    Attributes:
        mean: E[δ_k].
        std: standard deviation.
        quantiles: at 5, 50 and 95 %.
        overlap: in [0, 1], the mean of |E[δ_k | z_k]| over the logit density, relative to the
            largest |δ_k| of the loss at any logit. It says how much of the largest error the
            initial logits receive.
    """

    mean: float
    std: float
    quantiles: tuple[float, float, float]
    overlap: float


@dataclass(frozen=True)
class ErrorCurve:
    """E[δ_k | z_k] as a function of z_k; all arrays have the same shape [n].

    Attributes:
        z: values of z_k.
        error: E[δ_k | z_k].
        density: density of z_k at initialisation.
    """

    z: NDArray[np.float64]
    error: NDArray[np.float64]
    density: NDArray[np.float64]
