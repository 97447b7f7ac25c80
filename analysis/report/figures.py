"""Figures: tidy tables in, Matplotlib figures out. They compute nothing; `ink` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker as ticker
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.formatting import points
from analysis.inference.records import CellVerdict, Interval, PooledVerdict, Verdict
from analysis.report.theme import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    STYLE,
    VERMILLION,
    add_grid,
    axes,
)
from analysis.response.fit import Response

VERDICT_STYLE = {
    Verdict.NON_INFERIOR: (GREEN, "o"),
    Verdict.INFERIOR: (VERMILLION, "s"),
    Verdict.INCONCLUSIVE: (ORANGE, "D"),
    Verdict.INSENSITIVE: (MUTED, "x"),
}
ARM_STYLE: dict[str, tuple[str, Any, str]] = {
    "tuned": (GREEN, "-", "tuned ε"),
    "analytic:activation": (VERMILLION, (0, (5, 1.5)), "analytic ε (activation)"),
    "zero": (PURPLE, (0, (1.2, 1.2)), "ε = 0"),
    "rescale": (SKY, (0, (3, 1, 1, 1, 1, 1)), "rescaled loss"),
    "ce": (MUTED, (0, (5, 1.5, 1.2, 1.5)), "cross-entropy"),
}


def response_panel(cell: CellVerdict, response: Response) -> Figure:
    """Validation accuracy against ε: points, curve with band, best ε's interval, tuned, analytic.

    Args:
        cell: of `verdict.json`.
        response: the cell's fit.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, 2.75)
        curve, points, best = response.curve, response.points, response.best
        x = curve["epsilon"]
        ax.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=BLUE, alpha=0.18, lw=0)
        ax.plot(x, 100 * curve["middle"], color=BLUE, lw=1.6)
        ax.plot(points["epsilon"], 100 * points["mean"], "o", color=BLUE, ms=4)
        bottom, top = _limits(100 * points["mean"], cell.accuracy)
        ax.set_ylim(bottom, top)
        for rule, epsilon in cell.epsilon_analytic.items():
            main = rule == cell.rule
            ax.axvline(epsilon, color=VERMILLION, lw=1.6 if main else 0.8, alpha=1 if main else 0.6)
        if cell.epsilon_tuned is not None:
            ax.axvline(cell.epsilon_tuned, color=GREEN, lw=1.6, ls=(0, (4, 2)))
        level = bottom + 0.05 * (top - bottom)
        ax.plot([best.low, best.high], [level, level], color=INK, lw=3.2, solid_capstyle="butt")
        if not best.flat:
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
        add_grid(ax)
        return figure


def response_reference(cell: CellVerdict, metric: str) -> float | None:
    """Cross-entropy's validation accuracy beside a cell, on the response's own scale."""
    return None if cell.reference is None else cell.reference.accuracy(metric)


def forest(cells: Sequence[CellVerdict], pooled: PooledVerdict) -> Figure:
    """Regret of analytic against tuned ε with its interval, a row a cell, and the pooled mean.

    Args:
        cells: of `verdict.json`, those whose primary regret has an interval.
        pooled: the pooled block.
    """
    rows: list[tuple[str, Interval, Verdict, tuple[str, str]]] = [
        (cell_label(c), c.primary_regret, c.verdict, VERDICT_STYLE[c.verdict])
        for c in cells
        if c.primary_regret is not None
    ]
    if pooled.regret.low is not None and len(rows) > 1:
        label = f"mean over {pooled.sensitive_cells} cells"
        rows.append((label, pooled.regret, pooled.verdict, (INK, "D")))
    margin = 100 * pooled.margin
    ends = [100 * end for _, r, _, _ in rows for end in r.ends or ()]
    low, high = min(0.0, *ends), max(margin, *ends)
    pad = 0.04 * (high - low)
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 0.7 + 0.72 * len(rows))
        ax.set_position((0.03, ax.get_position().y0, 0.94, ax.get_position().height))
        for y, (label, r, verdict, (colour, marker)) in enumerate(rows):
            # The two lines stop short of the text above each row.
            ax.plot([0, 0], [y - 0.14, y + 0.14], color=INK, lw=0.9)
            ax.plot([margin] * 2, [y - 0.14, y + 0.14], color=VERMILLION, lw=1.4, ls=(0, (2, 1)))
            assert r.mean is not None
            assert r.low is not None
            assert r.high is not None
            ax.plot([100 * r.low, 100 * r.high], [y, y], color=colour, lw=2.2)
            ax.plot([100 * r.mean], [y], marker, color=colour, ms=6.5, mew=1.8)
            numbers = f"{points(r.mean)} ({points(r.low)} to {points(r.high)})"
            text = f"{numbers}, {verdict.word}"
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
        figure, ax = axes(3.7, 2.5)
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
        add_grid(ax)
        return figure


