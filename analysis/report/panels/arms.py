"""Panel: ε, learning rate and test accuracy of each arm, and its cost against the best ε."""

from __future__ import annotations

from typing import Any

from analysis.formatting import MISSING, number, points
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    register,
    table_rows,
    with_interval,
)
from analysis.verdict import StudyAnalysis


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell and arm; None without a confirm stage."""
    rows = table_rows(analysis.tables["arms"])
    if not rows:
        return None
    level = f"{100 * analysis.verdict.pooled.confidence:.0f} %"
    columns = [
        TableColumn("cell"),
        TableColumn("arm"),
        TableColumn(f"test accuracy, % ({level})", "test accuracy, %", True),
        TableColumn("ε"),
        TableColumn("learning rate"),
        TableColumn("cost of this arm, points", "cost", True),
        TableColumn("seeds"),
    ]
    return ReportSection(
        table=ReportTable(columns, [_row(row) for row in rows]),
        notes=[
            "Cost: accuracy of the best ε (in a study without that arm, of tuned ε) minus that of "
            "the arm. All rows are in tables/arms.csv."
        ],
        folded=True,
    )


def _row(arm: dict[str, Any]) -> list[str]:
    return [
        arm["cell_id"],
        arm["arm"],
        _points(arm, "accuracy"),
        number(arm["epsilon"]),
        MISSING if arm["lr"] is None else f"{arm['lr']:.3g}",
        _points(arm, "cost"),
        str(arm["n"]),
    ]


def _points(arm: dict[str, Any], name: str) -> str:
    value = arm[name]
    if value is None:
        return MISSING
    return with_interval(value, arm[f"{name}_low"], arm[f"{name}_high"], points)


PANEL = register(Panel("arms", "Test accuracy of each arm", 110, build))
