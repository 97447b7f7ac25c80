"""Numbers and cells in the words of the page."""

from __future__ import annotations

import math
import re
from typing import Any

from analysis.inference.cell_records import CellVerdict

ARMS = {
    "zero": "ε = 0",
    "analytic": "analytic ε",
    "best": "best ε",
    "tuned": "tuned ε",
    "ce": "cross-entropy",
}


def percent(value: float) -> str:
    """A fraction in per cent; a dash where there is none."""
    return "–" if math.isnan(value) else f"{number(100 * value, 0)} %"


def number(value: float, digits: int = 1) -> str:
    """A number with a proper minus sign."""
    text = f"{value:.{digits}f}"
    return f"−{text[1:]}" if text.startswith("-") and float(text) else text.lstrip("-")


def points(interval: Any, digits: int = 1) -> str:
    """A mean with its interval, fractions of accuracy, in percentage points."""
    if interval is None or interval.mean is None:
        return "–"
    text = number(100 * interval.mean, digits)
    if interval.low is None:
        return text
    return f"{text} ({number(100 * interval.low, digits)} to {number(100 * interval.high, digits)})"


def share(recovered: Any) -> str:
    """A share with its interval, per cent."""
    if recovered is None or recovered.value is None:
        return "–"
    if recovered.low is None:  # the gain from ε = 0 may be zero
        return "–"
    low, value, high = (
        number(100 * x, 0) for x in (recovered.low, recovered.value, recovered.high)
    )
    return f"{value} % ({low} to {high})"


def best(cell: CellVerdict) -> str:
    """The best ε with its interval."""
    e = cell.epsilon_best
    if e is None:
        return "–"
    if e.flat:
        return "flat"
    edge = ", on the edge" if e.on_edge else ""
    return f"{e.value:.1f} ({e.low:.1f} to {e.high:.1f}{edge})"


def noise(cell: CellVerdict) -> str:
    """The label noise in words."""
    if not cell.noise_rate:
        return "clean"
    return f"{100 * cell.noise_rate:.0f} % {cell.noise_kind}"


def words(verdict: str) -> str:
    """A verdict as a reader says it."""
    return verdict.replace("_", " ").replace("non inferior", "non-inferior")


def line_text(values: tuple[float, float, float], digits: int = 2) -> str:
    """A coefficient with its interval."""
    value, low, high = (number(v, digits) for v in values)
    return f"{value} ({low} to {high})"


def family(cell: CellVerdict) -> str:
    """The family of a cell's data set."""
    stem = cell.dataset.split("-")
    return "-".join(part for part in stem if not part.isdigit())


def dataset(label: str) -> str:
    """The data set; imbalance as the ratio of its largest to its smallest class."""
    name, _, options = label.partition("-imbalance=")
    return f"{name}, 1 : {options.rpartition('=')[2]}" if options else name


def cell_text(cell_id: str) -> str:
    """A cell without its model."""
    data, labels, _, loss = cell_id.split("/")
    found = re.fullmatch(r"(.+)-([\d.]+)", labels)  # kind and rate; some kinds have no rate
    noise = f"{100 * float(found[2]):.0f} % {found[1]}" if found else labels
    return f"{dataset(data)}, {noise}, {loss.partition('-')[0]}"


def model(cell: CellVerdict) -> str:
    """The model in words; the MLPs of this page."""
    size, _, gain = cell.model.removeprefix("mlp-").partition("-gain=")
    width, depth = size.split("x")
    text = f"depth {depth}, width {width}"
    return f"{text}, classifier's weights times {gain}" if gain else text
