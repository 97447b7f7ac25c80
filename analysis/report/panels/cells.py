"""Panel: the table of every cell."""

from __future__ import annotations

from analysis.formatting import MISSING, number, points
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import NO_VALUES, Verdict
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
        TableColumn(f"value, points ({100 * pooled.confidence:.0f} %)", "value, points", True),
        TableColumn("gain of tuning, points", "gain of tuning", True),
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
    region = cell.indifference
    value, tuning = cell.primary_value or NO_VALUES, cell.primary_procedure or NO_VALUES
    return [
        cell.cell_id,
        str(cell.classes),
        number(cell.primary_epsilon),
        number(cell.epsilon_tuned),
        _best_epsilon(cell),
        f"{number(region.low)} to {number(region.high)}" if region else MISSING,
        *(
            MISSING if r.mean is None else with_interval(r.mean, r.low, r.high)
            for r in (value, tuning)
        ),
        str(value.n),
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
