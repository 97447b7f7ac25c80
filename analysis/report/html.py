"""The report: the registered panels in order, in one self-contained HTML file."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.data.load import LoadError
from analysis.formatting import points
from analysis.inference.study_records import StudyVerdict
from analysis.inference.summary import verdict_paragraph
from analysis.report import theme
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels import all_panels
from analysis.verdict import Folders, StudyAnalysis, analyse, compute, write
from study.results.folder import StudyFolder

__all__ = ["analyse", "analyse_and_report", "render", "report", "verdict_paragraph"]

_DISTRIBUTIONS = ("logit-bias-study", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")


def report(folders: Folders, into: str | None = None, margin: float | None = None) -> str:
    """Write the report and everything that `analyse` writes.

    Args:
        folders: as of `analysis.verdict.analyse`.
        into: as of `analysis.verdict.analyse`.
        margin: as of `analysis.verdict.analyse`.

    Returns:
        the path or URI of the report.

    Raises:
        LoadError: as of `analyse_and_report`.
    """
    return analyse_and_report(folders, into, margin)[1]


def analyse_and_report(
    folders: Folders, into: str | None = None, margin: float | None = None
) -> tuple[StudyVerdict, str]:
    """Write `analysis/report.html`, `analysis/figures/*`, the tables and the verdict.

    Args:
        folders: as of `analysis.verdict.analyse`.
        into: as of `analysis.verdict.analyse`.
        margin: as of `analysis.verdict.analyse`.

    Returns:
        the verdict as written, and the path or URI of the report.

    Raises:
        LoadError: the folders cannot be analysed, or have no cell that compares ε; the message is
            one line.
    """
    analysis = compute(folders, margin)
    if not analysis.verdict.cells:
        raise LoadError(
            f"{analysis.study.uri}: no cell to report on; a cell needs an arm analytic:<rule> or a "
            "sweep over at least two ε"
        )
    folder = analysis.folder(into)
    write(analysis, into)
    folder.write_bytes("analysis/report.html", render(analysis, folder).encode())
    return analysis.verdict, folder.uri_of("analysis", "report.html")


def render(analysis: StudyAnalysis, folder: StudyFolder | None = None) -> str:
    """The report's HTML.

    Args:
        analysis: from `analysis.verdict.compute`.
        folder: the study folder that receives figure files; None for no files.
    """
    writer = FigureWriter(folder)
    sections = [(panel, panel.build(analysis, writer)) for panel in all_panels()]
    verdict = analysis.verdict
    seeds = {arm.seeds for cell in verdict.cells for arm in cell.arms.values()}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            verdict=verdict,
            paragraph=verdict_paragraph(verdict),
            sections=[(panel, section) for panel, section in sections if section is not None],
            select_on=(analysis.study.config.get("search") or {}).get("select_on", "val_noisy"),
            seeds=sorted(seeds),
            provenance=verdict.provenance,
            training_versions=[_training_versions(text) for text in verdict.provenance.versions],
            analysis_versions=_analysis_versions(),
            made_utc=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _training_versions(text: str) -> str:
    """The versions column in words; unchanged if it is not a JSON object."""
    try:
        versions = json.loads(text)
    except ValueError:
        return text
    if not isinstance(versions, dict):
        return text
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _analysis_versions() -> str:
    """Versions of this installation."""
    versions = []
    for name in _DISTRIBUTIONS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


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
    environment.filters["css"] = theme.css
    return environment
