"""The pictures of the page."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from questions import Findings
from wording import family

from analysis.report import theme

matplotlib.use("svg")


def best_epsilon_figure(findings: Findings) -> Figure:
    """Best ε of MAE against analytic ε: one point per cell, each data set its own marker."""
    with matplotlib.rc_context(theme.STYLE):
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        axes = figure.subplots()
        studies = findings.studies
        every = {c.cell_id: c for study in studies for c in findings.cells(study, loss="mae")}
        cells = [c for c in every.values() if c.epsilon_best and not c.epsilon_best.flat]
        families = list(dict.fromkeys(family(c) for c in cells))
        colours = (theme.BLUE, theme.VERMILLION, theme.GREEN, theme.PURPLE, theme.ORANGE)
        for i, name in enumerate(families):
            for is_noisy in (False, True):
                own = [c for c in cells if family(c) == name and bool(c.noise_rate) == is_noisy]
                if not own:
                    continue
                # Bars of one analytic ε side by side, by their noise.
                x = [c.epsilon_analytic[c.rule or ""] + 0.1 * (c.noise_rate or 0) for c in own]
                tops = [c.epsilon_best for c in own if c.epsilon_best]
                y = np.array([[e.value, e.low, e.high] for e in tops])
                errors = np.abs(y[:, 1:] - y[:, :1]).T
                colour = colours[i % len(colours)]
                axes.errorbar(
                    x,
                    y[:, 0],
                    errors,
                    fmt="os^Dv"[i % 5],
                    color=colour,
                    markerfacecolor=colour if is_noisy else "none",
                    label=f"{name}, {'wrong labels' if is_noisy else 'clean'}",
                    markersize=5,
                    linewidth=0.8,
                    alpha=0.85,
                )
        limits = axes.get_xlim()
        axes.plot(limits, limits, color=theme.MUTED, linestyle="--", linewidth=0.9)
        axes.set_xlim(limits)
        axes.set_xlabel("analytic ε (rule activation)")
        axes.set_ylabel("best ε of the sweep, 95 % interval")
        figure.legend(frameon=False, fontsize=7.5, ncols=3, loc="outside upper center")
    return figure
