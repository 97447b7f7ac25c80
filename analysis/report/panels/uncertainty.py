"""Panel: what the study spent, how precise it is, and how the variance of its means divides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from analysis.formatting import MISSING, points
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Cost, Interval, VarianceShares
from analysis.report.figure_writer import FigureWriter
from analysis.report.forest_plot import NARROW, WIDE
from analysis.report.panels.base import (
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    left_out_note,
    register,
)
from analysis.report.panels.forest import MAX_CELLS
from analysis.report.series import cell_titles
from analysis.report.theme import BACKGROUND, BLUE, FOREGROUND, GREEN, ORANGE, PURPLE, STYLE
from analysis.verdict import StudyAnalysis
from study.results.arms import BEST, Arm
from study.results.schema import Stage

_PARTS = {
    "searches": ("searches", BLUE),
    "seeds": ("seeds", ORANGE),
    "test_examples": ("test examples", GREEN),
    "surface": ("surface", PURPLE),
}
_LEAST_LABELLED = 0.09  # share of a bar below which no number fits
_COLUMNS = (
    TableColumn("cell"),
    TableColumn("searches × networks by arm", "searches", True),
    TableColumn("sweep networks"),
    TableColumn("common seeds"),
    TableColumn("value: half-width, points", "value, half-width"),
    TableColumn("half-widths per margin", "value, per margin"),
    TableColumn("chance of non-inferior at no cost, %", "chance at no cost, %"),
    TableColumn("procedure: half-width, points", "procedure, half-width"),
)


@dataclass(frozen=True)
class CellShares:
    """How the variance of a cell's two means divides.

    Attributes:
        title: of the cell.
        value: of the value; None without an interval.
        procedure: of the procedure; None below two replicates.
    """

    title: str
    value: VarianceShares | None
    procedure: VarianceShares | None


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Budget, precision and variance shares by cell; None without a confirm stage."""
    cells = [cell for cell in analysis.verdict.cells if cell.arms]
    if not cells:
        return None
    titles = cell_titles(analysis.verdict.cells)
    margin = analysis.verdict.pooled.margin
    budget = _Budget(analysis.study.trials)
    rows = [_row(cell, titles[cell.cell_id], budget, margin) for cell in cells[:MAX_CELLS]]
    shares = [
        CellShares(
            titles[cell.cell_id],
            None if cell.primary_value is None else cell.primary_value.shares,
            None if cell.primary_procedure is None else cell.primary_procedure.shares,
        )
        for cell in cells[:MAX_CELLS]
    ]
    shares = [s for s in shares if s.value is not None or s.procedure is not None]
    figures = []
    if shares:
        alt = "Shares of the variance: " + "; ".join(_in_words(s) for s in shares)
        wide, narrow = draw(shares, True), draw(shares, False)
        figures.append(CaptionedFigure(writer.save_variants(wide, narrow, "uncertainty", alt)))
    used = {
        name
        for s in shares
        for part in (s.value, s.procedure)
        if part is not None
        for name, share in part.to_json().items()
        if share
    }
    return ReportSection(
        intro="Equivalence can only be shown with a half-width below the margin. The bars show how "
        "the variance of each mean divides: a large share of searches asks for more replicates, of "
        "seeds for more confirm seeds, of test examples for a larger test set, of the surface for "
        "more networks in search and sweep."
        if shares
        else "",
        legend=[
            LegendKey(words, colour, marker="square")
            for name, (words, colour) in _PARTS.items()
            if name in used
        ],
        figures=figures,
        table=ReportTable(_COLUMNS, rows),
        notes=[
            "Half-widths per margin: half the width of the "
            "value's interval, divided by the margin. Chance of non-inferior at no cost: with this "
            "standard error, if analytic ε truly costs nothing.",
            *left_out_note(len(cells), MAX_CELLS, "variance"),
        ],
    )


class _Budget:
    """Number of networks of each cell in search and sweep."""

    def __init__(self, trials: pd.DataFrame) -> None:
        search = trials[trials["stage"] == Stage.SEARCH]
        by_search = search.groupby(["cell_id", "arm", "replicate"], dropna=False).size()
        sizes = by_search.groupby(level=["cell_id", "arm"], dropna=False).agg(["median", "size"])
        self._search = sizes.reset_index()
        self._sweep = trials[trials["stage"] == Stage.SWEEP].groupby("cell_id").size()

    def search(self, cell_id: str) -> str:
        """Number of searches and networks of each, in words."""
        rows = self._search[self._search["cell_id"] == cell_id]
        if rows.empty:
            return MISSING
        arms = [str(arm) if isinstance(arm, str) else "all" for arm in rows["arm"]]
        if sum(Arm.of_row(arm).is_analytic for arm in arms) == 1:
            arms = [Arm.of_row(arm).kind for arm in arms]
        networks = [f"{arm} {n:g}" for arm, n in zip(arms, rows["median"], strict=True)]
        return f"{rows['size'].max():g} × {', '.join(networks)}"

    def sweep(self, cell_id: str) -> str:
        """Networks of the sweep."""
        return f"{self._sweep.get(cell_id, 0)}"


