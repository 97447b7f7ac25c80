"""Panel: what sweep and confirm stage say about the value, beside each other."""

from __future__ import annotations

from analysis.formatting import MISSING, count
from analysis.inference.cell_records import CellVerdict, ResponseSummary
from analysis.inference.records import Verdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_ROWS,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    left_out_note,
    register,
    with_interval,
)
from analysis.report.series import cell_titles
from analysis.verdict import StudyAnalysis

_COLUMNS = (
    TableColumn("cell"),
    TableColumn("sweep: within the margin, %", "sweep, within margin, %"),
    TableColumn("sweep says"),
    TableColumn("confirm: value, points", "confirm, value", True),
    TableColumn("confirm says"),
)
_WITHIN, _BEYOND, _UNSURE = "within the margin", "beyond the margin", "unsure"


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell with a sweep and a value; None without any."""
    checked = [
        (cell, cell.response, probability)
        for cell in analysis.verdict.cells
        if cell.response is not None
        and cell.rule is not None
        and cell.primary_value is not None
        and (probability := cell.response.probability_within_margin.get(cell.rule)) is not None
    ]
    if not checked:
        return None
    titles = cell_titles(analysis.verdict.cells)
    rows, verdicts, differing, one_sure = [], [], [], 0
    for cell, response, probability in checked:
        title = titles[cell.cell_id]
        says = sweep_says(probability, cell.confidence)
        rows.append(_row(cell, title, probability, says))
        verdicts.append((cell.verdict.value, cell.reason))
        one_sure += (says == _UNSURE) != (cell.verdict == Verdict.UNDECIDED)
        if contradicts(says, cell.verdict):
            differing.append(_sentence(cell, response, title, probability))
    return ReportSection(
        intro="The sweep is a second check: other networks, validation labels in place of the "
        "test set, and a fitted curve in place of two points. It does not enter the verdict. It "
        "has the probability that analytic ε costs at most the margin.",
        table=ReportTable(_COLUMNS, rows[:MAX_ROWS], verdicts[:MAX_ROWS]),
        paragraphs=[*differing, _summary(len(rows), one_sure, len(differing))],
        notes=left_out_note(len(rows), MAX_ROWS, "cells"),
    )


def _summary(cells: int, one_sure: int, differing: int) -> str:
    """How often sweep and confirm stage agree."""
    contradict = "no cell" if differing == 0 else count(differing, "cell")
    return (
        f"The two contradict each other in {contradict} of {cells}; in {one_sure} only one of them "
        "is sure."
    )


def sweep_says(probability: float, confidence: float) -> str:
    """What the sweep says, if it is as sure as one end of a confirm interval.

    Args:
        probability: that analytic ε costs at most the margin.
        confidence: two-sided level of the intervals.
    """
    level = (1 + confidence) / 2
    return _WITHIN if probability >= level else _BEYOND if probability <= 1 - level else _UNSURE


def contradicts(says: str, verdict: Verdict) -> bool:
    """Whether sweep and confirm are both sure, of opposite things."""
    agrees = verdict.agrees or verdict == Verdict.CANNOT_TELL
    return (says == _WITHIN and verdict == Verdict.INFERIOR) or (says == _BEYOND and agrees)


def _row(cell: CellVerdict, title: str, probability: float, says: str) -> list[str]:
    value = cell.primary_value
    measured = MISSING
    if value is not None and value.mean is not None:
        measured = with_interval(value.mean, value.low, value.high)
    return [title, _percent(probability), says, measured, cell.verdict.word]


def _percent(probability: float) -> str:
    return f"{100 * probability:.0f}"


def _sentence(cell: CellVerdict, response: ResponseSummary, title: str, probability: float) -> str:
    clean = "clean" if response.metric == "val_acc_clean" else "noisy"
    return (
        f"{title}: sweep and confirm stage differ. The sweep gives {_percent(probability)} % that "
        f"analytic ε costs at most the margin, on {clean} validation labels; the confirm stage "
        f"says {cell.verdict.word}. Look at the learning rates of the two: the sweep has a fixed "
        "grid of them."
    )


PANEL = register(Panel("sweep-check", "A second check: the sweep", 28, build))
