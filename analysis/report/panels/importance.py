"""Panel: which settings explain accuracy in the sweep (functional ANOVA)."""

from __future__ import annotations

from typing import Any

from analysis.formatting import MISSING
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    register,
    table_rows,
)
from analysis.report.series import noise_text
from analysis.verdict import StudyAnalysis

_FACTORS = {
    "epsilon": "ε",
    "lr": "learning rate",
    "loss": "loss",
    "interaction": "interaction",
}


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per data set, noise and model; None without a full grid."""
    rows = table_rows(analysis.tables["importance"])
    if not rows:
        return None
    columns = [TableColumn("data set"), TableColumn("noise"), TableColumn("model")]
    columns += [TableColumn(f"{words}, %") for words in _FACTORS.values()]
    return ReportSection(
        table=ReportTable(columns, [_row(row) for row in rows]),
        notes=[
            "Shares of the variance of accuracy over the grid of ε, learning rate and loss: "
            "functional ANOVA, exact on a full grid."
        ],
        folded=True,
    )


def _row(cell: dict[str, Any]) -> list[str]:
    shares = [cell[factor] for factor in _FACTORS]
    return [
        cell["dataset"],
        noise_text(cell["noise_kind"], cell["noise_rate"]),
        cell["model"],
        *(MISSING if share is None else f"{100 * share:.0f}" for share in shares),
    ]


PANEL = register(
    Panel("importance", "Which settings explain accuracy in the sweep (exploratory)", 130, build)
)
