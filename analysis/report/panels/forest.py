"""Panel: value of every cell with its interval and its seeds, and their mean (forest plot)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.formatting import MISSING, count, number, points
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Cost, Verdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.forest_plot import ForestAxis, ForestRow, save
from analysis.report.panels.base import (
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    left_out_note,
    register,
    with_interval,
)
from analysis.report.series import MEAN_STYLE, VERDICT_STYLES, cell_titles
from analysis.report.theme import FOREGROUND, MUTED
from analysis.verdict import StudyAnalysis
from study.results.arms import BEST, ZERO, analytic_arm

MAX_CELLS = 40


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Value by cell; None where no cell has one."""
    pooled = analysis.verdict.pooled
    measured = [
        (cell, value)
        for cell in analysis.verdict.cells
        if (value := cell.primary_value) is not None and value.mean is not None
    ]
    if not measured:
        return None
    titles = cell_titles(analysis.verdict.cells)
    seeds = seed_differences(analysis.tables["regret_by_seed"])
    rows = [
        _row(cell, value, titles[cell.cell_id], seeds.get((cell.cell_id, cell.rule or ""), []))
        for cell, value in measured[:MAX_CELLS]
    ]
    if pooled.value.mean is not None and len(rows) > 1:
        rows.append(
            ForestRow(
                f"mean over {pooled.value.cells} cells",
                100 * pooled.value.mean,
                percent(pooled.value.ends),
                with_interval(pooled.value.mean, pooled.value.low, pooled.value.high),
                MEAN_STYLE,
                "no verdict" if pooled.refused else pooled.verdict.word,
                pooled.scope.sentence,
                is_mean=True,
            )
        )
    axis = ForestAxis(
        "cost of analytic ε, percentage points of test accuracy", margin=100 * pooled.margin
    )
    svg = save(writer, rows, axis, "forest", "Value by cell")
    verdicts = [v for v in Verdict if any(cell.verdict == v for cell, _ in measured)]
    level = f"{100 * pooled.confidence:.0f} %"
    return ReportSection(
        intro="Test accuracy at the best ε minus test accuracy at analytic ε, each at its best "
        "learning rate, on fresh seeds paired by noise draw, data order and initialisation. The "
        "dots are the seeds. The mark is the cost: their mean with what the surface over ε and "
        f"learning rate adds; the line is its {level} interval, with "
        "the errors of seeds, test examples and surface. An interval left of the margin of "
        f"{points(pooled.margin)} points means that analytic ε costs less than it.",
        legend=[
            *(LegendKey(v.word, s.colour, "horizontal", marker=s.marker) for v, s in
              ((v, VERDICT_STYLES[v]) for v in verdicts)),
            LegendKey("one seed", FOREGROUND, marker="dot"),
            LegendKey("open mark: no evidence for the formula", MUTED, marker="ring"),
        ],
        figures=[CaptionedFigure(svg)],
        notes=[
            "A cell is evidence for the formula where ε = 0 is shown to cost more than the margin; "
            "the number in brackets is that cost. "
            "A challenger: search and sweep rank analytic ε first, so it is compared with the "
            "strongest other ε. A triangle at the edge is a value beyond the axis.",
            *_unmeasured_note(len(analysis.verdict.cells) - len(measured)),
            *left_out_note(len(measured), MAX_CELLS, "costs"),
        ],
    )  # fmt: skip


def _unmeasured_note(cells: int) -> list[str]:
    return [f"{count(cells, 'cell')} without a value: not shown."] if cells else []


def seed_differences(table: pd.DataFrame) -> Mapping[tuple[str, str], list[float]]:
    """{(cell, rule): paired differences comparator − analytic ε in percentage points}.

    Args:
        table: columns cell_id, arm, seed, regret (a fraction).
    """
    groups = table.sort_values("seed").groupby(["cell_id", "arm"])["regret"]
    prefix = analytic_arm("")
    return {
        (str(cell_id), str(arm).removeprefix(prefix)): [100 * float(v) for v in values]
        for (cell_id, arm), values in groups
        if str(arm).startswith(prefix)
    }


def percent(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """Ends of an interval in percentage points."""
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _row(cell: CellVerdict, value: Cost, title: str, seeds: list[float]) -> ForestRow:
    assert value.mean is not None
    return ForestRow(
        title,
        100 * value.mean,
        percent(value.ends),
        with_interval(value.mean, value.low, value.high),
        VERDICT_STYLES[cell.verdict],
        cell.verdict.word,
        f"{_epsilons(cell, value)}; {_evidence(cell)}",
        seeds,
        cell.evidence,
    )


def _epsilons(cell: CellVerdict, value: Cost) -> str:
    best = cell.arms.get(BEST)
    chosen = MISSING if best is None else number(best.epsilon)
    other = "challenger" if value.leads else "best"
    return f"analytic {number(cell.primary_epsilon)}, {other} {chosen}"


def _evidence(cell: CellVerdict) -> str:
    zero = cell.controls.get(ZERO)
    if cell.evidence and zero is not None and zero.mean is not None:
        return f"evidence (ε = 0: {points(zero.mean)})"
    return "not evidence"


PANEL = register(Panel("forest", "Value: the cost of analytic ε", 20, build))
