"""Styles of verdicts, arms and names in figures, and titles of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Verdict
from analysis.report.theme import (
    BLUE,
    FOREGROUND,
    GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
)
from study.results.arms import ANALYTIC, ARM_KINDS, BEST, CE, TUNED, ZERO, Arm
from trainables.theory.rules import RULES

Dash = tuple[float, ...]
"""Lengths of dashes and gaps in units of the line width; empty for a solid line."""

SOLID: Dash = ()
DASHED: Dash = (5, 1.5)
DOTTED: Dash = (1.2, 1.2)
DASH_DOT: Dash = (5, 1.5, 1.2, 1.5)


@dataclass(frozen=True)
class SeriesStyle:
    """How a series is drawn.

    Attributes:
        colour: of `analysis.report.theme`.
        marker: Matplotlib's letter, or None.
        dash: pattern of the line.
    """

    colour: str
    marker: str | None = None
    dash: Dash = SOLID

    @property
    def linestyle(self) -> str | tuple[float, Dash]:
        """The dash pattern in Matplotlib's form."""
        return (0, self.dash) if self.dash else "-"


VERDICT_STYLES = {
    Verdict.EQUIVALENT: SeriesStyle(GREEN, "o", SOLID),
    Verdict.NON_INFERIOR: SeriesStyle(BLUE, "^", (8, 2)),
    Verdict.INFERIOR: SeriesStyle(VERMILLION, "s", DASHED),
    Verdict.UNDECIDED: SeriesStyle(ORANGE, "D", DOTTED),
    Verdict.CANNOT_TELL: SeriesStyle(MUTED, "x", DASH_DOT),
}

MEAN_STYLE = SeriesStyle(FOREGROUND, "D")
"""Of a mean over cells."""

_FIXED_ARM_STYLES = {
    BEST: SeriesStyle(BLUE),
    TUNED: SeriesStyle(GREEN),
    ANALYTIC: SeriesStyle(VERMILLION, dash=DASHED),
    ZERO: SeriesStyle(PURPLE, dash=DOTTED),
    CE: SeriesStyle(MUTED, dash=DASH_DOT),
}
_OTHER_COLOURS = (SKY, ORANGE, BLUE, FOREGROUND)
_OTHER_DASHES: tuple[Dash, ...] = ((8, 2), (3, 1, 1, 1, 1, 1), (2, 1), (7, 1, 2, 1), SOLID)
_OTHER_ARM_STYLES = [  # neighbours differ in both colour and dash
    SeriesStyle(colour, dash=_OTHER_DASHES[(i + shift) % len(_OTHER_DASHES)])
    for shift in range(len(_OTHER_DASHES))
    for i, colour in enumerate(_OTHER_COLOURS)
]


_ARM_MARKERS = ("^", "s", "v", "D", "P", "o", "x")


def arm_styles(arms: Iterable[str], primary_rule: str | None = None) -> dict[str, SeriesStyle]:
    """A style for every arm; they are distinct for up to 24 arms.

    Tuned ε, the analytic ε of one rule, ε = 0 and cross-entropy have the same style in every
    report. The other arms have styles in their order.

    Args:
        arms: names of arms, as in the column `arm`.
        primary_rule: the rule whose analytic arm has the fixed style; by default the first one.

    Returns:
        {arm: style}, in the order of `ARM_KINDS` and `RULES`, unknown arms last.
    """
    ordered = sorted(set(arms), key=_arm_order)
    analytic = [name for name in ordered if Arm.of_row(name).is_analytic]
    primary = next((a for a in analytic if Arm.of_row(a).rule == primary_rule), None)
    primary = primary or next(iter(analytic), None)
    styles: dict[str, SeriesStyle] = {}
    others = 0
    for name in ordered:
        arm = Arm.of_row(name)
        if arm.kind in _FIXED_ARM_STYLES and (not arm.is_analytic or name == primary):
            styles[name] = _FIXED_ARM_STYLES[arm.kind]
        else:
            styles[name] = _OTHER_ARM_STYLES[others % len(_OTHER_ARM_STYLES)]
            others += 1
    return styles


def arm_markers(arms: Iterable[str], primary_rule: str | None = None) -> dict[str, SeriesStyle]:
    """The styles of `arm_styles` with a marker; markers repeat after seven arms."""
    styles = arm_styles(arms, primary_rule)
    return {
        arm: replace(style, marker=_ARM_MARKERS[i % len(_ARM_MARKERS)])
        for i, (arm, style) in enumerate(styles.items())
    }


def _arm_order(name: str) -> tuple[int, int, str]:
    """Position by kind and rule in their registries; unknown names are last, alphabetically."""
    arm, kinds, rules = Arm.of_row(name), list(ARM_KINDS), list(RULES)
    kind = kinds.index(arm.kind) if arm.kind in kinds else len(kinds)
    rule = rules.index(arm.rule) if arm.rule in rules else len(rules)
    return kind, rule, name


_NAME_STYLES = [
    SeriesStyle(BLUE, "o"),
    SeriesStyle(ORANGE, "s"),
    SeriesStyle(GREEN, "^"),
    SeriesStyle(PURPLE, "D"),
    SeriesStyle(VERMILLION, "v"),
    SeriesStyle(SKY, "P"),
]


def name_styles(names: Sequence[str]) -> dict[str, SeriesStyle]:
    """Colour and marker of each name, such as a loss or a model; they repeat after six names."""
    return {name: _NAME_STYLES[i % len(_NAME_STYLES)] for i, name in enumerate(names)}


def cell_titles(cells: Sequence[CellVerdict]) -> dict[str, str]:
    """Short titles of a study's cells: data set, loss and noise, and the model if it varies.

    Returns:
        {cell_id: title}, in the order of the cells.
    """
    several_models = len({cell.model for cell in cells}) > 1
    titles = {}
    for cell in cells:
        factors = [cell.dataset, cell.loss, noise_text(cell.noise_kind, cell.noise_rate)]
        titles[cell.cell_id] = " · ".join(factors + [cell.model] * several_models)
    return titles


def noise_text(kind: str, rate: float | None) -> str:
    """A cell's label noise in words: `40 % symmetric noise`, `clean` or `labels as they are`.

    Args:
        kind: kind of noise.
        rate: share of wrong labels, in [0, 1]; None where it is unknown.
    """
    if rate is None:
        return "labels as they are"
    return f"{100 * rate:g} % {kind} noise" if rate else "clean"
