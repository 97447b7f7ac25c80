"""Panel: best ε against the noise rate."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from analysis.formatting import number
from analysis.inference.cell_records import CellVerdict
from analysis.inference.study_records import NoiseSlope
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    CaptionedFigure,
    Panel,
    ReportSection,
    left_out_note,
    register,
)
from analysis.report.theme import BLUE, STYLE, VERMILLION, add_grid, axes
from analysis.response.fit import BestEpsilon
from analysis.verdict import StudyAnalysis


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One figure per data set, model, loss and noise kind with several rates; None without any."""
    slopes = analysis.verdict.noise_slopes
    if not slopes:
        return None
    figures = []
    several_models = len({cell.model for cell in analysis.verdict.cells}) > 1
    for i, slope in enumerate(slopes[:MAX_FIGURES]):
        factors = [slope.dataset, slope.loss, slope.noise_kind]
        title, caption = " · ".join(factors + [slope.model] * several_models), _caption(slope)
        alt = f"Best ε by noise rate, {title}: {caption}"
        svg = writer.save(draw(_cells_of(analysis, slope)), f"noise-{i + 1}", alt)
        figures.append(CaptionedFigure(svg, title, [caption]))
    return ReportSection(
        intro="The analytic ε does not depend on the noise; if it is right, the best ε does not "
        "either. Vertical bars are 95 % intervals; the horizontal line is the analytic ε.",
        figures=figures,
        notes=left_out_note(len(slopes), len(figures), "noise_slopes"),
    )


def _cells_of(analysis: StudyAnalysis, slope: NoiseSlope) -> list[tuple[CellVerdict, BestEpsilon]]:
    """The cells of a slope with their best ε; clean cells belong to every noise kind."""
    group = (slope.dataset, slope.model, slope.loss)
    return [
        (cell, cell.epsilon_best)
        for cell in analysis.verdict.cells
        if cell.epsilon_best is not None
        and (cell.dataset, cell.model, cell.loss) == group
        and (cell.noise_rate == 0 or cell.noise_kind == slope.noise_kind)
    ]


def _caption(slope: NoiseSlope) -> str:
    text = (
        f"slope {number(slope.slope)} ({number(slope.low)} to {number(slope.high)}) per unit rate"
    )
    if slope.on_edge:
        text += "; a best ε lies on the edge"
    return text + "; a curve is flat" if slope.flat else text


def draw(cells: Sequence[tuple[CellVerdict, BestEpsilon]]) -> Figure:
    """Best ε with its interval against the noise rate, and the analytic ε.

    Args:
        cells: cells with their best ε, of one data set, model, loss and noise kind.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, 2.4)
        for cell, best in cells:
            x = 100 * (cell.noise_rate or 0.0)
            face = "none" if best.on_edge else BLUE
            ax.plot([x, x], [best.low, best.high], color=BLUE, lw=2)
            ax.plot([x], [best.value], "o", color=BLUE, mfc=face, ms=6)
        analytic = cells[0][0].primary_epsilon
        if analytic is not None:
            ax.axhline(analytic, color=VERMILLION, lw=1.6)
        ax.set_xlabel("wrong labels, %")
        ax.set_ylabel("best ε")
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        add_grid(ax)
        return figure


PANEL = register(Panel("noise", "Does the best ε move with the noise rate?", 60, build))
