"""Panel: the share of the gain from ε = 0 to the best ε that analytic ε recovers, by cell."""

from __future__ import annotations

from analysis.formatting import points
from analysis.inference.records import Recovered
from analysis.report.figure_writer import FigureWriter
from analysis.report.forest_plot import ForestAxis, ForestRow, save
from analysis.report.panels.base import (
    CaptionedFigure,
    Panel,
    ReportSection,
    left_out_note,
    register,
)
from analysis.report.panels.forest import MAX_CELLS, percent
from analysis.report.series import MEAN_STYLE, SeriesStyle, cell_titles
from analysis.report.theme import BLUE
from analysis.verdict import StudyAnalysis

_STYLE = SeriesStyle(BLUE, "o")
_BOUNDS = (-50.0, 150.0)  # percent; a share of a small gain may be anything


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Recovered share by cell; None without the arms best and zero."""
    pooled, titles = analysis.verdict.pooled, cell_titles(analysis.verdict.cells)
    shares = [
        (cell, share)
        for cell in analysis.verdict.cells
        if (share := cell.recovered.get(cell.rule or "")) is not None and share.value is not None
    ]
    if not shares:
        return None
    rows = [
        _row(titles[cell.cell_id], share, _STYLE, cell.evidence)
        for cell, share in shares[:MAX_CELLS]
    ]
    if pooled.recovered is not None and pooled.recovered.value is not None and len(rows) > 1:
        title = f"of the means over {pooled.value.cells} cells"
        rows.append(_row(title, pooled.recovered, MEAN_STYLE, True, is_mean=True))
    axis = ForestAxis(
        "share of the gain that analytic ε recovers, %", references=(0.0, 100.0), bounds=_BOUNDS
    )
    svg = save(writer, rows, axis, "recovered", "Share of the gain recovered, %")
    return ReportSection(
        intro="Of the gain in test accuracy from ε = 0 to the best ε, the share that analytic ε "
        "recovers: 0 % is as good as ε = 0, 100 % as the best ε. Lines are Fieller's "
        f"{100 * pooled.confidence:.0f} % intervals. An open mark: ε = 0 is not shown to cost more "
        "than the margin, so there may be nothing to recover. Unbounded: the gain itself is "
        "not shown to be above 0.",
        figures=[CaptionedFigure(svg)],
        notes=left_out_note(len(shares), MAX_CELLS, "cells"),
    )


def _row(
    title: str, share: Recovered, style: SeriesStyle, is_evidence: bool, is_mean: bool = False
) -> ForestRow:
    assert share.value is not None
    ends = None if share.low is None or share.high is None else (share.low, share.high)
    result = _whole(share.value)
    if ends is not None:
        result += f" ({_whole(ends[0])} to {_whole(ends[1])})"
    gain = "" if share.gain is None else f"gain from ε = 0: {points(share.gain)} points"
    return ForestRow(
        title,
        100 * share.value,
        percent(ends),
        result,
        style,
        "" if ends is not None else "unbounded",
        gain,
        is_filled=is_evidence,
        is_mean=is_mean,
    )


def _whole(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")


PANEL = register(Panel("recovered", "How much of the gain analytic ε recovers", 24, build))
