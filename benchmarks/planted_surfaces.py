"""Response surfaces that are planted, with a known cost of analytic ε."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr

TOP, DEPTH, RATE_DEPTH = 92.0, 60.0, 60.0  # points: best accuracy, height of the collapses

COLLAPSES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda z: ndtr(z - 2.5),
    "logistic": lambda z: expit(2 * z - 5),
    "linear": lambda z: np.clip(z / 2, 0, 1),
}
"""{shape: share of the collapse, z widths below the shoulder}."""

FALLS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "quadratic": lambda d: np.maximum(d, 0) ** 2,
    "linear": lambda d: np.maximum(d, 0),
    "saturating": lambda d: -np.expm1(-np.maximum(d, 0)),
}
"""{shape: fall of accuracy, d above the best ε}."""


@dataclass(frozen=True)
class Surface:
    """Accuracy over ε and learning rate, in points.

    Attributes:
        collapse: key of `COLLAPSES`.
        width: of the collapse, in ε.
        fall: key of `FALLS`.
        factor: size of the fall.
        shoulder: ε at which the collapse begins.
        peak: ε above which accuracy falls.
        analytic: ε at which the best learning rate is `rate`.
        slope: shift of the best learning rate per ε; learning rates are shares of their log range.
        rate: best learning rate at the analytic ε.
        rate_width: distance from the best learning rate that costs one point.
        cliff: distance above the best learning rate at which training fails.
        plateau: ε has no effect.
    """

    collapse: str = "normal"
    width: float = 0.35
    fall: str = "quadratic"
    factor: float = 0.5
    shoulder: float = 1.5
    peak: float = 1.5
    analytic: float = 3.0
    slope: float = 0.02
    rate: float = 0.55
    rate_width: float = 0.25
    cliff: float = 0.3
    plateau: bool = False

    def drop(self, epsilon: Any) -> np.ndarray:
        """What ε costs against no loss at all, at its best learning rate."""
        e = np.asarray(epsilon, dtype=float)
        if self.plateau:
            return np.zeros_like(e)
        below = DEPTH * COLLAPSES[self.collapse]((self.shoulder - e) / self.width)
        return below + self.factor * FALLS[self.fall](e - self.peak)

    def cost(self, epsilon: float) -> float:
        """What ε costs against the best ε, each at its best learning rate.

        The learning rate's part depends only on the distance from the best rate, so it cancels.
        """
        coarse = np.linspace(0, 8, 4001)
        near = coarse[self.drop(coarse).argmin()]
        fine = np.clip(np.linspace(near - 0.002, near + 0.002, 401), 0, 8)
        return float(self.drop(epsilon) - self.drop(fine).min())

    def accuracy(self, epsilon: Any, rate: Any) -> np.ndarray:
        """Expected accuracy of a network."""
        off = np.asarray(rate) - self.rate - self.slope * (np.asarray(epsilon) - self.analytic)
        failing = RATE_DEPTH * ndtr((off - self.cliff) / 0.05)
        return TOP - self.drop(epsilon) - (off / self.rate_width) ** 2 - failing


def surface_of_cost(cost: float, analytic: float, width: float, number: int) -> Surface:
    """A surface at which analytic ε costs so many points; `number` varies its shape."""
    rng = np.random.default_rng(number)
    collapse = list(COLLAPSES)[number % 3]
    fall = list(FALLS)[number // 3 % 3]
    shape: dict[str, Any] = {
        "collapse": collapse,
        "width": width,
        "fall": fall,
        "analytic": analytic,
        "slope": float(rng.uniform(-0.03, 0.05)),
        "rate": float(rng.uniform(0.48, 0.6)),
        "rate_width": float(rng.uniform(0.18, 0.45)),
        "cliff": float(rng.uniform(0.25, 0.35)),
    }
    if number % 2:  # analytic ε on the collapse
        shape["factor"] = {"quadratic": 0.3, "linear": 0.4, "saturating": 2.0}[fall]

        def on_collapse(shoulder: float) -> Surface:
            return Surface(**shape, shoulder=shoulder, peak=max(shoulder, analytic + 0.5))

        def excess_at(shoulder: float) -> float:
            return on_collapse(shoulder).cost(analytic) - cost

        shoulders = np.linspace(analytic - 4, analytic + 3, 141)
        k = next(k for k in range(1, 141) if excess_at(shoulders[k]) > 0)
        return on_collapse(float(brentq(excess_at, *shoulders[k - 1 : k + 1])))
    # The collapse reaches 2 to 3 widths below its middle, so a wide one begins further down.
    shape["shoulder"] = shape["peak"] = analytic - min(1.2 + width, 2.2)

    def excess_of(factor: float) -> float:
        return Surface(**shape, factor=factor).cost(analytic) - cost

    factors = np.geomspace(1e-3, 50, 80)
    k = next(k for k in range(1, 80) if excess_of(factors[k]) > 0)
    return Surface(**shape, factor=float(brentq(excess_of, *factors[k - 1 : k + 1])))


class WorseSurface(Surface):
    """Accuracy falls from ε = 0 on: 5 points at the analytic ε, and more beyond it."""

    def drop(self, epsilon: Any) -> np.ndarray:
        """What ε costs."""
        return 5.0 * np.asarray(epsilon, dtype=float) / self.analytic


@dataclass(frozen=True)
class Scenario:
    """A truth that is planted.

    Attributes:
        name: `cost`, `flat`, `worse` or `unequal`.
        width: of the collapse.
        sd: standard deviation of one network, points.
        cost: what analytic ε costs, points.
        cells: number of cells.
    """

    name: str
    width: float
    sd: float
    cost: float
    cells: int

    def surface(self, analytic: float, number: int) -> Surface:
        """The surface of a cell."""
        if self.name == "flat":
            return Surface(plateau=True, analytic=analytic)
        if self.name == "worse":
            return WorseSurface(analytic=analytic)
        return surface_of_cost(self.cost, analytic, self.width, number)
