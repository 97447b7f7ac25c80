"""Panel: how fast each arm learns, and how many wrong labels it memorises, against ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.formatting import MISSING, points
from analysis.inference.cell_records import CellVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    CaptionedFigure,
    LegendKey,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    left_out_note,
    register,
    table_rows,
)
from analysis.report.series import SeriesStyle, arm_markers, cell_titles
from analysis.report.theme import MUTED, STYLE, add_grid
from analysis.verdict import StudyAnalysis
from study.results.arms import CE, Arm
from study.results.schema import Stage

_MEASURES = {  # name: (label, factor)
    "epochs_to_90": ("epochs to 90 %", 1.0),
    "vanishing_first": ("vanishing, %", 100.0),
    "memorised": ("memorised, %", 100.0),
}
_COLUMNS = (
    TableColumn("cell"),
    TableColumn("arm"),
    TableColumn("ε"),
    TableColumn("epochs to 90 % of the last", "epochs to 90 %"),
    TableColumn("vanishing, first epoch, %", "vanishing, first"),
    TableColumn("vanishing, last epoch, %", "vanishing, last"),
    TableColumn("best minus last epoch, points", "best minus last"),
    TableColumn("wrong labels memorised, %", "memorised, %"),
    TableColumn("networks"),
)
_SCALED = ("vanishing_first", "vanishing_last")


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One figure per cell; None without sweep and confirm stage."""
    cells, titles = analysis.verdict.cells, cell_titles(analysis.verdict.cells)
    table, responses = analysis.tables["dynamics"], analysis.tables["response_points"]
    arms = _arms(table[table["stage"] == Stage.CONFIRM])
    styles = arm_markers(arms["arm"].unique(), next((c.rule for c in cells if c.rule), None))
    drawn = []
    for cell in cells:
        of_cell = _arms_of(arms, cell)
        sweep = _sweep_of(table, responses, cell.cell_id)
        if len(of_cell) or len(sweep):
            drawn.append((cell, of_cell, sweep))
    if not drawn:
        return None
    figures = []
    for i, (cell, of_cell, sweep) in enumerate(drawn[:MAX_FIGURES]):
        title = titles[cell.cell_id]
        svg = writer.save(draw(of_cell, sweep, styles), f"dynamics-{i + 1}", _alt(title, of_cell))
        figures.append(CaptionedFigure(svg, title))
    return ReportSection(
        intro="Dots: the sweep, at the best learning rate of each ε. Marks: the arms of the "
        "confirm stage, each at its ε. Epochs to 90 %: until the network has 90 % of its last "
        "accuracy. Vanishing: share of training examples in the first epoch whose gradient is "
        "below 1 % of its largest possible value; such examples cannot start to learn. Memorised: "
        "share of wrong training labels that the network reproduces, minus the share that it "
        "corrects.",
        legend=[
            LegendKey("sweep", MUTED, "horizontal", 1.6, marker="o"),
            *(LegendKey(_label(arm), s.colour, marker=s.marker) for arm, s in styles.items()),
        ],
        figures=figures,
        notes=[
            "Exploratory: no verdict depends on it. Tuned ε is the mean over what the searches "
            "chose.",
            *left_out_note(len(drawn), len(figures), "dynamics"),
        ],
    )


