"""Colours, type, and the two forms of a figure.

A figure exists as a file with fixed colours (paper), and inline in the page, where its ink is
`currentColor` and its data colours are CSS variables, so that light and dark themes apply. Palette:
Okabe & Ito, safe for colour-blind readers; every series differs in shape or dash too.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

INK, MUTED, PAGE = "#010203", "#010204", "#010205"  # replaced by the page's in the inline form
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
PAPER = {INK: "#111827", MUTED: "#6b7280", PAGE: "#ffffff"}
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


def svg(figure: Figure) -> str:
    """The figure as an SVG document, its ink still in sentinel colours; see `fixed`, `inline`."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def fixed(document: str) -> str:
    """An `svg` document with the colours of paper, for a file."""
    for sentinel, colour in PAPER.items():
        document = document.replace(sentinel, colour)
    return document


def css(colour: str) -> str:
    """A palette colour as the page's CSS names it."""
    if colour == INK:
        return "currentColor"
    own = {MUTED: "--muted", PAGE: "--page"}
    return f"var({own[colour] if colour in own else VARIABLES[colour]})"


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
    for colour in (*PAPER, *VARIABLES):
        text = text.replace(colour, css(colour))
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    size = box[0] if box else ""
    return f'<svg role="img" aria-label="{label}" {size} xmlns="http://www.w3.org/2000/svg">{body}'


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF, for a paper; it cannot be turned back into an `svg` afterwards."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_color() == PAGE:
            text.set_color(PAPER[PAGE])
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None})
    return buffer.getvalue()


def axes(width: float, height: float) -> tuple[Figure, Axes]:
    """One axes in a figure of the given inches, with room for labels on the left and below."""
    figure = Figure(figsize=(width, height))
    left, bottom = 0.56 / width, 0.5 / height
    axes = figure.add_axes((left, bottom, 1 - left - 0.1 / width, 1 - bottom - 0.1 / height))
    return figure, axes


def add_grid(ax: Axes) -> None:
    """Faint horizontal lines behind the data."""
    ax.grid(axis="y", color=MUTED, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
