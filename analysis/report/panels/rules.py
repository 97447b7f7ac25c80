"""Panel: a ranking of the rules by their agreement with the best ε."""

from __future__ import annotations

from analysis.formatting import MISSING, number, points
from analysis.inference.study_records import ValueAgreement
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    register,
    with_interval,
)
from analysis.verdict import StudyAnalysis

_COLUMNS = (
    TableColumn("rule"),
    TableColumn("cells"),
    TableColumn("best ε minus the rule's (95 %)", "best minus rule", True),
    TableColumn("limits of agreement", "limits", True),
    TableColumn("within the margin, % of cells", "within margin, %"),
    TableColumn("mean value, points", "mean value"),
)


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per rule; None with fewer than two rules."""
    agreement = analysis.verdict.value_agreement
    if len(agreement) < 2:
        return None
    rows = [_row(rule, a) for rule, a in agreement.items()]
    return ReportSection(table=ReportTable(_COLUMNS, rows), folded=True)


def _row(rule: str, a: ValueAgreement) -> list[str]:
    bias = MISSING if a.bias is None else with_interval(a.bias, a.bias_low, a.bias_high, number)
    return [
        rule,
        str(a.cells),
        bias,
        f"{number(a.limit_low)} to {number(a.limit_high)}",
        MISSING if a.inside is None else f"{100 * a.inside:.0f}",
        MISSING if a.value is None else points(a.value),
    ]


PANEL = register(Panel("rules", "Which rule agrees best (a ranking, not a test)", 120, build))
