"""Panel: value of every cell with its interval, and their mean (forest plot)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.formatting import points
from analysis.inference.records import CellVerdict, Interval, PooledVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    CaptionedFigure,
    Panel,
    ReportSection,
    left_out_note,
    register,
    with_interval,
)
from analysis.report.series import VERDICT_STYLES, SeriesStyle, cell_titles
from analysis.report.theme import FOREGROUND, MUTED, STYLE, VERMILLION, axes
from analysis.verdict import StudyAnalysis

MAX_CELLS = 40
_MEAN_STYLE = SeriesStyle(FOREGROUND, "D")


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Value by cell; None if no cell has an interval."""
    pooled = analysis.verdict.pooled
    cells = [(cell, value) for cell in analysis.verdict.cells if (value := _value(cell))]
    titles = cell_titles(analysis.verdict.cells)
    if not cells:
        return None
    data = "; ".join(f"{titles[c.cell_id]}: {points(r.mean or 0.0)}" for c, r in cells)
    figure = draw(cells[:MAX_CELLS], pooled, titles)
    svg = writer.save(figure, "forest", f"Regret by cell: {data}")
    return ReportSection(
        intro="Test accuracy at tuned ε minus test accuracy at analytic ε, on fresh seeds paired "
        "by noise draw, data order and initialisation. Horizontal lines are "
        f"{100 * pooled.confidence:.0f} % t intervals; the dashed line is the margin of "
        f"{points(pooled.margin)} points. An interval left of the margin means agreement.",
        figures=[CaptionedFigure(svg)],
        notes=left_out_note(len(cells), MAX_CELLS, "costs"),
    )


def _value(cell: CellVerdict) -> Interval | None:
    """The value of a cell if it has an interval."""
    value = cell.primary_value
    return None if value is None or value.low is None else value


def draw(
    cells: Sequence[tuple[CellVerdict, Interval]],
    pooled: PooledVerdict,
    titles: Mapping[str, str],
) -> Figure:
    """A forest plot: one row per cell, and one for the mean.

    Args:
        cells: cells with their value, each with an interval.
        pooled: the verdict over all cells.
        titles: {cell_id: title}.
    """
    rows = [(titles[c.cell_id], r, c.verdict, VERDICT_STYLES[c.verdict]) for c, r in cells]
    if pooled.value.low is not None and len(rows) > 1:
        title = f"mean over {pooled.value.cells} cells"
        rows.append((title, pooled.value, pooled.verdict, _MEAN_STYLE))
    margin = 100 * pooled.margin
    intervals = [_percent(value) for _, value, _, _ in rows]
    low = min(0.0, *(interval[1] for interval in intervals))
    high = max(margin, *(interval[2] for interval in intervals))
    pad = 0.04 * (high - low)
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 0.7 + 0.72 * len(rows))
        ax.set_position((0.03, ax.get_position().y0, 0.94, ax.get_position().height))
        for y, (title, value, verdict, style) in enumerate(rows):
            mean, left, right = intervals[y]
            # The vertical lines end below the text of the row.
            ax.plot([0, 0], [y - 0.14, y + 0.14], color=FOREGROUND, lw=0.9)
            ax.plot([margin] * 2, [y - 0.14, y + 0.14], color=VERMILLION, lw=1.4, ls=(0, (2, 1)))
            ax.plot([left, right], [y, y], color=style.colour, lw=2.2)
            ax.plot([mean], [y], marker=style.marker, ls="", color=style.colour, ms=6.5, mew=1.8)
            numbers = f"{with_interval(value.mean or 0.0, value.low, value.high)}, {verdict.word}"
            weight = "bold" if style is _MEAN_STYLE else "normal"
            for line, offset, colour in ((title, 27.5, FOREGROUND), (numbers, 15.5, MUTED)):
                ax.annotate(
                    line, (0, y), (0, offset), xycoords=("axes fraction", "data"),
                    textcoords="offset points", fontsize=9, va="center", color=colour,
                    fontweight=weight,
                )  # fmt: skip
        ax.set_xlim(low - pad, high + pad)
        ax.set_ylim(len(rows) - 0.7, -0.75)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("cost of analytic ε, percentage points of test accuracy")
        ax.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
        return figure


def _percent(value: Interval) -> tuple[float, float, float]:
    """Mean, lower and upper end in percentage points."""
    assert value.mean is not None
    assert value.ends is not None
    low, high = value.ends
    return 100 * value.mean, 100 * low, 100 * high


PANEL = register(Panel("forest", "Value: the cost of analytic ε", 20, build))