def cell_label(cell: CellVerdict) -> str:
    """Short title of a cell: what a reader needs to tell it from its neighbours."""
    noise = f"{100 * cell.noise_rate:g} % {cell.noise_kind} noise"
    return f"{cell.dataset} · {cell.loss} · " + (noise if cell.noise_rate else "clean")


def _limits(values: pd.Series, accuracy: Mapping[str, Interval]) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = max(0.12 * (high - low), 0.5)
    return max(low - 1.6 * pad, min(0.0, low)), min(high + pad, max(102.0, high))


SERIES = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (VERMILLION, "v"), (SKY, "P")]


def series_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name, in order; the palette repeats after six."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}


def classes_figure(cells: Sequence[CellVerdict], curve: pd.DataFrame) -> Figure:
    """Best ε with its interval against the number of classes, and the analytic curve.

    Args:
        cells: of `verdict.json`, those with a best ε.
        curve: columns classes, epsilon: the rule `activation`.
    """
    style = series_of(list(dict.fromkeys(c.loss for c in cells)))
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 3.0)
        ax.plot(curve["classes"], curve["epsilon"], color=VERMILLION, lw=1.6)
        by_classes: dict[int, list[CellVerdict]] = {}
        for cell in cells:
            by_classes.setdefault(cell.classes, []).append(cell)
        for classes, mine in by_classes.items():
            # Side by side on the logarithmic axis, so that intervals do not hide each other.
            shifts = np.linspace(-0.09, 0.09, len(mine)) if len(mine) > 1 else np.zeros(1)
            for cell, shift in zip(mine, shifts, strict=True):
                best, (colour, marker) = cell.epsilon_best, style[cell.loss]
                if best is None:
                    continue
                x = classes * 10**shift
                ax.plot([x, x], [best.low, best.high], color=colour, lw=1.6)
                face = "none" if best.on_edge else colour
                ax.plot([x], [best.value], marker, color=colour, mfc=face, ms=6)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        ax.set_xlabel("classes")
        ax.set_ylabel("ε")
        add_grid(ax)
        return figure


def noise_panel(cells: Sequence[CellVerdict]) -> Figure:
    """Best ε with its interval against the noise rate, and the analytic ε.

    Args:
        cells: of one data set, model, loss and noise kind, each with a best ε.
    """
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, 2.4)
        for cell in cells:
            best, x = cell.epsilon_best, 100 * cell.noise_rate
            if best is None:
                continue
            face = "none" if best.on_edge else BLUE
            ax.plot([x, x], [best.low, best.high], color=BLUE, lw=2)
            ax.plot([x], [best.value], "o", color=BLUE, mfc=face, ms=6)
        analytic = cells[0].primary_epsilon
        if analytic is not None:
            ax.axhline(analytic, color=VERMILLION, lw=1.6)
        ax.set_xlabel("wrong labels, %")
        ax.set_ylabel("best ε")
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        add_grid(ax)
        return figure


