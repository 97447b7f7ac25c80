"""Panel: what tuning ε as well gains, by cell, with every replicate of the search."""

from __future__ import annotations

from analysis.formatting import number
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Procedure, Verdict
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
from analysis.report.panels.forest import MAX_CELLS, percent, seed_differences
from analysis.report.series import MEAN_STYLE, VERDICT_STYLES, cell_titles
from analysis.report.theme import FOREGROUND
from analysis.verdict import StudyAnalysis
from study.results.arms import TUNED

_WORDS = {
    Verdict.EQUIVALENT: "gain below margin",
    Verdict.NON_INFERIOR: "gain below margin",
    Verdict.INFERIOR: "gain above margin",
    Verdict.UNDECIDED: "undecided",
    Verdict.CANNOT_TELL: "cannot tell",
}


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Gain of tuning by cell; None where nothing was tuned."""
    pooled = analysis.verdict.pooled
    measured = [
        (cell, gain)
        for cell in analysis.verdict.cells
        if (gain := cell.primary_procedure) is not None and gain.mean is not None
    ]
    if not measured:
        return None
    titles = cell_titles(analysis.verdict.cells)
    seeds = seed_differences(analysis.tables["regret_by_seed"])
    rows = [
        _row(cell, gain, titles[cell.cell_id], seeds.get((cell.cell_id, cell.rule or ""), []))
        for cell, gain in measured[:MAX_CELLS]
    ]
    if pooled.procedure is not None and pooled.procedure.mean is not None and len(rows) > 1:
        rows.append(_mean_row(pooled.procedure, len(measured)))
    axis = ForestAxis(
        "gain of tuning ε as well, percentage points of test accuracy", margin=100 * pooled.margin
    )
    svg = save(writer, rows, axis, "procedure", "Gain of tuning by cell")
    single = all(len(gain.replicates) < 2 for _, gain in measured)
    return ReportSection(
        intro="What a user gains by tuning ε and learning rate over taking analytic ε and tuning "
        "the learning rate alone, with the same number of networks. "
        + (
            "There was one search, so nothing is known of how another search would have chosen: "
            "the dots are paired seeds, and the mark is their mean."
            if single
            else "The dots are replicates of the search, each confirmed on its own fresh paired "
            f"seeds; the line is the {100 * pooled.confidence:.0f} % interval over replicates, so "
            "that the luck of a search is inside it."
        ),
        legend=[LegendKey("one seed" if single else "one search", FOREGROUND, marker="dot")],
        figures=[CaptionedFigure(svg)],
        notes=left_out_note(len(measured), MAX_CELLS, "procedure"),
    )


def _row(cell: CellVerdict, gain: Procedure, title: str, seeds: list[float]) -> ForestRow:
    assert gain.mean is not None
    dots = [100 * r.mean for r in gain.replicates if r.mean is not None]
    if len(gain.replicates) < 2 and cell.comparator == TUNED:
        dots = seeds
    return ForestRow(
        title,
        100 * gain.mean,
        percent(gain.ends),
        with_interval(gain.mean, gain.low, gain.high),
        VERDICT_STYLES[gain.verdict],
        _word(gain),
        _remark(cell, gain),
        dots,
    )


def _word(gain: Procedure) -> str:
    return "no interval" if gain.low is None else _WORDS[gain.verdict]


def _remark(cell: CellVerdict, gain: Procedure) -> str:
    tuned = cell.epsilon_tuned_by_replicate
    epsilon = f"tuned {number(min(tuned))} to {number(max(tuned))}" if tuned else ""
    if len(tuned) == 1:
        epsilon = f"tuned {number(tuned[0])}"
    searches = len(gain.replicates)
    texts = [f"analytic {number(cell.primary_epsilon)}", epsilon]
    texts.append("1 search" if searches == 1 else f"{searches} searches")
    return "; ".join(text for text in texts if text)


def _mean_row(gain: Procedure, cells: int) -> ForestRow:
    assert gain.mean is not None
    return ForestRow(
        f"mean over {cells} cells",
        100 * gain.mean,
        percent(gain.ends),
        with_interval(gain.mean, gain.low, gain.high),
        MEAN_STYLE,
        _word(gain),
        dots=[100 * r.mean for r in gain.replicates if r.mean is not None]
        if len(gain.replicates) > 1
        else (),
        is_mean=True,
    )


PANEL = register(Panel("procedure", "Procedure: the gain of tuning ε as well", 22, build))