def _row(cell: CellVerdict, title: str, budget: _Budget, margin: float) -> list[str]:
    value, procedure = cell.primary_value, cell.primary_procedure
    seeds = cell.arms[BEST].seeds if BEST in cell.arms else max(a.seeds for a in cell.arms.values())
    width = None if value is None else _half_width(value)
    chance = None if value is None else chance_at_no_cost(value, margin)
    tuning = None if procedure is None else _half_width(procedure)
    return [
        title,
        budget.search(cell.cell_id),
        budget.sweep(cell.cell_id),
        str(seeds),
        MISSING if width is None else points(width),
        MISSING if width is None else f"{width / margin:.1f}",
        MISSING if chance is None else f"{100 * chance:.0f}",
        MISSING if tuning is None else points(tuning),
    ]


def _half_width(interval: Interval) -> float | None:
    return None if interval.ends is None else (interval.ends[1] - interval.ends[0]) / 2


def chance_at_no_cost(value: Cost, margin: float) -> float | None:
    """Probability that a cost of zero would be found non-inferior, by a normal approximation.

    Args:
        value: with its standard error and interval.
        margin: δ.

    Returns:
        in [0, 1]; None without an interval.
    """
    width = _half_width(value)
    if width is None or not value.standard_error:
        return None
    return float(stats.norm.cdf((margin - width) / value.standard_error))


def _in_words(shares: CellShares) -> str:
    texts = []
    for question, part in (("value", shares.value), ("procedure", shares.procedure)):
        if part is not None:
            known = [f"{words} {100 * share:.0f} %" for words, _, share in _segments(part)]
            texts.append(f"{question} {', '.join(known)}")
    return f"{shares.title}: {'; '.join(texts)}"


def _segments(shares: VarianceShares) -> list[tuple[str, str, float]]:
    """(words, colour, share) of the known parts."""
    values = shares.to_json()
    return [
        (words, colour, float(values[name]))
        for name, (words, colour) in _PARTS.items()
        if values[name] is not None
    ]


def draw(cells: Sequence[CellShares], wide: bool) -> Figure:
    """Stacked bars: one for the value and one for the procedure of each cell.

    Args:
        cells: from the top.
        wide: titles left of the bars, and both bars in one row; else all below each other.
    """
    width = WIDE if wide else NARROW
    row = 0.3 if wide else 0.72  # inches
    top = 0.3 if wide else 0.05
    height = top + row * len(cells) + 0.06
    longest = max(len(cell.title) for cell in cells)
    left = 4.95 / 72 * min(longest, 60) + 0.15 if wide else 0.85
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        columns = ("value", "procedure")
        if wide:
            bar = (width - left - 0.3) / 2
            spans = [(left, bar), (left + bar + 0.2, bar)]
        else:
            spans = [(left, width - left - 0.1)]
        for i, (start, length) in enumerate(spans):
            box = (start / width, 0.06 / height, length / width, row * len(cells) / height)
            ax = figure.add_axes(box)
            ax.set_axis_off()
            ax.set_xlim(0, 1)
            ax.set_ylim(len(cells), 0)
            if wide:
                ax.text(0, -0.25, columns[i], fontsize=9, color=FOREGROUND, fontweight="bold")
            for y, cell in enumerate(cells):
                if wide:
                    if i == 0:
                        offset = (-72 * left, 0)
                        _write(ax, cell.title, y + 0.5, offset)
                    _bar(ax, (cell.value, cell.procedure)[i], y + 0.5, 0.62)
                else:
                    _write(ax, cell.title, y + 0.17, (-72 * left, 0), bold=True)
                    for k, shares in enumerate((cell.value, cell.procedure)):
                        _write(ax, columns[k], y + 0.46 + 0.31 * k, (-72 * left, 0))
                        _bar(ax, shares, y + 0.46 + 0.31 * k, 0.25)
        return figure


def _write(ax: Axes, text: str, y: float, offset: tuple[float, float], bold: bool = False) -> None:
    ax.annotate(
        text, (0, y), offset, textcoords="offset points", va="center", fontsize=9,
        color=FOREGROUND, fontweight="bold" if bold else "normal", annotation_clip=False,
    )  # fmt: skip


def _bar(ax: Axes, shares: VarianceShares | None, y: float, height: float) -> None:
    if shares is None:
        ax.text(0, y, MISSING, va="center", fontsize=9, color=FOREGROUND)
        return
    start = 0.0
    for _, colour, share in _segments(shares):
        ax.barh(y, share, height, left=start, color=colour, edgecolor=BACKGROUND, lw=0.8)
        if share >= _LEAST_LABELLED:
            ax.text(
                start + share / 2, y, f"{100 * share:.0f} %", ha="center", va="center",
                fontsize=8, color=BACKGROUND,
            )  # fmt: skip
        start += share


PANEL = register(Panel("uncertainty", "How precise the study is, and what limits it", 26, build))
