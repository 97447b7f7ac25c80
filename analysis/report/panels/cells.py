"""Panel: the table of every cell."""

from __future__ import annotations

from analysis.formatting import MISSING, number, points
from analysis.inference.records import CellVerdict, Verdict
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


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell."""
    cells, pooled = analysis.verdict.cells, analysis.verdict.pooled
    columns = [
        TableColumn("cell"),
        TableColumn("classes"),
        TableColumn("analytic ε"),
        TableColumn("tuned ε"),
        TableColumn("best ε (95 %)", nowrap=True),
        TableColumn("within margin"),
        TableColumn(f"regret, points ({100 * pooled.confidence:.0f} %)", "regret, points", True),
        TableColumn("n", "paired seeds"),
        TableColumn("verdict"),
    ]
    verdicts = "; ".join(f"{v.word}: {v.sentence}" for v in Verdict)
    return ReportSection(
        table=ReportTable(
            columns,
            [_row(cell) for cell in cells],
            [(cell.verdict.value, cell.reason) for cell in cells],
        ),
        notes=[
            "Within margin: the stretch around the best ε where the fitted curve is at most "
            f"{points(pooled.margin)} points lower. {verdicts}."
        ],
    )


def _row(cell: CellVerdict) -> list[str]:
    region, regret = cell.indifference, cell.primary_regret
    return [
        cell.cell_id,
        str(cell.classes),
        number(cell.primary_epsilon),
        number(cell.epsilon_tuned),
        _best_epsilon(cell),
        f"{number(region.low)} to {number(region.high)}" if region else MISSING,
        with_interval(regret.mean, regret.low, regret.high)
        if regret and regret.mean is not None and regret.low is not None
        else MISSING,
        str(regret.n if regret else 0),
        cell.verdict.word,
    ]


def _best_epsilon(cell: CellVerdict) -> str:
    best = cell.epsilon_best
    if best is None:
        return MISSING
    if best.flat:
        return "none: flat"
    if best.on_edge:
        return f"edge, {number(best.value)}"
    return with_interval(best.value, best.low, best.high, number)


PANEL = register(Panel("cells", "Every cell", 100, build))
