"""Computes the page of findings from the rows in this folder: `make findings`.

    python docs/findings/build.py [--check]

The page is the template `page.md.j2`: its words are written by hand, every number and table comes
from the rows. `--check` writes nothing and fails where the page in the repository says something
else; numbers may differ in their last digit, because processors round differently.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from analysis.inference.cell_records import CellVerdict
from analysis.inference.study_records import NoiseSlope
from analysis.report import theme
from analysis.verdict import StudyAnalysis, compute

matplotlib.use("svg")

HERE = Path(__file__).parent
PAGE = HERE / "README.md"
_NUMBER = re.compile(r"[−-]?\d+(?:\.\d+)?")
_RELATIVE, _ABSOLUTE = 0.03, 0.11  # of numbers that two processors may compute differently


@dataclass(frozen=True)
class Line:
    """A straight line through best ε against analytic ε, with 95 % intervals of its coefficients.

    Attributes:
        slope: (value, low, high).
        intercept: (value, low, high), at the mean analytic ε, minus that ε.
        cells: number of cells.
    """

    slope: tuple[float, float, float]
    intercept: tuple[float, float, float]
    cells: int


class Findings:
    """The analysed studies of this folder, and what the template asks of them."""

    def __init__(self) -> None:
        paths = sorted(path.parent for path in HERE.glob("*/study.yaml"))
        self.studies: dict[str, StudyAnalysis] = {path.name: compute(str(path)) for path in paths}

    def cells(self, study: str, **wanted: object) -> list[CellVerdict]:
        """The cells of a study that takes ε, with the given attributes."""
        return [
            cell
            for cell in self.studies[study].verdict.cells
            if cell.primary_value is not None
            and cell.epsilon_analytic
            and all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def table(self, study: str) -> str:
        """One row per cell."""
        header = (
            "| cell | analytic ε | best ε (95 %) | accuracy at ε = 0, analytic, best | cost of "
            "analytic ε (90 %) | share recovered (90 %) | gain of tuning (90 %) | verdict |"
        )
        rows = [self._row(cell) for cell in self.cells(study)]
        return "\n".join([header, "|" + "---|" * 8, *rows])

    def _row(self, cell: CellVerdict) -> str:
        rule = cell.rule or ""
        value, gain = cell.primary_value, cell.procedure.get(rule)
        recovered = cell.recovered.get(rule)
        accuracy = [cell.accuracy.get(arm) for arm in ("zero", f"analytic:{rule}", "best")]
        levels = " · ".join(
            "–" if a is None or a.mean is None else f"{100 * a.mean:.1f}" for a in accuracy
        )
        return (
            f"| {cell.dataset}, {noise(cell)}, {cell.loss} | {cell.epsilon_analytic[rule]:.2f} "
            f"| {best(cell)} | {levels} | {points(value)} | {share(recovered)} | {points(gain)} "
            f"| {words(cell.verdict.value)} |"
        )

    def line(self, studies: Iterable[str], **wanted: object) -> Line:
        """Best ε against analytic ε over cells whose best ε lies inside the range.

        The intervals hold the uncertainty of each cell's best ε (one drawn curve per cell and
        draw), and not how other cells would differ from these.
        """
        x, peaks = [], []
        for study in studies:
            for cell in self.cells(study, **wanted):
                response = self.studies[study].responses.get(cell.cell_id)
                if response is not None and not response.best.flat and not response.best.on_edge:
                    x.append(cell.epsilon_analytic[cell.rule or ""])
                    peaks.append(np.random.default_rng(len(x)).permutation(response.peaks))
        centred = np.array(x) - np.mean(x)
        y = np.array(peaks)  # (cells, draws)
        slopes = centred @ y / (centred**2).sum()
        offsets = y.mean(axis=0) - np.mean(x)
        return Line(_interval(slopes), _interval(offsets), len(x))

    def networks(self, study: str | None = None) -> int:
        """Trained networks of one study, or of all; one that two studies share counts once."""
        chosen = self.studies.values() if study is None else [self.studies[study]]
        return len({network for s in chosen for network in s.study.trials["network_id"]})

    def cell(self, study: str, **wanted: object) -> CellVerdict:
        """The only cell of a study with the given attributes."""
        (cell,) = self.cells(study, **wanted)
        return cell

    def accuracy(self, study: str, arm: str, **wanted: object) -> str:
        """Test accuracy of an arm in the only cell with the given attributes, per cent."""
        return number(_accuracy(self.cell(study, **wanted), arm))

    def range(self, study: str, arm: str, **wanted: object) -> str:
        """Lowest and highest test accuracy of an arm over a study's cells, per cent."""
        values = [_accuracy(cell, arm) for cell in self.cells(study, **wanted)]
        return f"{number(min(values), 0)} to {number(max(values), 0)}"

    def value_range(self, study: str) -> str:
        """Lowest and highest cost of analytic ε over a study's cells, with their intervals."""
        values = [cell.primary_value for cell in self.cells(study)]
        known = sorted((v for v in values if v and v.mean is not None), key=lambda v: v.mean or 0.0)
        return f"{points(known[0])} to {points(known[-1])}"

    def measured(self, study: str, **wanted: object) -> str:
        """The measured difference of best and analytic arm, without the surface, in points."""
        value = self.cell(study, **wanted).primary_value
        return points(None if value is None else value.measured)

    def duration(self, study: str) -> str:
        """Time from a study's first to its last network."""
        record = self.studies[study].verdict.provenance
        started, finished = (
            dt.datetime.fromisoformat(moment or "")
            for moment in (record.started_utc, record.finished_utc)
        )
        return f"{(finished - started).total_seconds() / 60:.0f} min"

    def slope(self, study: str) -> NoiseSlope:
        """How the best ε of a study's only group of cells moves with the noise rate."""
        (slope,) = self.studies[study].verdict.noise_slopes
        return slope

    def provenance(self, study: str) -> str:
        """Hardware and commit of a study's rows."""
        record = self.studies[study].verdict.provenance
        commits = ", ".join(c[:7] for c in record.git_commit)
        return f"two cores of an AMD EPYC, commit {commits}, {self.duration(study)}"


