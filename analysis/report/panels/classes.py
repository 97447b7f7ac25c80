"""Panel: best ε against the number of classes, and the analytic ε as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.data.load import LoadError
from analysis.formatting import number
from analysis.inference.cell_records import CellVerdict
from analysis.inference.study_records import ValueAgreement
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    register,
)
from analysis.report.series import SeriesStyle, name_styles
from analysis.report.theme import STYLE, VERMILLION, add_grid, axes
from analysis.response.fit import BestEpsilon
from analysis.verdict import StudyAnalysis
from trainables.theory.logit_bias import solve_epsilon

SweptCell = tuple[CellVerdict, BestEpsilon]


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Best ε against the number of classes; None without a sweep."""
    cells = [(c, c.epsilon_best) for c in analysis.verdict.cells if c.epsilon_best is not None]
    if not cells:
        return None
    curve = _analytic_curve(analysis, [cell.classes for cell, _ in cells])
    styles = name_styles(list(dict.fromkeys(cell.loss for cell, _ in cells)))
    data = "; ".join(f"{c.classes} classes, {c.loss}: {best.value:.1f}" for c, best in cells)
    alt = f"Best ε against classes: {data}"
    svg = writer.save(draw(cells, curve, styles), "classes", alt)
    agreements = analysis.verdict.value_agreement.items()
    return ReportSection(
        intro="The curve is the analytic ε (rule activation). It depends on the number of classes "
        "alone, so that cells with the same number of classes are not separate tests of it; their "
        "intervals (95 %) show whether one ε suits them all.",
        legend=[
            LegendKey("analytic ε", VERMILLION, "horizontal"),
            *(LegendKey(name, s.colour, marker=s.marker) for name, s in styles.items()),
        ],
        figures=[CaptionedFigure(svg)],
        notes=[
            "An open marker lies on the edge of the range: a bound, not a value.",
            *(_agreement(rule, a) for rule, a in agreements if a.bias is not None),
        ],
    )


def _analytic_curve(analysis: StudyAnalysis, classes: Sequence[int]) -> pd.DataFrame:
    """Columns classes, epsilon: the rule `activation` over a range around the study's."""
    target = (analysis.study.config.get("logit_bias") or {}).get("target")
    ends = min(5, *classes), max(1000, 2 * max(classes))
    counts = np.unique(np.geomspace(*ends, 40).astype(int))
    try:
        epsilon = [solve_epsilon(int(count), target) for count in counts]
    except ValueError as error:
        raise LoadError(f"{analysis.study.uri}: study.yaml: logit_bias: {error}") from error
    return pd.DataFrame({"classes": counts, "epsilon": epsilon})


def _agreement(rule: str, a: ValueAgreement) -> str:
    """Bias and limits of agreement of a rule in words."""
    text = f"Best ε minus {rule} ε over {a.cells - a.on_edge - a.flat} cells: {number(a.bias)}"
    if a.bias_low is not None:
        text += (
            f" (95 % interval {number(a.bias_low)} to {number(a.bias_high)}), limits of agreement "
            f"{number(a.limit_low)} to {number(a.limit_high)}"
        )
    return (
        f"{text}; inside the region within the margin in {100 * (a.inside or 0):.0f} % of cells."
        + "".join(f" On the edge: {text}." for text in a.bounds)
    )


def draw(
    cells: Sequence[SweptCell], curve: pd.DataFrame, styles: Mapping[str, SeriesStyle]
) -> Figure:
    """Best ε with its interval against the number of classes, and the analytic curve.

    Args:
        cells: cells with their best ε.
        curve: columns classes, epsilon: the rule `activation`.
        styles: {loss: style}.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 3.0)
        ax.plot(curve["classes"], curve["epsilon"], color=VERMILLION, lw=1.6)
        by_classes: dict[int, list[SweptCell]] = {}
        for cell, best in cells:
            by_classes.setdefault(cell.classes, []).append((cell, best))
        for classes, group in by_classes.items():
            # Side by side on the logarithmic axis, so that intervals do not hide each other.
            shifts = np.linspace(-0.09, 0.09, len(group)) if len(group) > 1 else np.zeros(1)
            for (cell, best), shift in zip(group, shifts, strict=True):
                style, x = styles[cell.loss], classes * 10**shift
                colour, marker = style.colour, style.marker
                ax.plot([x, x], [best.low, best.high], color=colour, lw=1.6)
                face = "none" if best.on_edge else colour
                ax.plot([x], [best.value], marker=marker, ls="", color=colour, mfc=face, ms=6)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        ax.set_xlabel("classes")
        ax.set_ylabel("ε")
        add_grid(ax)
        return figure


PANEL = register(Panel("classes", "Best ε against the number of classes", 50, build))
