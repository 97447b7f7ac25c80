"""Panel: best ε against the spread of the initial logits, for studies with several models."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from analysis.formatting import number
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
from analysis.verdict import StudyAnalysis


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Best ε against the spread of the initial logits; None with a single model."""
    table = analysis.tables["logit_spread"]
    models = list(dict.fromkeys(table["model"]))
    if len(models) < 2:
        return None
    styles = name_styles(models)
    columns = ["logit_std_init", "off_at_1", "off_at_spread"]
    means = table.groupby("model", sort=False)[columns].mean()
    words = "; ".join(
        f"{model}: spread {m.logit_std_init:.2f}, best − analytic ε {number(m.off_at_1)} for a "
        f"spread of 1, {number(m.off_at_spread)} for the measured spread"
        for model, m in means.iterrows()
    )
    svg = writer.save(draw(table, styles), "spread", words)
    return ReportSection(
        intro="Models differ in the spread of their logits at initialisation; the rule "
        "assumes a spread of 1. Filled: best ε minus the ε for a spread of 1, with the 95 % "
        "interval of the best ε. Open: best ε minus the ε for the measured spread (rule "
        "activation-measured). Values nearer to the line are better.",
        legend=[LegendKey(name, s.colour, marker=s.marker) for name, s in styles.items()],
        figures=[CaptionedFigure(svg)],
        notes=[f"{words}. Every cell is in tables/logit_spread.csv."],
    )


def draw(table: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> Figure:
    """Best ε minus analytic ε against the spread of the initial logits.

    Args:
        table: from `analysis.exploratory.logit_spread.logit_spread`.
        styles: {model: style}.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 3.0)
        ax.axhline(0, color=VERMILLION, lw=1.6)
        for row in table.to_dict("records"):
            style = styles[row["model"]]
            colour, marker = style.colour, style.marker
            x, at_one = row["logit_std_init"], row["epsilon_at_1"]
            ends = [row["epsilon_best_low"] - at_one, row["epsilon_best_high"] - at_one]
            ax.plot([x, x], ends, color=colour, lw=1.4)
            ax.plot([x], [row["off_at_1"]], marker=marker, ls="", color=colour, ms=6)
            ax.plot(
                [x], [row["off_at_spread"]], marker=marker, ls="", color=colour, mfc="none", ms=8
            )
        ax.set_xlabel("spread of the initial logits")
        ax.set_ylabel("best ε − analytic ε")
        add_grid(ax)
        return figure


PANEL = register(Panel("spread", "Does the best ε follow depth and architecture?", 70, build))
