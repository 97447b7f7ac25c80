"""Figures: Matplotlib in, SVG out. They draw tidy tables and compute nothing.

A figure exists in two forms: a file with fixed colours (paper), and an inline form whose ink is
`currentColor` and whose data colours are CSS variables, so that the page's light and dark themes
apply. Palette: Okabe & Ito, safe for colour-blind readers; every series differs in shape or dash
too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.ticker as ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.agreement import points
from analysis.response import Response

INK, MUTED = "#010203", "#010204"  # replaced by currentColor in the inline form
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
)
VARIABLES = {
    BLUE: "--blue",
    VERMILLION: "--vermillion",
    GREEN: "--green",
    ORANGE: "--orange",
    PURPLE: "--purple",
    SKY: "--sky",
}
PAPER_INK, PAPER_MUTED = "#111827", "#6b7280"
VERDICT_STYLE = {
    "non_inferior": (GREEN, "o"),
    "inferior": (VERMILLION, "s"),
    "inconclusive": (ORANGE, "D"),
    "insensitive": (MUTED, "x"),
}
ARM_STYLE: dict[str, tuple[str, Any, str]] = {
    "tuned": (GREEN, "-", "tuned ε"),
    "analytic:activation": (VERMILLION, (0, (5, 1.5)), "analytic ε (activation)"),
    "zero": (PURPLE, (0, (1.2, 1.2)), "ε = 0"),
    "ce": (MUTED, (0, (5, 1.5, 1.2, 1.5)), "cross-entropy"),
}
STYLE: Any = {  # Matplotlib types its keys one by one
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "logit-bias",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def response_panel(cell: dict[str, Any], response: Response) -> Figure:
    """Validation accuracy against ε: points, curve with band, best ε's interval, tuned, analytic.

    Args:
        cell: of `verdict.json`.
        response: the cell's fit.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = _axes(3.7, 2.75)
        curve, points, best = response.curve, response.points, response.best
        x = curve["epsilon"]
        ax.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=BLUE, alpha=0.18, lw=0)
        ax.plot(x, 100 * curve["mean"], color=BLUE, lw=1.6)
        ax.plot(points["epsilon"], 100 * points["mean"], "o", color=BLUE, ms=4)
        bottom, top = _limits(100 * points["mean"], cell["accuracy"])
        ax.set_ylim(bottom, top)
        for rule, epsilon in cell["epsilon_analytic"].items():
            main = rule == cell["rule"]
            ax.axvline(epsilon, color=VERMILLION, lw=1.6 if main else 0.8, alpha=1 if main else 0.6)
        if cell["epsilon_tuned"] is not None:
            ax.axvline(cell["epsilon_tuned"], color=GREEN, lw=1.6, ls=(0, (4, 2)))
        level = bottom + 0.05 * (top - bottom)
        ax.plot([best.low, best.high], [level, level], color=INK, lw=3.2, solid_capstyle="butt")
        ax.plot([best.value], [level], "|", color=INK, ms=10, mew=1.6)
        reference = response_reference(cell, response.metric)
        if reference is not None:
            ax.axhline(100 * reference, color=MUTED, lw=1.1, ls=(0, (5, 1.5, 1.2, 1.5)))
        zero = points[points["epsilon"] == 0]
        if len(zero):
            y = 100 * float(zero["mean"].iloc[0])
            ax.plot([0], [y], "o", mfc="none", mec=PURPLE, mew=1.8, ms=9, clip_on=False)
        ax.set_xlabel("ε (logit bias)")
        ax.set_ylabel("accuracy, %")
        _quiet(ax)
        return figure


def response_reference(cell: dict[str, Any], metric: str) -> float | None:
    """Cross-entropy's validation accuracy beside a cell, on the response's own scale."""
    found = (cell.get("reference") or {}).get(metric)
    return None if found is None else float(found)


