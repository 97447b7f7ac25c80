"""Panel: learning curves of every arm in the confirm stage."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.inference.cell_records import CellVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    left_out_note,
    register,
)
from analysis.report.series import SeriesStyle, arm_styles, cell_titles
from analysis.report.theme import STYLE, add_grid, axes
from analysis.verdict import StudyAnalysis
from study.results.arms import CE, Arm


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Learning curves, one figure per cell; None without a confirm stage."""
    table, cells = analysis.tables["learning_curves"], analysis.verdict.cells
    curves = [(cell, rows) for cell in cells if len(rows := _curves_of(table, cell))]
    if not curves:
        return None
    arms = {str(arm) for _, rows in curves for arm in rows["arm"].unique()}
    styles = arm_styles(arms, next((cell.rule for cell in cells if cell.rule), None))
    titles, figures = cell_titles(cells), []
    for i, (cell, rows) in enumerate(curves[:MAX_FIGURES]):
        title = titles[cell.cell_id]
        last = rows.sort_values("epoch").groupby("arm")["mean"].last()
        ends = ", ".join(
            f"{Arm.of_row(arm).label} {100 * last[arm]:.0f} %" for arm in styles if arm in last
        )
        alt = f"Accuracy by epoch, {title}. Last epoch: {ends}."
        svg = writer.save(draw(rows, styles), f"learning-{i + 1}", alt)
        figures.append(CaptionedFigure(svg, title))
    return ReportSection(
        intro="Confirm stage, validation accuracy, mean over seeds; the band is the range over "
        "seeds. An arm without common seeds, such as tuned ε, is the mean over its replicates.",
        legend=[
            LegendKey(Arm.of_row(arm).label, style.colour, "horizontal", dash=style.dash)
            for arm, style in styles.items()
        ],
        figures=figures,
        notes=left_out_note(len(curves), len(figures), "learning_curves"),
    )


def _curves_of(table: pd.DataFrame, cell: CellVerdict) -> pd.DataFrame:
    """A cell's learning curves, with those of plain cross-entropy from its reference cell."""
    rows = table[(table["cell_id"] == cell.cell_id) & (table["arm"] != CE)]
    if cell.reference is None:
        return rows
    reference = table[(table["cell_id"] == cell.reference.cell_id) & (table["arm"] == CE)]
    return pd.concat([rows, reference])


def draw(curves: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> Figure:
    """Accuracy by epoch, one line per arm with the range over seeds.

    Args:
        curves: columns arm, epoch, mean, low, high (fractions).
        styles: {arm: style}; the arms are drawn in this order.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, 2.5)
        for arm, style in styles.items():
            rows = curves[curves["arm"] == arm].sort_values("epoch")
            if rows.empty:
                continue
            low, high = 100 * rows["low"], 100 * rows["high"]
            ax.fill_between(rows["epoch"], low, high, color=style.colour, alpha=0.16, lw=0)
            mean = 100 * rows["mean"]
            marker = "o" if len(rows) == 1 else None  # a line through one epoch is invisible
            ax.plot(
                rows["epoch"], mean, color=style.colour, ls=style.linestyle, lw=1.6, marker=marker
            )
        ax.set_xlabel("epoch")
        ax.set_ylabel("accuracy, %")
        ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True, min_n_ticks=1))
        ax.set_ylim(bottom=0)
        add_grid(ax)
        return figure


PANEL = register(Panel("learning", "Learning curves", 90, build))