def _accuracy(cell: CellVerdict, arm: str) -> float:
    name = f"analytic:{cell.rule}" if arm == "analytic" else arm
    return 100 * (cell.accuracy[name].mean or 0.0)


def _interval(draws: Any) -> tuple[float, float, float]:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return float(middle), float(low), float(high)


def number(value: float, digits: int = 1) -> str:
    """A number with a proper minus sign."""
    text = f"{value:.{digits}f}"
    return f"−{text[1:]}" if text.startswith("-") and float(text) else text.lstrip("-")


def points(interval: Any, digits: int = 1) -> str:
    """A mean with its interval, fractions of accuracy, in percentage points."""
    if interval is None or interval.mean is None:
        return "–"
    text = number(100 * interval.mean, digits)
    if interval.low is None:
        return text
    return f"{text} ({number(100 * interval.low, digits)} to {number(100 * interval.high, digits)})"


def share(recovered: Any) -> str:
    """A share with its interval, per cent."""
    if recovered is None or recovered.value is None:
        return "–"
    if recovered.low is None:  # the gain from ε = 0 may be zero
        return "–"
    low, high = (f"{100 * end:.0f}" for end in (recovered.low, recovered.high))
    return f"{100 * recovered.value:.0f} % ({low} to {high})"


def best(cell: CellVerdict) -> str:
    """The best ε with its interval."""
    e = cell.epsilon_best
    if e is None:
        return "–"
    if e.flat:
        return "flat"
    edge = ", on the edge" if e.on_edge else ""
    return f"{e.value:.1f} ({e.low:.1f} to {e.high:.1f}{edge})"


def noise(cell: CellVerdict) -> str:
    """The label noise in words."""
    if not cell.noise_rate:
        return "clean"
    return f"{100 * cell.noise_rate:.0f} % {cell.noise_kind}"


def words(verdict: str) -> str:
    """A verdict as a reader says it."""
    return verdict.replace("_", " ").replace("non inferior", "non-inferior")


def line_text(values: tuple[float, float, float], digits: int = 2) -> str:
    """A coefficient with its interval."""
    value, low, high = (number(v, digits) for v in values)
    return f"{value} ({low} to {high})"


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


def family(cell: CellVerdict) -> str:
    """The family of a cell's data set."""
    stem = cell.dataset.split("-")
    return "-".join(part for part in stem if not part.isdigit())


def render(findings: Findings) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True
    )  # Markdown, not HTML
    environment.filters |= {
        "points": points, "share": share, "number": number, "line": line_text, "best": best,
    }  # fmt: skip
    pooled: Mapping[str, Any] = {k: s.verdict.pooled for k, s in findings.studies.items()}
    return environment.get_template("page.md.j2").render(f=findings, pooled=pooled)


def differences(one: str, other: str) -> list[str]:
    """Lines of two pages whose words differ, or whose numbers differ by more than rounding."""
    found = []
    lines, others = one.splitlines(), other.splitlines()
    if len(lines) != len(others):
        return [f"{len(lines)} lines instead of {len(others)}"]
    for a, b in zip(lines, others, strict=True):
        x, y = ([float(n.replace("−", "-")) for n in _NUMBER.findall(line)] for line in (a, b))
        same_words = _NUMBER.sub("#", a) == _NUMBER.sub("#", b)
        if not same_words or not all(
            math.isclose(i, j, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
            for i, j in zip(x, y, strict=True)
        ):
            found.append(f"computed: {a}\n    page: {b}")
    return found


def main() -> None:
    """Write the page, or check it."""
    findings = Findings()
    page = render(findings)
    if "--check" in sys.argv[1:]:
        found = differences(page, PAGE.read_text())
        if found:
            raise SystemExit("\n".join(["the page says something else than the rows:", *found]))
        return
    PAGE.write_text(page)
    figure = theme.paper_svg(theme.svg(best_epsilon_figure(findings)))
    (HERE / "best-epsilon.svg").write_text(figure)


if __name__ == "__main__":
    main()
