"""Panel: the transition matrices of the label noise as drawn."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_FIGURES,
    CaptionedFigure,
    Panel,
    ReportSection,
    register,
)
from analysis.report.theme import BACKGROUND, BLUE, FOREGROUND, STYLE, axes
from analysis.verdict import StudyAnalysis

_MAX_NAMED_CLASSES = 12
_MAX_NAME_LENGTH = 14
_WIDTH = 3.7  # inches


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One figure per data set and noise; None without a record of the noise."""
    if not analysis.transitions:
        return None
    figures = []
    for i, transition in enumerate(analysis.transitions[:MAX_FIGURES]):
        title = f"{transition.dataset} · {transition.noise}"
        largest = ", ".join(
            f"{true} → {label} ({100 * share:.0f} %)" for true, label, share in transition.largest()
        )
        caption = f"{100 * transition.wrong:.1f} % wrong; most often {largest}"
        svg = writer.save(
            draw(transition.matrix, transition.names),
            f"transition-{i + 1}",
            f"Transition matrix of the labels, {title}: {caption}.",
        )
        figures.append(CaptionedFigure(svg, title, [caption]))
    return ReportSection(
        intro="Percentage of the training examples of each true class (row) with each label "
        "(column), for the first confirm seed. The share of wrong labels is averaged over classes.",
        figures=figures,
    )


def draw(matrix: NDArray[np.float64], names: Sequence[str]) -> Figure:
    """A transition matrix: rows are true classes, columns labels, darker for larger shares.

    Args:
        matrix: shares in [0, 1], shape (C, C).
        names: C class names; shown, with percentages, for up to twelve classes.
    """
    classes = len(matrix)
    named = classes <= _MAX_NAMED_CLASSES
    longest = max(map(len, names)) if named else 3
    left = 0.42 + 0.075 * min(longest, _MAX_NAME_LENGTH)  # inches, for names and axis label
    below = 0.5 if longest <= 3 else left
    side = _WIDTH - 0.1 - left
    height = side + below + 0.1
    with matplotlib.rc_context(STYLE):
        figure, ax = axes(_WIDTH, height)
        ax.set_position((left / _WIDTH, below / height, side / _WIDTH, side / height))
        if named:  # vector squares are sharp and follow the page's colours
            for i, j in np.argwhere(matrix >= 0.002):
                share = float(matrix[i, j])
                strength = 0.12 + 0.88 * share
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=BLUE, alpha=strength, lw=0))
                colour = BACKGROUND if share > 0.5 else FOREGROUND
                text = f"{100 * share:.0f}" if share >= 0.005 else ""
                ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
            short = [name[:_MAX_NAME_LENGTH] for name in names]
            ax.set_yticks(range(classes), short)
            ax.set_xticks(range(classes), short, rotation=0 if longest <= 3 else 90)
        else:  # the square root makes rare confusions visible
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


PANEL = register(Panel("transition", "The label noise as drawn", 80, build))
