"""One self-contained HTML file: verdict first, then the pictures, the table, how it was done."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis import figures
from analysis.agreement import VERDICTS, points, verdict_paragraph
from analysis.load import LoadError
from analysis.verdict import Analysis, analyse, compute, write
from study.results import StudyFolder

__all__ = ["analyse", "analyse_and_report", "render", "report", "verdict_paragraph"]

MAX_PANELS = 24  # of each kind; the tables hold every cell


def report(folder_uri: str) -> str:
    """Write the report and all that `analyse` writes; return the report's path.

    Args and errors are those of `analyse_and_report`.
    """
    return analyse_and_report(folder_uri)[1]


def analyse_and_report(folder_uri: str) -> tuple[dict[str, Any], str]:
    """Write `analysis/report.html`, `analysis/figures/*.svg`, the tables and the verdict.

    Args:
        folder_uri: a study folder, local or a pyarrow filesystem URI.

    Returns:
        the verdict as written, and the path of the report inside its filesystem.

    Raises:
        LoadError: the folder cannot be analysed, or has no cell that compares ε; one line says why.
    """
    found = compute(folder_uri)
    if not found.verdict["cells"]:
        raise LoadError(
            f"{folder_uri}: no cell to report on; a cell needs an arm analytic:<rule> or a sweep "
            "over at least two ε"
        )
    write(found)
    folder = StudyFolder(folder_uri)
    folder.write_bytes("analysis/report.html", render(found, folder).encode())
    return found.verdict, folder.file("analysis", "report.html")


def render(found: Analysis, folder: StudyFolder | None = None) -> str:
    """The report's HTML; figure files are written too where a folder is given."""
    verdict, cells = found.verdict, found.verdict["cells"]

    def picture(figure: Any, name: str, alt: str) -> str:
        document = figures.svg(figure)
        if folder is not None:
            paper = figures.fixed(document)
            folder.write_bytes(f"analysis/figures/{name}.svg", paper.encode())
        return figures.inline(document, name, alt)

    shown = [c for c in cells if c["cell_id"] in found.responses]
    response_panels = []
    for i, cell in enumerate(shown[:MAX_PANELS]):
        response = found.responses[cell["cell_id"]]
        figure = figures.response_panel(cell, response)
        response_panels.append(
            {
                "title": figures.cell_label(cell),
                "caption": _response_caption(cell),
                "svg": picture(figure, f"response-{i + 1}", _response_alt(cell, response)),
            }
        )
    learning_panels = []
    drawn: set[str] = set()
    for i, cell in enumerate(cells[:MAX_PANELS]):
        curves = _curves_of(found, cell)
        if curves.empty:
            continue
        drawn |= set(curves["arm"])
        title = figures.cell_label(cell)
        alt = f"Accuracy by epoch for {title}, a line an arm."
        svg = picture(figures.learning_panel(curves), f"learning-{i + 1}", alt)
        learning_panels.append({"title": title, "svg": svg})
    measured = [c for c in cells if (c["regret"].get(c["rule"]) or {}).get("low") is not None]
    forest = None
    if measured:
        alt = "; ".join(
            f"{figures.cell_label(c)}: {points(c['regret'][c['rule']]['mean'])}" for c in measured
        )
        forest = picture(
            figures.forest(measured[:40], verdict["pooled"]), "forest", f"Regret by cell: {alt}"
        )
    provenance = verdict["provenance"]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            verdict=verdict,
            cells=cells,
            paragraph=verdict_paragraph(verdict),
            words=VERDICTS,
            response_panels=response_panels,
            response_left_out=len(shown) - len(response_panels),
            metric=_metric_words(found),
            forest=forest,
            forest_left_out=max(0, len(measured) - 40),
            learning_panels=learning_panels,
            learning_keys=[
                (arm, style)
                for arm, style in figures.ARM_STYLE.items()
                if (curves["arm"] == arm).any()
            ],
            provenance=provenance,
            versions=[json.loads(v) for v in provenance["versions"]],
            analysed=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            own_versions=_own_versions(),
            select_on=(found.study.config.get("search") or {}).get("select_on", "val_noisy"),
            seeds=sorted({c["regret"][c["rule"]]["n"] for c in cells if c["rule"]}),
        )
    )


def _curves_of(found: Analysis, cell: dict[str, Any]) -> pd.DataFrame:
    """A cell's learning curves, plain cross-entropy's from where its rows are."""
    curves = found.tables["learning_curves"]
    mine = curves[(curves["cell_id"] == cell["cell_id"]) & (curves["arm"] != "ce")]
    if not cell["reference"]:
        return mine
    ce = curves[(curves["cell_id"] == cell["reference"]["cell_id"]) & (curves["arm"] == "ce")]
    return pd.concat([mine, ce])


def _response_caption(cell: dict[str, Any]) -> list[str]:
    best, tuned = cell["epsilon_best"], cell["epsilon_tuned"]
    analytic = ", ".join(f"{e:.2f}" for e in cell["epsilon_analytic"].values())
    if best["on_edge"]:
        text = f"best ε on the edge of the range, at or beyond {best['value']:.1f}"
    else:
        text = f"best ε {best['value']:.2f} ({best['low']:.2f} to {best['high']:.2f})"
    given = [f"analytic {analytic}"] if analytic else []
    given += [f"tuned {tuned:.2f}"] if tuned is not None else []
    return [text, " · ".join(given)]


def _response_alt(cell: dict[str, Any], response: Any) -> str:
    p = response.points
    pairs = zip(p["epsilon"], p["mean"], strict=True)
    ends = ", ".join(f"{100 * m:.0f} % at ε {e:.1f}" for e, m in pairs)
    caption = "; ".join(_response_caption(cell))
    return f"Accuracy against ε, {figures.cell_label(cell)}: {ends}. {caption}."


def _metric_words(found: Analysis) -> str:
    metrics = {r.metric for r in found.responses.values()}
    words = {
        "val_acc_clean": "validation accuracy on clean labels, which selection never saw",
        "val_acc_noisy": "validation accuracy on noisy labels",
    }
    return " or ".join(words[m] for m in sorted(metrics)) or "none"


def _own_versions() -> str:
    names = ["logit-bias-study", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib"]
    return ", ".join(f"{n} {v}" for n, v in _installed(names))


def _installed(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["points"] = points
    environment.filters["number"] = lambda x: "–" if x is None else f"{x:.2f}".replace("-", "−")
    return environment
