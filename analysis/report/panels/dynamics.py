"""Panel: how fast each arm learns, and how many wrong labels it memorises."""

from __future__ import annotations

from typing import Any

from analysis.formatting import MISSING, points
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    register,
    table_rows,
)
from analysis.verdict import StudyAnalysis
from study.results.schema import Stage

_COLUMNS = (
    TableColumn("cell"),
    TableColumn("arm"),
    TableColumn("epochs to 90 % of the last", "epochs to 90 %"),
    TableColumn("best minus last epoch, points", "best minus last"),
    TableColumn("wrong labels memorised, %", "memorised, %"),
    TableColumn("networks"),
)


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per arm of the first cells; None without a confirm stage."""
    ids = [cell.cell_id for cell in analysis.verdict.cells[:MAX_FIGURES]]
    table = analysis.tables["dynamics"]
    table = table[(table["stage"] == Stage.CONFIRM) & table["cell_id"].isin(ids)]
    rows = table_rows(table)
    if not rows:
        return None
    return ReportSection(
        table=ReportTable(_COLUMNS, [_row(row) for row in rows]),
        notes=[
            "Memorised: share of wrong training labels that the network reproduces, minus the "
            "share that it corrects. All cells are in tables/dynamics.csv."
        ],
        folded=True,
    )


def _row(arm: dict[str, Any]) -> list[str]:
    epochs, lost, memorised = (
        arm[name] for name in ("epochs_to_90", "best_minus_last", "memorised")
    )
    return [
        arm["cell_id"],
        arm["arm"],
        MISSING if epochs is None else f"{epochs:.1f}",
        MISSING if lost is None else points(lost),
        MISSING if memorised is None else f"{100 * memorised:.0f}".replace("-", "−"),
        str(arm["n"]),
    ]


PANEL = register(Panel("dynamics", "How each arm learns (exploratory)", 140, build))