def build_table(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell and arm; None without a confirm stage."""
    cells, titles = analysis.verdict.cells, cell_titles(analysis.verdict.cells)
    table = analysis.tables["dynamics"]
    arms = _arms(table[table["stage"] == Stage.CONFIRM])
    rows = [
        _row(titles[cell.cell_id], row)
        for cell in cells[:MAX_FIGURES]
        for row in table_rows(_arms_of(arms, cell))
    ]
    if not rows:
        return None
    note = "Every cell, replicate and learning rate is in tables/dynamics.csv."
    return ReportSection(table=ReportTable(_COLUMNS, rows), notes=[note], folded=True)


def _label(arm: str) -> str:
    return Arm.of_row(arm).label


def _arms(confirm: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and arm: on the common seeds, or else the mean over replicates."""
    confirm = confirm.dropna(subset=["arm"])
    common = confirm["replicate"].isna()
    groups = [confirm["cell_id"], confirm["arm"]]
    kept = confirm[common | ~common.groupby(groups).transform("any").astype(bool)]
    measures = ["epsilon", *_MEASURES, "vanishing_last", "best_minus_last"]
    weighted = kept[measures].mul(kept["n"], axis=0)
    known = kept[measures].notna().mul(kept["n"], axis=0)
    keys = [kept["cell_id"], kept["arm"]]
    means = weighted.groupby(keys).sum() / known.groupby(keys).sum().replace(0, np.nan)
    return means.assign(n=kept["n"].groupby(keys).sum()).reset_index()


def _arms_of(arms: pd.DataFrame, cell: CellVerdict) -> pd.DataFrame:
    """A cell's arms, with plain cross-entropy from its reference cell."""
    rows = arms[(arms["cell_id"] == cell.cell_id) & (arms["arm"] != CE)]
    if cell.reference is None:
        return rows
    reference = arms[(arms["cell_id"] == cell.reference.cell_id) & (arms["arm"] == CE)]
    return pd.concat([rows, reference])


def _sweep_of(table: pd.DataFrame, response: pd.DataFrame, cell_id: str) -> pd.DataFrame:
    """The sweep of a cell at the learning rate that the response has at each ε."""
    sweep = table[(table["stage"] == Stage.SWEEP) & (table["cell_id"] == cell_id)]
    chosen = response.loc[response["cell_id"] == cell_id, ["epsilon", "lr"]]
    if chosen.empty:
        return sweep[:0]
    return sweep.merge(chosen, on=["epsilon", "lr"]).sort_values("epsilon")


def _alt(title: str, arms: pd.DataFrame) -> str:
    texts = [
        f"{_label(str(row['arm']))} {row['epochs_to_90']:.1f} epochs to 90 %"
        for row in arms.to_dict("records")
    ]
    return f"Learning dynamics against ε, {title}. {', '.join(texts)}."


def draw(arms: pd.DataFrame, sweep: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> Figure:
    """Three measures against ε, below each other; two where no label is wrong.

    Args:
        arms: columns arm, epsilon and the measures.
        sweep: columns epsilon and the measures, sorted by ε.
        styles: {arm: style with a marker}.
    """
    shown = [name for name in _MEASURES if arms[name].notna().any() or sweep[name].notna().any()]
    width, each, below, top = 3.7, 1.25, 0.5, 0.08
    height = below + top + each * len(shown)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        for i, name in enumerate(shown):
            bottom = below + each * (len(shown) - 1 - i)
            ax = figure.add_axes(
                (0.56 / width, bottom / height, 1 - 0.66 / width, (each - 0.14) / height)
            )
            _draw_measure(ax, name, arms, sweep, styles)
            is_last = i == len(shown) - 1
            ax.tick_params(labelbottom=is_last)
            if is_last:
                ax.set_xlabel("ε (logit bias)")
        _share_axis(figure.axes)
        return figure


def _draw_measure(
    ax: Axes,
    name: str,
    arms: pd.DataFrame,
    sweep: pd.DataFrame,
    styles: Mapping[str, SeriesStyle],
) -> None:
    label, factor = _MEASURES[name]
    ax.plot(sweep["epsilon"], factor * sweep[name], "-o", color=MUTED, lw=1.2, ms=3)
    for row in arms.to_dict("records"):
        style = styles[str(row["arm"])]
        ax.plot(
            [row["epsilon"]], [factor * row[name]], marker=style.marker, ls="", color=style.colour,
            ms=6.5, mew=1.6, alpha=0.85, clip_on=False,
        )  # fmt: skip
    ax.set_ylabel(label)
    ax.margins(y=0.12)
    ax.yaxis.set_major_locator(ticker.MaxNLocator(4))
    add_grid(ax)


def _share_axis(axes: Sequence[Axes]) -> None:
    low = min((ax.get_xlim()[0] for ax in axes), default=0.0)
    high = max((ax.get_xlim()[1] for ax in axes), default=1.0)
    for ax in axes:
        ax.set_xlim(low, high)


def _row(title: str, arm: dict[str, Any]) -> list[str]:
    epochs, lost = arm["epochs_to_90"], arm["best_minus_last"]
    return [
        title,
        _label(arm["arm"]),
        f"{arm['epsilon']:.2f}",
        MISSING if epochs is None else f"{epochs:.1f}",
        *(_percent(arm[name]) for name in _SCALED),
        MISSING if lost is None else points(lost),
        _percent(arm["memorised"]),
        str(int(arm["n"])),
    ]


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.0f}".replace("-", "−")


PANEL = register(Panel("dynamics", "How each arm learns, against ε", 95, build))
TABLE = register(Panel("dynamics-table", "How each arm learns, in numbers", 140, build_table))
