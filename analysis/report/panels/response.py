"""Panel: accuracy against ε, one figure per cell with a sweep."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.inference.cell_records import CellVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    left_out_note,
    register,
)
from analysis.report.series import DASH_DOT, cell_titles
from analysis.report.theme import (
    BLUE,
    FOREGROUND,
    GREEN,
    MUTED,
    PURPLE,
    STYLE,
    VERMILLION,
    add_grid,
    axes,
)
from analysis.response.fit import Response
from analysis.verdict import StudyAnalysis

_TUNED_DASH = (2.5, 1.25)
_MAX_RULES = 3  # in a caption
_METRICS = {
    "val_acc_clean": "validation accuracy on clean labels, which the search does not use",
    "val_acc_noisy": "validation accuracy on noisy labels",
}
_LEGEND = (
    LegendKey("mean over seeds, fitted curve, 95 % band", BLUE, "horizontal", 2, marker="o"),
    LegendKey("best ε, 95 % interval", FOREGROUND, "horizontal", 4, marker="|"),
    LegendKey("analytic ε", VERMILLION, "vertical"),
    LegendKey("tuned ε", GREEN, "vertical", dash=_TUNED_DASH),
    LegendKey("ε = 0", PURPLE, marker="ring"),
    LegendKey("cross-entropy, tuned", MUTED, "horizontal", 1.6, DASH_DOT),
)


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Accuracy against ε; None without a sweep."""
    cells = [c for c in analysis.verdict.cells if c.cell_id in analysis.responses]
    if not cells:
        return None
    titles, figures = cell_titles(analysis.verdict.cells), []
    for i, cell in enumerate(cells[:MAX_FIGURES]):
        response = analysis.responses[cell.cell_id]
        title, caption = titles[cell.cell_id], caption_lines(cell)
        values = zip(response.points["epsilon"], response.points["mean"], strict=True)
        data = ", ".join(f"{100 * mean:.0f} % at ε {epsilon:.1f}" for epsilon, mean in values)
        alt = f"Accuracy against ε, {title}: {data}. {'; '.join(caption)}."
        svg = writer.save(draw(cell, response), f"response-{i + 1}", alt)
        figures.append(CaptionedFigure(svg, title, caption))
    metrics = sorted({r.metric for r in analysis.responses.values()})
    return ReportSection(
        intro="Sweep stage: a fixed grid of ε on common seeds. The scale is "
        f"{' or '.join(_METRICS[m] for m in metrics)}. ε = 0 is the loss without a logit bias.",
        legend=_LEGEND,
        figures=figures,
        notes=left_out_note(len(cells), len(figures), "response_curve"),
    )


def caption_lines(cell: CellVerdict) -> list[str]:
    """A line with the best ε of a cell, and one with the analytic and tuned ε."""
    best = cell.epsilon_best
    assert best is not None  # the cell has a response
    if best.flat:
        text = "no best ε: this sweep cannot tell the curve from a flat one"
    elif best.on_edge:
        text = f"best ε on the edge of the range, {best.value:.1f}"
    else:
        text = f"best ε {best.value:.2f} ({best.low:.2f} to {best.high:.2f})"
    rules = list(cell.epsilon_analytic.items())[:_MAX_RULES]
    chosen = [f"{rule if len(rules) > 1 else 'analytic'} {epsilon:.2f}" for rule, epsilon in rules]
    chosen += [f"tuned {cell.epsilon_tuned:.2f}"] if cell.epsilon_tuned is not None else []
    return [text, " · ".join(chosen)]


def draw(cell: CellVerdict, response: Response) -> Figure:
    """Points, curve with band, interval of the best ε, tuned and analytic ε, references.

    Args:
        cell: the cell.
        response: its fit.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, 2.75)
        curve, means, best = response.curve, response.points, response.best
        x = curve["epsilon"]
        ax.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=BLUE, alpha=0.18, lw=0)
        ax.plot(x, 100 * curve["middle"], color=BLUE, lw=1.6)
        ax.plot(means["epsilon"], 100 * means["mean"], "o", color=BLUE, ms=4)
        bottom, top = _limits(100 * means["mean"])
        ax.set_ylim(bottom, top)
        for rule, epsilon in cell.epsilon_analytic.items():
            primary = rule == cell.rule
            width, alpha = (1.6, 1.0) if primary else (0.8, 0.6)
            ax.axvline(epsilon, color=VERMILLION, lw=width, alpha=alpha)
        if cell.epsilon_tuned is not None:
            ax.axvline(cell.epsilon_tuned, color=GREEN, lw=1.6, ls=(0, (4, 2)))
        level = bottom + 0.05 * (top - bottom)
        ends = [best.low, best.high]
        ax.plot(ends, [level, level], color=FOREGROUND, lw=3.2, solid_capstyle="butt")
        if not best.flat:
            ax.plot([best.value], [level], "|", color=FOREGROUND, ms=10, mew=1.6)
        reference = cell.reference.accuracy(response.metric) if cell.reference else None
        if reference is not None:
            ax.axhline(100 * reference, color=MUTED, lw=1.1, ls=(0, DASH_DOT))
        zero = means[means["epsilon"] == 0]
        if len(zero):
            y = 100 * float(zero["mean"].iloc[0])
            ax.plot([0], [y], "o", mfc="none", mec=PURPLE, mew=1.8, ms=9, clip_on=False)
        ax.set_xlabel("ε (logit bias)")
        ax.set_ylabel("accuracy, %")
        add_grid(ax)
        return figure


def _limits(values: pd.Series) -> tuple[float, float]:
    """Ends of the vertical axis for accuracies in percent."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = max(0.12 * (high - low), 0.5)
    return max(low - 1.6 * pad, min(0.0, low)), min(high + pad, max(102.0, high))


PANEL = register(Panel("response", "Accuracy against ε", 10, build))
