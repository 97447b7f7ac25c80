"""Figure that explains the logit bias: the error δ_k(z_k) and the density of initial logits.

If the error is near zero where the density is not, an untrained network receives no error and
cannot start to learn. The logit bias, or the parameter that a rule sets, moves the error to the
initial logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from trainables.theory.distribution import ErrorCurve
from trainables.theory.errors import error_curve, initial_error, parameters_of
from trainables.theory.logit_bias import ANCHOR_CLASSES, ANCHOR_EPSILON
from trainables.theory.logits import GaussianLogits, InitialLogits

BEFORE, AFTER, REFERENCE, DENSITY = "#d55e00", "#0072b2", "#4b5563", "#d1d5db"
_STYLE: Any = {"font.size": 9.5, "svg.fonttype": "none", "svg.hashsalt": "logit-bias"}
_SIGN = {"epsilon": "ε", "alpha": "α", "beta": "β", "gamma": "γ", "tau": "τ", "weight": "π"}


def draw(
    path: str | Path,
    *,
    loss: str,
    classes: int,
    value: float,
    parameter: str = "epsilon",
    logits: InitialLogits | None = None,
    reference_value: float | None = None,
    params: Mapping[str, float] | None = None,
) -> None:
    """Write an SVG of −E[δ_k | z_k] before and after a parameter is set, and of a reference.

    "Before" is ε = 0 or the loss's default. The reference is the loss at 10 classes.

    Args:
        path: the file to write.
        loss: name of a registered loss.
        classes: number of classes.
        value: what the parameter is set to.
        parameter: "epsilon", or a parameter of the loss.
        logits: initial logits; N(0, 1) by default.
        reference_value: the parameter's value in the reference; by default ε = 0.5, or the loss's
            default.
        params: values of the loss's other parameters.

    Raises:
        ValueError: unknown loss or parameter.
    """
    logits = logits or GaussianLogits(classes)
    known_parameters = parameters_of(loss)
    if parameter != "epsilon" and parameter not in known_parameters:
        allowed = ", ".join(["epsilon", *known_parameters])
        raise ValueError(f"loss {loss} has no parameter {parameter}: allowed are {allowed}")
    plain = 0.0 if parameter == "epsilon" else known_parameters[parameter].default
    if reference_value is None:
        reference_value = ANCHOR_EPSILON if parameter == "epsilon" else plain
    fixed = dict(params or {})

    def curve(at: InitialLogits, setting: float) -> tuple[ErrorCurve, float]:
        bound = fixed | {parameter: setting}
        return error_curve(loss, at, **bound), initial_error(loss, at, **bound).overlap

    sign = _SIGN.get(parameter, parameter)
    anchor = GaussianLogits(ANCHOR_CLASSES)
    lines = [
        (*curve(anchor, reference_value), REFERENCE, (0, (4, 2)), ANCHOR_CLASSES, reference_value),
        (*curve(logits, plain), BEFORE, "-", classes, plain),
        (*curve(logits, value), AFTER, "-", classes, value),
    ]
    density = lines[1][0]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        top = max(float(np.nanmax(np.abs(line[0].error))) for line in lines)
        axes.fill_between(
            density.z,
            0.9 * top * density.density / density.density.max(),
            color=DENSITY,
            alpha=0.6,
            linewidth=0,
            label="density of the initial logits $z_k$",
        )
        for line, overlap, colour, dashes, count, setting in lines:
            label = f"{count} classes, {sign} = {setting:.3g} (overlap {100 * overlap:.2g} %)"
            axes.plot(line.z, -line.error, color=colour, linestyle=dashes, label=label)
        axes.set(
            xlabel="logit of the labelled class $z_k$",
            ylabel="mean error $-\\langle\\delta_k\\rangle$",
            title=f"{loss}: the initial error where the initial logits are",
        )
        occupied = density.z[density.density > 1e-6 * density.density.max()]
        axes.set_xlim(float(density.z[0]), max(float(occupied[-1]), math.log(classes) + 3.0))
        axes.set_ylim(bottom=0.0 if np.nanmin(-lines[2][0].error) >= 0 else None)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", fontsize=8.5)
        axes.margins(y=0.35)
        axes.set_ylim(top=1.55 * top)
        figure.savefig(Path(path), format="svg", metadata={"Date": None})
