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

from analysis.data.load import LoadError
from analysis.formatting import number, points
from analysis.inference.records import StudyVerdict, Verdict
from analysis.inference.summary import verdict_paragraph
from analysis.report import figures, panels, theme
from analysis.verdict import Folders, StudyAnalysis, analyse, compute, write
from study.results.folder import StudyFolder

__all__ = ["analyse", "analyse_and_report", "render", "report", "verdict_paragraph"]


def report(folders: Folders, into: str | None = None, margin: float | None = None) -> str:
    """Write the report and all that `analyse` writes; return the report's path.

    Args and errors are those of `analyse_and_report`.
    """
    return analyse_and_report(folders, into, margin)[1]


def analyse_and_report(
    folders: Folders, into: str | None = None, margin: float | None = None
) -> tuple[StudyVerdict, str]:
    """Write `analysis/report.html`, `analysis/figures/*`, the tables and the verdict.

    Args:
        folders, into, margin: as of `analysis.verdict.analyse`.

    Returns:
        the verdict as written, and the path of the report inside its filesystem.

    Raises:
        LoadError: the folders cannot be analysed, or have no cell that compares ε; one line says
            why.
    """
    found = compute(folders, margin)
    if not found.verdict.cells:
        raise LoadError(
            f"{found.study.uri}: no cell to report on; a cell needs an arm analytic:<rule> or a "
            "sweep over at least two ε"
        )
    folder = found.folder(into)
    write(found, into)
    folder.write_bytes("analysis/report.html", render(found, folder).encode())
    return found.verdict, folder.file("analysis", "report.html")


def render(found: StudyAnalysis, folder: StudyFolder | None = None) -> str:
    """The report's HTML; figure files are written too where a folder is given."""
    verdict, cells = found.verdict, found.verdict.cells
    writer = panels.FigureWriter(folder)
    learning, arms = panels.learning_panels(found, writer)
    forest, forest_left_out = panels.forest(found, writer)
    swept = [c for c in cells if c.cell_id in found.responses]
    provenance = verdict.provenance
    template = _environment().get_template("report.html.j2")
    return template.render(
        verdict=verdict,
        cells=cells,
        paragraph=verdict_paragraph(verdict),
        verdicts=list(Verdict),
        response_panels=panels.response_panels(found, writer),
        response_left_out=max(0, len(swept) - panels.MAX_PANELS),
        metric=_metric_words(found),
        forest=forest,
        forest_left_out=forest_left_out,
        margin_panel=panels.margin_panel(found, writer),
        classes_panel=panels.classes_panel(found, writer),
        noise_panels=panels.noise_panels(found, writer),
        transition_panels=panels.transition_panels(found, writer),
        spread_panel=panels.spread_panel(found, writer),
        arms=_rows(found, "arms"),
        importance=_rows(found, "importance"),
        learning_panels=learning,
        learning_keys=[(arm, figures.ARM_STYLE[arm]) for arm in arms],
        dynamics=_dynamics_rows(found),
        provenance=provenance,
        versions=[_versions(v) for v in provenance.versions],
        analysed=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        own_versions=_own_versions(),
        select_on=(found.study.config.get("search") or {}).get("select_on", "val_noisy"),
        seeds=sorted({c.primary_regret.n for c in cells if c.primary_regret}),
    )


def _dynamics_rows(found: StudyAnalysis) -> list[dict[str, Any]]:
    """How the confirm stage's arms learn, for the first cells."""
    ids = [c.cell_id for c in found.verdict.cells[: panels.MAX_PANELS]]
    table = found.tables["dynamics"]
    table = table[(table["stage"] == "confirm") & table["cell_id"].isin(ids)]
    return _records(table)


def _rows(found: StudyAnalysis, name: str, most: int = 200) -> list[dict[str, Any]]:
    """The first rows of a table, None for what is missing."""
    return _records(found.tables[name][:most])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(k): v for k, v in row.items()} for row in rows]


def _versions(text: str) -> str:
    """A versions column in words; as it is where it is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, dict) else text


def _metric_words(found: StudyAnalysis) -> str:
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
    environment.filters["number"] = number
    environment.filters["css"] = theme.css
    return environment
