"""How are effects drawn? One row per effect: mean, interval, single values, words (forest plot).

Every plot exists in two variants. The wide one has two columns of text left of the axis, for a
large screen and paper; the narrow one has the text of a row above its interval, for a phone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.report.figure_writer import FigureWriter
from analysis.report.series import SeriesStyle
from analysis.report.theme import FOREGROUND, MUTED, STYLE, VERMILLION

WIDE, NARROW = 9.5, 4.1  # inches
_POINTS = 72.0  # per inch
_CHARACTER, _LINE = 4.5, 12.0  # points, at the font size of a row
_FONT_SIZE = 9.0
_TITLE_CHARACTERS = {True: 52, False: 56}  # per line, in the wide and the narrow variant
_BELOW = 38.0  # points, for the axis
_DOT_LEVELS = (0.0, -1.0, 1.0)  # dots of one row lie on three levels, so that equal ones show


@dataclass(frozen=True)
class ForestRow:
    """One effect.

    Attributes:
        title: what the effect is of.
        mean: in the unit of the axis; None draws no mark.
        ends: of the interval; None without one.
        result: mean and interval in words.
        style: of mark and interval.
        word: conclusion in one word; empty without one.
        remark: one line below the title; empty without one.
        dots: single values behind the interval.
        is_filled: whether the mark is filled.
        is_mean: whether the row is the mean of the others.
    """

    title: str
    mean: float | None
    ends: tuple[float, float] | None
    result: str
    style: SeriesStyle
    word: str = ""
    remark: str = ""
    dots: Sequence[float] = ()
    is_filled: bool = True
    is_mean: bool = False


@dataclass(frozen=True)
class ForestAxis:
    """The horizontal axis.

    Attributes:
        label: with the unit.
        references: values with a vertical line, solid; 0 is one of them in most plots.
        margin: value with a dashed line; None without one.
        bounds: what the axis never exceeds; None for no such limit.
    """

    label: str
    references: Sequence[float] = (0.0,)
    margin: float | None = None
    bounds: tuple[float, float] | None = None


def save(
    writer: FigureWriter, rows: Sequence[ForestRow], axis: ForestAxis, name: str, subject: str
) -> str:
    """Draw both variants and save them, with a text that says the same.

    Args:
        writer: of the report.
        rows: one per effect.
        axis: of both variants.
        name: of the files.
        subject: what the rows show; the text begins with it.

    Returns:
        what `FigureWriter.save_variants` returns.
    """
    alt = f"{subject}: " + "; ".join(f"{r.title}: {r.result}, {r.word}".rstrip(", ") for r in rows)
    return writer.save_variants(draw(rows, axis, True), draw(rows, axis, False), name, alt)


def draw(rows: Sequence[ForestRow], axis: ForestAxis, wide: bool) -> Figure:
    """A forest plot.

    Args:
        rows: from the top.
        axis: what the values are.
        wide: which variant.
    """
    width = WIDE if wide else NARROW
    texts = [_lines(row, wide) for row in rows]
    around = 14.0 if wide else 30.0  # points
    heights = [max(len(lines), 2) * _LINE + around for lines in texts]
    height = sum(heights) + _BELOW + 4.0
    left = _text_width(rows, texts) if wide else 0.03 * _POINTS * width
    right = 0.015 if wide else 0.03
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height / _POINTS))
        start, bottom = left / (_POINTS * width), _BELOW / height
        ax = figure.add_axes((start, bottom, 1 - start - right, 1 - bottom - 4.0 / height))
        ax.set_xlim(_limits(rows, axis))
        ax.set_ylim(sum(heights), 0)  # in points, downwards
        top = 0.0
        for row, lines, row_height in zip(rows, texts, heights, strict=True):
            y = top + row_height / 2 if wide else top + len(lines) * _LINE + 15.0
            _draw_row(ax, row, axis, y, (row_height - 3.0) / 2 if wide else 9.0)
            if wide:
                _write_columns(ax, row, lines, y, left, _result_width(rows))
            else:
                _write_above(ax, row, lines, top)
            if wide and top:
                line_start = -start / (1 - start - right)
                ax.plot(
                    [line_start, 1], [top, top], transform=ax.get_yaxis_transform(),
                    color=MUTED, alpha=0.3, lw=0.6, clip_on=False,
                )  # fmt: skip
            top += row_height
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(axis.label)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(9 if wide else 5, steps=[1, 2, 5, 10]))
        return figure


def _draw_row(ax: Axes, row: ForestRow, axis: ForestAxis, y: float, reach: float) -> None:
    """References, dots, interval and mark."""
    low, high = ax.get_xlim()
    for value in axis.references:
        ax.plot([value, value], [y - reach, y + reach], color=FOREGROUND, lw=0.9)
    if axis.margin is not None:
        ends = [y - reach, y + reach]
        ax.plot([axis.margin] * 2, ends, color=VERMILLION, lw=1.4, ls=(0, (2, 1)))
    colour = row.style.colour
    for i, dot in enumerate(row.dots):
        level = y + 2.8 * _DOT_LEVELS[i % len(_DOT_LEVELS)]
        outside = "<" if dot < low else ">" if dot > high else None
        ax.plot(
            [min(max(dot, low), high)], [level], outside or "o", color=colour, alpha=0.45,
            ms=4.5 if outside else 4.0, mew=0, clip_on=False,
        )  # fmt: skip
    if row.ends is not None:
        shown = [min(max(end, low), high) for end in row.ends]
        ax.plot(shown, [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        for end, is_outside, marker in (
            (low, row.ends[0] < low, "<"),
            (high, row.ends[1] > high, ">"),
        ):
            if is_outside:
                ax.plot([end], [y], marker, color=colour, ms=6, clip_on=False)
    if row.mean is not None and low <= row.mean <= high:
        face = colour if row.is_filled else "none"
        ax.plot(
            [row.mean], [y], marker=row.style.marker, ls="", color=colour, mfc=face, ms=7, mew=1.6
        )


def _lines(row: ForestRow, wide: bool) -> list[str]:
    """Title and remark, broken into lines."""
    width = _TITLE_CHARACTERS[wide]
    lines = textwrap.wrap(row.title, width) or [""]
    if not wide:
        lines.append(", ".join(text for text in (row.result, row.word) if text))
    return lines + (textwrap.wrap(row.remark, width) if row.remark else [])


def _title_lines(row: ForestRow, wide: bool) -> int:
    return len(textwrap.wrap(row.title, _TITLE_CHARACTERS[wide]) or [""])


def _result_width(rows: Sequence[ForestRow]) -> float:
    """Width of the column with the results, in points."""
    return _CHARACTER * max(max(len(row.result), len(row.word)) for row in rows) + 14


def _text_width(rows: Sequence[ForestRow], texts: Sequence[Sequence[str]]) -> float:
    """Width of both columns of text, in points."""
    longest = max(len(line) for lines in texts for line in lines)
    return _CHARACTER * longest + 14 + _result_width(rows)


def _write_columns(
    ax: Axes, row: ForestRow, lines: Sequence[str], y: float, left: float, result_width: float
) -> None:
    """Title and remark, and beside them the result and its word."""
    titles = _title_lines(row, wide=True)
    columns = [
        (-left, [(text, FOREGROUND if i < titles else MUTED) for i, text in enumerate(lines)]),
        (-result_width, [(row.result, FOREGROUND), (row.word, row.style.colour)]),
    ]
    for x, column in columns:
        shown = [(text, colour) for text, colour in column if text]
        for i, (text, colour) in enumerate(shown):
            offset = _LINE * ((len(shown) - 1) / 2 - i)
            _write(ax, text, y, (x, offset), colour, row.is_mean and colour != MUTED)


def _write_above(ax: Axes, row: ForestRow, lines: Sequence[str], top: float) -> None:
    titles = _title_lines(row, wide=False)
    for i, text in enumerate(lines):
        colour = FOREGROUND if i < titles else MUTED
        is_bold = row.is_mean and colour != MUTED
        _write(ax, text, top, (0, -_LINE * (i + 0.8)), colour, is_bold)


def _write(
    ax: Axes, text: str, y: float, offset: tuple[float, float], colour: str, is_bold: bool
) -> None:
    ax.annotate(
        text, (0, y), offset, xycoords=("axes fraction", "data"), textcoords="offset points",
        fontsize=_FONT_SIZE, va="center", color=colour,
        fontweight="bold" if is_bold else "normal", annotation_clip=False,
    )  # fmt: skip


def _limits(rows: Sequence[ForestRow], axis: ForestAxis) -> tuple[float, float]:
    """Ends of the axis: all intervals, and dots that are not too far from them."""
    values = [*axis.references, *([] if axis.margin is None else [axis.margin])]
    for row in rows:
        values += [] if row.mean is None else [row.mean]
        values += row.ends or ()
    low, high = min(values), max(values)
    dots = [dot for row in rows for dot in row.dots]
    span = high - low
    low, high = max(min([low, *dots]), low - span), min(max([high, *dots]), high + span)
    if axis.bounds is not None:
        low, high = max(low, axis.bounds[0]), min(high, axis.bounds[1])
    pad = 0.03 * (high - low)
    return low - pad, high + pad
