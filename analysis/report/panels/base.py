"""A panel of the report: its parts, and the registry of all panels."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.formatting import points
from analysis.report.figure_writer import FigureWriter
from analysis.report.series import SOLID, Dash
from analysis.verdict import StudyAnalysis

MAX_FIGURES = 24  # per panel; the tables contain every cell
MAX_ROWS = 200  # of a table in the page; its CSV file contains all of them


@dataclass(frozen=True)
class LegendKey:
    """One entry of a legend: a sample of a line, a marker, or both.

    Attributes:
        text: what the sample stands for.
        colour: of `analysis.report.theme`.
        line: direction of the line, "horizontal" or "vertical"; None for a marker alone.
        width: of the line, in pixels.
        dash: dash pattern of the line.
        marker: Matplotlib's letter, "|" for a tick, "ring" for an open circle, "dot" for a single
            value, "square" for an area; None without one.
    """

    text: str
    colour: str
    line: str | None = None
    width: float = 2.4
    dash: Dash = SOLID
    marker: str | None = None

    @property
    def svg_dash(self) -> str:
        """The dash pattern as SVG's `stroke-dasharray`, in pixels."""
        return " ".join(f"{1.6 * length:g}" for length in self.dash) or "none"


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure of a section.

    Attributes:
        svg: from `FigureWriter.save` or `FigureWriter.save_variants`.
        title: plain text; None for a section's only figure, which needs none.
        caption: lines of plain text below the title.
    """

    svg: str
    title: str | None = None
    caption: Sequence[str] = ()


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        heading: above the column.
        label: beside each value on a narrow screen, where a table has no headings; by default the
            heading.
        nowrap: values are not broken over lines.
    """

    heading: str
    label: str | None = None
    nowrap: bool = False


@dataclass(frozen=True)
class ReportTable:
    """A table of a section.

    Attributes:
        columns: the first one names the rows.
        rows: plain text, one sequence per row with as many entries as there are columns.
        verdicts: CSS class and tooltip of each row's last entry, where that is a verdict.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[tuple[str, str]] | None = None


@dataclass(frozen=True)
class ReportSection:
    """The content of a panel in one report. All texts are plain; the template escapes them.

    Attributes:
        intro: a paragraph below the title.
        legend: shown above the figures.
        figures: in a grid if they have titles, else large.
        table: below the figures.
        paragraphs: below figures and table.
        notes: in small type at the end.
        folded: only the title is shown until the reader unfolds the section.
    """

    intro: str = ""
    legend: Sequence[LegendKey] = ()
    figures: Sequence[CaptionedFigure] = ()
    table: ReportTable | None = None
    paragraphs: Sequence[str] = ()
    notes: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True)
class Panel:
    """A section that the report may have.

    Attributes:
        name: anchor in the page, and start of the names of its figures' files; a unique word.
        title: heading.
        order: position in the report, ascending and unique.
        build: the section of one study, or None if the study has nothing to show in it.
    """

    name: str
    title: str
    order: int
    build: Callable[[StudyAnalysis, FigureWriter], ReportSection | None]


_PANELS: dict[str, Panel] = {}


def register(panel: Panel) -> Panel:
    """Add a panel to every report.

    Args:
        panel: the panel.

    Returns:
        `panel`.

    Raises:
        ValueError: the name or the position is taken.
    """
    for other in _PANELS.values():
        if panel.name == other.name or panel.order == other.order:
            raise ValueError(
                f"panel {panel.name} at {panel.order}: {other.name} is at {other.order}"
            )
    _PANELS[panel.name] = panel
    return panel


def all_panels() -> list[Panel]:
    """The panels of all modules of this package, and those registered elsewhere, in order."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return sorted(_PANELS.values(), key=lambda panel: panel.order)


def left_out_note(total: int, shown: int, table: str) -> list[str]:
    """A note that names the table with the cells that a section does not show.

    Args:
        total: number of cells.
        shown: number of cells that the section shows.
        table: name of the table.

    Returns:
        the note; no note where all cells are shown.
    """
    return [f"{total - shown} more cells are in tables/{table}.csv."] if total > shown else []


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The first `MAX_ROWS` rows of a table as dictionaries, None for missing values."""
    rows = table[:MAX_ROWS].to_dict("records")
    return [{str(k): None if _is_missing(v) else v for k, v in row.items()} for row in rows]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def with_interval(
    value: float, low: float | None, high: float | None, text: Callable[[float], str] = points
) -> str:
    """A value and its interval, if there is one: `0.81 (0.49 to 1.12)`."""
    if low is None or high is None:
        return text(value)
    return f"{text(value)} ({text(low)} to {text(high)})"
