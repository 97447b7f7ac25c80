"""Panel: ε, learning rate and test accuracy of each arm, and its cost against the best ε."""

from __future__ import annotations

from analysis.formatting import MISSING, number, points
from analysis.inference.cell_records import ArmSummary, CellVerdict, ReplicateChoice
from analysis.inference.records import NO_VALUES, Interval
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_ROWS,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    register,
    with_interval,
)
from analysis.report.series import arm_styles, cell_titles
from analysis.verdict import StudyAnalysis
from study.results.arms import BEST, Arm

_MAX_UNFOLDED = 60  # rows


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell and arm, and per arm with replicates; None without a confirm stage."""
    titles = cell_titles(analysis.verdict.cells)
    rows = [row for cell in analysis.verdict.cells for row in _rows_of(cell, titles[cell.cell_id])]
    if not rows:
        return None
    level = f"{100 * analysis.verdict.pooled.confidence:.0f} %"
    columns = [
        TableColumn("cell"),
        TableColumn("arm"),
        TableColumn("ε"),
        TableColumn("learning rate"),
        TableColumn(f"test accuracy, % ({level})", "test accuracy, %", True),
        TableColumn("cost of this arm, points", "cost", True),
        TableColumn("seeds"),
        TableColumn("failed"),
    ]
    left_out = len(rows) - MAX_ROWS
    return ReportSection(
        table=ReportTable(columns, rows[:MAX_ROWS]),
        notes=[
            "Cost: accuracy of the best ε (in a study without that arm, of tuned ε) minus that of "
            "the arm. Where search and sweep rank analytic ε first, the arm best ε is the "
            "strongest challenger at another ε. "
            "By search: what each replicate of the search chose, in their order, and the "
            "range of the mean accuracies; each has seeds of its own. "
            "Failed: diverged, or nearer to guessing than to the arm's median. All rows are in "
            "tables/arms.csv and tables/choices.csv.",
            *([f"{left_out} more rows are in these files."] if left_out > 0 else []),
        ],
        folded=len(rows) > _MAX_UNFOLDED,
    )


def _rows_of(cell: CellVerdict, title: str) -> list[list[str]]:
    costs: dict[str, Interval] = dict(cell.cost_by_arm)
    rows = [
        _row(title, arm, cell.arms[arm], costs.get(arm, NO_VALUES))
        for arm in sorted(arm_styles(cell.arms, cell.rule), key=lambda arm: arm != BEST)
    ]
    choices = arm_styles(cell.choices, cell.rule)
    return rows + [_choices_row(title, arm, cell.choices[arm]) for arm in choices]


def _row(title: str, arm: str, summary: ArmSummary, cost: Interval) -> list[str]:
    return [
        title,
        Arm.of_row(arm).label,
        number(summary.epsilon),
        _rate(summary.lr),
        _points(summary.accuracy),
        _points(cost),
        str(summary.seeds),
        str(summary.failed),
    ]


def _choices_row(title: str, arm: str, choices: list[ReplicateChoice]) -> list[str]:
    """What the replicates of the search chose, in their order."""
    means = [choice.accuracy.mean for choice in choices if choice.accuracy.mean is not None]
    seeds = [str(choice.accuracy.n) for choice in choices]
    epsilons = [number(choice.epsilon) for choice in choices]
    return [
        title,
        f"{Arm.of_row(arm).label}, by search",
        epsilons[0] if len(set(epsilons)) == 1 else ", ".join(epsilons),
        ", ".join(_rate(choice.lr) for choice in choices),
        f"{points(min(means))} to {points(max(means))}" if means else MISSING,
        MISSING,
        seeds[0] if len(set(seeds)) == 1 else ", ".join(seeds),
        MISSING,
    ]


def _rate(lr: float | None) -> str:
    return MISSING if lr is None else f"{lr:.3g}"


def _points(interval: Interval) -> str:
    if interval.mean is None:
        return MISSING
    return with_interval(interval.mean, interval.low, interval.high, points)


PANEL = register(Panel("arms", "What each arm reached", 110, build))
