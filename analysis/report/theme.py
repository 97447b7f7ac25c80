"""Colours and fonts of figures, in files and in the page.

A figure is written to files with fixed colours (for paper), and inline into the page, where its
foreground is `currentColor` and its data colours are CSS variables, so that light and dark themes
apply. The palette is that of Okabe & Ito, whose colours colour-blind readers can distinguish; every
series also has its own marker or dash pattern.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# Sentinels: figures are drawn with them, and `paper_svg` or `inline_svg` replaces them.
FOREGROUND, MUTED, BACKGROUND = "#010203", "#010204", "#010205"
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
)
_PAPER_COLOURS = {FOREGROUND: "#111827", MUTED: "#6b7280", BACKGROUND: "#ffffff"}
_CSS_COLOURS = {
    FOREGROUND: "currentColor",
    MUTED: "var(--muted)",
    BACKGROUND: "var(--background)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
    PURPLE: "var(--purple)",
    SKY: "var(--sky)",
}
STYLE: Any = {  # Any: Matplotlib's stubs list every key as a literal
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "logit-bias",
    "text.color": FOREGROUND,
    "text.parse_math": False,  # names from a study may contain dollar signs
    "axes.labelcolor": FOREGROUND,
    "axes.edgecolor": MUTED,
    "xtick.color": FOREGROUND,
    "ytick.color": FOREGROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def svg(figure: Figure) -> str:
    """The figure as an SVG document in sentinel colours, for `paper_svg` and `inline_svg`."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def paper_svg(document: str) -> str:
    """An `svg` document with fixed colours, for a file."""
    for sentinel, colour in _PAPER_COLOURS.items():
        document = document.replace(sentinel, colour)
    return document


def css(colour: str) -> str:
    """The CSS value of a colour of this module."""
    return _CSS_COLOURS[colour]


def inline_svg(document: str, name: str, alt: str) -> str:
    """An `svg` document as an element of a page: themed, described, with unique ids.

    Args:
        document: from `svg`.
        name: unique in the page; prefixes every id.
        alt: description for readers who do not see the figure; plain text.

    Returns:
        an `<svg>` element.
    """
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    for colour, value in _CSS_COLOURS.items():
        text = text.replace(colour, value)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    head, body = text.split(">", 1)
    match = re.search(r'viewBox="[^"]*"', head)
    box = match[0] if match else ""
    label = html.escape(alt)
    return f'<svg role="img" aria-label="{label}" {box} xmlns="http://www.w3.org/2000/svg">{body}'


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF, for a paper.

    It changes the figure's colours, so call `svg` before.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_color() == BACKGROUND:
            text.set_color(_PAPER_COLOURS[BACKGROUND])
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None})
    return buffer.getvalue()


def axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axes, and space for labels on the left and below.

    Args:
        width: in inches.
        height: in inches.
    """
    figure = Figure(figsize=(width, height))
    left, bottom = 0.56 / width, 0.5 / height
    axes = figure.add_axes((left, bottom, 1 - left - 0.1 / width, 1 - bottom - 0.1 / height))
    return figure, axes


def add_grid(ax: Axes) -> None:
    """Add faint horizontal lines behind the data."""
    ax.grid(axis="y", color=MUTED, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
