"""Panel: the number of cells with each verdict against the margin δ."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.formatting import points
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    register,
)
from analysis.report.series import VERDICT_STYLES
from analysis.report.theme import FOREGROUND, STYLE, add_grid, axes
from analysis.verdict import StudyAnalysis


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Verdicts against the margin; None if no cell has an interval."""
    pooled = analysis.verdict.pooled
    if pooled.value.high is None:
        return None
    threshold = points(max(0.0, pooled.value.high))
    svg = writer.save(
        draw(analysis.tables["margin_curve"], pooled.margin),
        "margin",
        f"Cells by verdict against the margin; pooled agreement above {threshold}.",
    )
    return ReportSection(
        intro="The number of cells that would have each verdict at another δ; the vertical line is "
        "this study's δ. Averaged over cells, analytic ε is non-inferior at any margin above "
        f"{threshold} points.",
        legend=[
            LegendKey(verdict.word, style.colour, "horizontal", dash=style.dash)
            for verdict, style in VERDICT_STYLES.items()
        ],
        figures=[CaptionedFigure(svg)],
    )


def draw(curve: pd.DataFrame, margin: float) -> Figure:
    """Number of cells per verdict against the margin δ.

    Args:
        curve: from `analysis.inference.pooling.margin_curve`.
        margin: the study's δ, a fraction.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 2.6)
        for verdict, style in VERDICT_STYLES.items():
            count = curve[verdict.value]
            if count.any():
                x, ls = 100 * curve["margin"], style.linestyle
                ax.step(x, count, where="post", color=style.colour, ls=ls, lw=1.8)
        ax.axvline(100 * margin, color=FOREGROUND, lw=0.9)
        ax.set_xlabel("margin δ, percentage points")
        ax.set_ylabel("cells")
        ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        ax.set_ylim(bottom=0)
        add_grid(ax)
        return figure


PANEL = register(Panel("margin", "The conclusion against the margin", 30, build))
