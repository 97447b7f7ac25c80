"""The report's pictures: which figures, with what caption and what text for those who see none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.data.load import LoadError
from analysis.formatting import number, points
from analysis.inference.records import CellVerdict
from analysis.report import figures, theme
from analysis.response.fit import Response
from analysis.verdict import StudyAnalysis
from study.results.folder import StudyFolder
from trainables.theory.logit_bias import solve_epsilon

MAX_PANELS = 24  # of each kind; the tables hold every cell
MAX_ROWS = 40  # of the forest plot

Panel = dict[str, Any]


class FigureWriter:
    """Turns figures into inline pictures, and into SVG and PDF files where a folder is given.

    Args:
        folder: where `analysis/figures/` is written, or None to write no file.
    """

    def __init__(self, folder: StudyFolder | None) -> None:
        self._folder = folder

    def save(self, figure: Figure, name: str, alt: str) -> str:
        """The figure as an inline `<svg>`; `name` is unique and names the files."""
        document = theme.svg(figure)
        if self._folder is not None:
            paper = theme.fixed(document).encode()
            self._folder.write_bytes(f"analysis/figures/{name}.svg", paper)
            self._folder.write_bytes(f"analysis/figures/{name}.pdf", theme.pdf(figure))
        return theme.inline(document, name, alt)


def response_panels(found: StudyAnalysis, writer: FigureWriter) -> list[Panel]:
    """Accuracy against ε, one a cell that was swept."""
    panels = []
    cells = [c for c in found.verdict.cells if c.cell_id in found.responses]
    for i, cell in enumerate(cells[:MAX_PANELS]):
        response = found.responses[cell.cell_id]
        caption = response_caption(cell)
        alt = _response_alt(cell, response, caption)
        svg = writer.save(figures.response_panel(cell, response), f"response-{i + 1}", alt)
        panels.append({"title": figures.cell_label(cell), "caption": caption, "svg": svg})
    return panels


def learning_panels(found: StudyAnalysis, writer: FigureWriter) -> tuple[list[Panel], list[str]]:
    """Learning curves of the confirm stage, one a cell; and the arms that occur in them."""
    panels, arms = [], set()
    for i, cell in enumerate(found.verdict.cells[:MAX_PANELS]):
        curves = _curves_of(found, cell)
        curves = curves[curves["arm"].isin(list(figures.ARM_STYLE))]
        if curves.empty:
            continue
        arms |= set(curves["arm"])
        title = figures.cell_label(cell)
        last = curves.sort_values("epoch").groupby("arm")["mean"].last()
        ends = ", ".join(
            f"{figures.ARM_STYLE[str(arm)][2]} {100 * v:.0f} %" for arm, v in last.items()
        )
        svg = writer.save(
            figures.learning_panel(curves),
            f"learning-{i + 1}",
            f"Accuracy by epoch, {title}. Last epoch: {ends}.",
        )
        panels.append({"title": title, "svg": svg})
    return panels, [arm for arm in figures.ARM_STYLE if arm in arms]


def forest(found: StudyAnalysis, writer: FigureWriter) -> tuple[str | None, int]:
    """The forest plot, or None without intervals; and how many cells did not fit."""
    cells, labels = [], []
    for cell in found.verdict.cells:
        regret = cell.primary_regret
        if regret is not None and regret.mean is not None and regret.low is not None:
            cells.append(cell)
            labels.append(f"{figures.cell_label(cell)}: {points(regret.mean)}")
    if not cells:
        return None, 0
    alt = "; ".join(labels)
    figure = figures.forest(cells[:MAX_ROWS], found.verdict.pooled)
    return writer.save(figure, "forest", f"Regret by cell: {alt}"), max(0, len(cells) - MAX_ROWS)


def classes_panel(found: StudyAnalysis, writer: FigureWriter) -> Panel | None:
    """Best ε against the number of classes; None where nothing was swept."""
    cells = [c for c in found.verdict.cells if c.epsilon_best]
    if not cells:
        return None
    target = (found.study.config.get("logit_bias") or {}).get("target")
    least, most = min(5, *(c.classes for c in cells)), max(c.classes for c in cells)
    classes = np.unique(np.geomspace(least, max(1000, 2 * most), 40).astype(int))
    try:
        epsilon = [solve_epsilon(int(c), target) for c in classes]
    except ValueError as error:
        raise LoadError(f"{found.study.uri}: study.yaml: logit_bias: {error}") from error
    curve = pd.DataFrame({"classes": classes, "epsilon": epsilon})
    alt = "Best ε against classes: " + "; ".join(
        f"{c.classes} classes, {c.loss}: {c.epsilon_best.value:.1f}"
        for c in cells
        if c.epsilon_best
    )
    losses = list(dict.fromkeys(c.loss for c in cells))
    return {
        "svg": writer.save(figures.classes_figure(cells, curve), "classes", alt),
        "keys": [(name, *style) for name, style in figures.series_of(losses).items()],
    }


def noise_panels(found: StudyAnalysis, writer: FigureWriter) -> list[Panel]:
    """Best ε against the noise rate, one a data set, model, loss and noise kind."""
    panels = []
    for i, slope in enumerate(found.verdict.noise_slopes[:MAX_PANELS]):
        cells = [
            c
            for c in found.verdict.cells
            if c.epsilon_best
            and (c.dataset, c.model, c.loss) == (slope.dataset, slope.model, slope.loss)
            and (c.noise_rate == 0 or c.noise_kind == slope.noise_kind)
        ]
        caption = (
            f"slope {number(slope.slope)} ({number(slope.low)} to {number(slope.high)}) "
            "per unit rate"
        )
        if slope.on_edge:
            caption += "; a best ε lies on the edge"
        if slope.flat:
            caption += "; a curve is flat"
        title = f"{slope.dataset} · {slope.loss} · {slope.noise_kind}"
        svg = writer.save(
            figures.noise_panel(cells),
            f"noise-{i + 1}",
            f"Best ε by noise rate, {title}: {caption}",
        )
        panels.append({"title": title, "caption": caption, "svg": svg})
    return panels


def transition_panels(found: StudyAnalysis, writer: FigureWriter) -> list[Panel]:
    """Transition matrices of the label noise, one a data set and noise."""
    panels = []
    for i, transition in enumerate(found.transitions[:MAX_PANELS]):
        title = f"{transition.dataset} · {transition.noise}"
        most = ", ".join(f"{a} → {b} ({100 * s:.0f} %)" for a, b, s in transition.largest())
        caption = f"{100 * transition.wrong:.1f} % wrong; most often {most}"
        svg = writer.save(
            figures.transition_figure(transition.matrix, transition.names),
            f"transition-{i + 1}",
            f"Transition matrix of the labels, {title}: {caption}.",
        )
        panels.append({"title": title, "caption": caption, "svg": svg})
    return panels


def spread_panel(found: StudyAnalysis, writer: FigureWriter) -> Panel | None:
    """Best ε against the spread of the initial logits; None with a single model."""
    table = found.tables["logit_spread"]
    models = list(dict.fromkeys(table["model"]))
    if len(models) < 2:
        return None
    means = table.groupby("model", sort=False)[["logit_std_init", "off_at_1", "off_at_spread"]]
    words = "; ".join(
        f"{model}: spread {m.logit_std_init:.2f}, best − analytic {number(m.off_at_1)} with the "
        f"usual spread of 1, {number(m.off_at_spread)} with its own"
        for model, m in means.mean().iterrows()
    )
    return {
        "svg": writer.save(figures.spread_figure(table), "spread", words),
        "words": words,
        "keys": [(name, *style) for name, style in figures.series_of(models).items()],
    }


def margin_panel(found: StudyAnalysis, writer: FigureWriter) -> str | None:
    """Verdicts against the margin; None where no cell has an interval."""
    pooled = found.verdict.pooled
    if pooled.regret.high is None:
        return None
    figure = figures.margin_figure(found.tables["margin_curve"], pooled.margin)
    high = points(max(0.0, pooled.regret.high))
    return writer.save(
        figure, "margin", f"Cells by verdict against the margin; pooled agreement above {high}."
    )


def response_caption(cell: CellVerdict) -> list[str]:
    """Two lines under a response panel's title."""
    best, tuned = cell.epsilon_best, cell.epsilon_tuned
    assert best is not None
    if best.flat:
        text = "no best ε: flat, as far as this sweep can tell"
    elif best.on_edge:
        text = f"best ε on the edge of the range, {best.value:.1f}"
    else:
        text = f"best ε {best.value:.2f} ({best.low:.2f} to {best.high:.2f})"
    given = [f"analytic {e:.2f}" for e in cell.epsilon_analytic.values()][:3]
    given += [f"tuned {tuned:.2f}"] if tuned is not None else []
    return [text, " · ".join(given)]


def _curves_of(found: StudyAnalysis, cell: CellVerdict) -> pd.DataFrame:
    """A cell's learning curves, plain cross-entropy's from where its rows are."""
    curves = found.tables["learning_curves"]
    mine = curves[(curves["cell_id"] == cell.cell_id) & (curves["arm"] != "ce")]
    if not cell.reference:
        return mine
    ce = curves[(curves["cell_id"] == cell.reference.cell_id) & (curves["arm"] == "ce")]
    return pd.concat([mine, ce])


def _response_alt(cell: CellVerdict, response: Response, caption: list[str]) -> str:
    p = response.points
    pairs = zip(p["epsilon"], p["mean"], strict=True)
    ends = ", ".join(f"{100 * mean:.0f} % at ε {epsilon:.1f}" for epsilon, mean in pairs)
    return f"Accuracy against ε, {figures.cell_label(cell)}: {ends}. {'; '.join(caption)}."