def forest(cells: Sequence[dict[str, Any]], pooled: dict[str, Any]) -> Figure:
    """Regret of analytic against tuned ε with its interval, a row a cell, and the pooled mean.

    Args:
        cells: of `verdict.json`, those whose primary regret has an interval.
        pooled: the pooled block.
    """
    rows = [
        (cell_label(c), c["regret"][c["rule"]], c["verdict"], VERDICT_STYLE[c["verdict"]])
        for c in cells
    ]
    if pooled["regret"]["low"] is not None and len(rows) > 1:
        label = f"mean over {pooled['sensitive_cells']} cells"
        rows.append((label, pooled["regret"], pooled["verdict"], (INK, "D")))
    margin = 100 * pooled["margin"]
    ends = [100 * r[k] for _, r, _, _ in rows for k in ("low", "high")]
    low, high = min(0.0, *ends), max(margin, *ends)
    pad = 0.04 * (high - low)
    with matplotlib.rc_context(STYLE):
        figure, ax = _axes(4.1, 0.7 + 0.72 * len(rows))
        ax.set_position((0.03, ax.get_position().y0, 0.94, ax.get_position().height))
        for y, (label, r, verdict, (colour, marker)) in enumerate(rows):
            # The two lines stop short of the text above each row.
            ax.plot([0, 0], [y - 0.14, y + 0.14], color=INK, lw=0.9)
            ax.plot([margin] * 2, [y - 0.14, y + 0.14], color=VERMILLION, lw=1.4, ls=(0, (2, 1)))
            ax.plot([100 * r["low"], 100 * r["high"]], [y, y], color=colour, lw=2.2)
            ax.plot([100 * r["mean"]], [y], marker, color=colour, ms=6.5, mew=1.8)
            numbers = f"{points(r['mean'])} ({points(r['low'])} to {points(r['high'])})"
            text = f"{numbers}, {verdict.replace('_', '-')}"
            weight = "bold" if marker == "D" and colour == INK else "normal"
            for line, dy in ((label, 27.5), (text, 15.5)):
                ax.annotate(line, (0, y), (0, dy), xycoords=("axes fraction", "data"),
                            textcoords="offset points", fontsize=9, va="center",
                            color=INK if line == label else MUTED, fontweight=weight)  # fmt: skip
        ax.set_xlim(low - pad, high + pad)
        ax.set_ylim(len(rows) - 0.7, -0.75)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("regret, percentage points of test accuracy")
        ax.xaxis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
        return figure


def learning_panel(curves: pd.DataFrame) -> Figure:
    """Accuracy by epoch, a line an arm with the range over seeds.

    Args:
        curves: columns arm, epoch, mean, low, high (fractions).
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = _axes(3.7, 2.5)
        for arm, (colour, dash, _) in ARM_STYLE.items():
            part = curves[curves["arm"] == arm].sort_values("epoch")
            if part.empty:
                continue
            low, high = 100 * part["low"], 100 * part["high"]
            ax.fill_between(part["epoch"], low, high, color=colour, alpha=0.16, lw=0)
            ax.plot(part["epoch"], 100 * part["mean"], color=colour, ls=dash, lw=1.6)
        ax.set_xlabel("epoch")
        ax.set_ylabel("accuracy, %")
        ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        ax.set_ylim(bottom=0)
        _quiet(ax)
        return figure


def cell_label(cell: dict[str, Any]) -> str:
    """Short title of a cell: what a reader needs to tell it from its neighbours."""
    noise = f"{100 * cell['noise_rate']:g} % {cell['noise_kind']} noise"
    return f"{cell['dataset']} · {cell['loss']} · " + (noise if cell["noise_rate"] else "clean")


def svg(figure: Figure) -> str:
    """The figure as an SVG document, its ink still in sentinel colours; see `fixed`, `inline`."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def fixed(document: str) -> str:
    """An `svg` document with the colours of paper, for a file."""
    return document.replace(INK, PAPER_INK).replace(MUTED, PAPER_MUTED)


def inline(document: str, name: str, alt: str) -> str:
    """An `svg` document as an element for a page: themed, labelled, its ids made unique.

    Args:
        document: from `svg`.
        name: unique in the page; prefixes every id.
        alt: text for those who do not see the picture.
    """
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    text = text.replace(INK, "currentColor").replace(MUTED, "var(--muted)")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    size = box[0] if box else ""
    return f'<svg role="img" aria-label="{label}" {size} xmlns="http://www.w3.org/2000/svg">{body}'


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """One axes in a figure of the given inches, with room for labels on the left and below."""
    figure = Figure(figsize=(width, height))
    left, bottom = 0.56 / width, 0.5 / height
    axes = figure.add_axes((left, bottom, 1 - left - 0.1 / width, 1 - bottom - 0.1 / height))
    return figure, axes


def _quiet(ax: Axes) -> None:
    ax.grid(axis="y", color=MUTED, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)


def _limits(values: pd.Series, accuracy: dict[str, Any]) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = max(0.12 * (high - low), 0.5)
    return max(low - 1.6 * pad, min(0.0, low)), min(high + pad, max(102.0, high))