def transition_figure(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """A transition matrix: rows true classes, columns labels, darker where more are.

    Args:
        matrix: (C, C) shares in [0, 1].
        names: C class names; shown, with percentages, for up to twelve classes.
    """
    classes = len(matrix)
    few = classes <= 12
    longest = max(map(len, names)) if few else 3
    left = 0.42 + 0.075 * min(longest, 14)  # inches, for names and axis label
    below = 0.5 if longest <= 3 else left
    side = 3.6 - left
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(3.7, side + below + 0.1)
        height = side + below + 0.1
        ax.set_position((left / 3.7, below / height, side / 3.7, side / height))
        if few:  # squares stay sharp, and follow the page's colours
            for i, j in np.argwhere(matrix >= 0.002):
                share = float(matrix[i, j])
                strength = 0.12 + 0.88 * share
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=BLUE, alpha=strength, lw=0))
                ink = PAGE if share > 0.5 else INK
                text = f"{100 * share:.0f}" if share >= 0.005 else ""
                ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=8)
            ax.set_yticks(range(classes), [name[:14] for name in names])
            turn = 0 if longest <= 3 else 90
            ax.set_xticks(range(classes), [name[:14] for name in names], rotation=turn)
        else:  # rare confusions are drawn stronger than they are, or nobody would see them
            image = np.empty((classes, classes, 4))
            image[..., :3] = to_rgb(BLUE)
            image[..., 3] = np.sqrt(matrix)
            ax.imshow(image, interpolation="nearest", aspect="auto")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        ax.set_xlim(-0.5, classes - 0.5)
        ax.set_ylim(classes - 0.5, -0.5)
        ax.tick_params(length=0)
        ax.set_xlabel("label")
        ax.set_ylabel("true class")
        return figure


def spread_figure(table: pd.DataFrame) -> Figure:
    """Best ε minus analytic ε against the spread of the initial logits, a colour a model.

    Args:
        table: from `spread.logit_spread`.
    """
    style = series_of(list(dict.fromkeys(table["model"])))
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 3.0)
        ax.axhline(0, color=VERMILLION, lw=1.6)
        for row in table.to_dict("records"):
            colour, marker = style[row["model"]]
            x, usual = row["logit_std_init"], row["epsilon_at_1"]
            ends = [row["epsilon_best_low"] - usual, row["epsilon_best_high"] - usual]
            ax.plot([x, x], ends, color=colour, lw=1.4)
            ax.plot([x], [row["off_at_1"]], marker, color=colour, ms=6)
            ax.plot([x], [row["off_at_spread"]], marker, color=colour, mfc="none", ms=8)
        ax.set_xlabel("spread of the initial logits")
        ax.set_ylabel("best ε − analytic ε")
        add_grid(ax)
        return figure


def margin_figure(curve: pd.DataFrame, margin: float) -> Figure:
    """Number of cells by verdict against the margin δ.

    Args:
        curve: from `pooling.margin_curve`.
        margin: the study's own δ.
    """
    dashes: Mapping[Verdict, Any] = {
        Verdict.NON_INFERIOR: "-",
        Verdict.INFERIOR: (0, (5, 1.5)),
        Verdict.INCONCLUSIVE: (0, (1.2, 1.2)),
        Verdict.INSENSITIVE: (0, (5, 1.5, 1.2, 1.5)),
    }
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(4.1, 2.6)
        for verdict, (colour, _) in VERDICT_STYLE.items():
            cells = curve[verdict.value]
            if cells.any():
                x = 100 * curve["margin"]
                ax.step(x, cells, where="post", color=colour, ls=dashes[verdict], lw=1.8)
        ax.axvline(100 * margin, color=INK, lw=0.9)
        ax.set_xlabel("margin δ, percentage points")
        ax.set_ylabel("cells")
        ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        ax.set_ylim(bottom=0)
        add_grid(ax)
        return figure
