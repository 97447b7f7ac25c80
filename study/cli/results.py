"""The commands that carry results elsewhere: export, export-optuna, merge."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from analysis.console import Json, print_json
from study.cli.arguments import Folder, Trust

commands = typer.Typer()


class Form(StrEnum):
    """What `export` writes."""

    BUNDLE = "bundle"
    CSV = "csv"
    MLFLOW = "mlflow"
    OPTUNA = "optuna"


@commands.command()
def export(
    folder: Annotated[str, typer.Argument(help="A study folder or bundle.")],
    to: Annotated[
        Form,
        typer.Option(
            help="bundle: one file that analyse, report and compare read; csv: two tables; mlflow: "
            "one run per network; optuna: a journal for optuna-dashboard."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The file (bundle, optuna) or folder (csv) to write, or MLflow's tracking URI.",
        ),
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Write a study in another form: one file, CSV, an MLflow experiment, an Optuna journal."""
    from study.results.exported import export_bundle, export_csv
    from study.results.folder import StudyFolder

    study, name = StudyFolder.at(folder), _name(folder)
    if to == Form.BUNDLE:
        path = output or f"{name}.bundle.zip"
        analysis, problem = _analysis(folder)
        rows = export_bundle(study, path, analysis)
        text = f"{path}: {rows['trials']} networks, {rows['epochs']} epochs"
        text += f"; without a verdict ({problem})" if problem else ""
        written: dict[str, object] = {"file": path, "rows": rows, "files": sorted(analysis)}
    elif to == Form.CSV:
        files = export_csv(study, output or f"{name}-csv")
        text = ", ".join(f"{file}: {rows} rows" for file, rows in files.items())
        written = {"rows": files}
    elif to == Form.MLFLOW:
        from study.export.mlflow_runs import export_mlflow

        runs = export_mlflow(study, output, _analysis(folder)[0])
        text = f"{runs.tracking_uri}: experiment {runs.experiment}: {runs.runs} new networks, "
        text += f"{runs.present} were there"
        written = {
            "experiment": runs.experiment,
            "tracking_uri": runs.tracking_uri,
            "new": runs.runs,
            "present": runs.present,
        }
    else:
        from study.export.optuna_journal import export as export_optuna

        path = output or f"{name}.journal.log"
        studies = export_optuna(folder, path, trust)
        text = f"{path}: {len(studies)} Optuna studies, {sum(studies.values())} trials"
        written = {"file": path, "trials": studies}
    if as_json:
        print_json(written)
    else:
        print(text)


def _name(folder: str) -> str:
    """The study's name, for the names of files."""
    name = folder.partition("?")[0].rstrip("/").rpartition("/")[2]
    name = name.removesuffix(".zip").removesuffix(".bundle")
    return name or Path.cwd().name


def _analysis(folder: str) -> tuple[dict[str, bytes], str | None]:
    """Verdict and report of a study's present rows, or why there is none."""
    from analysis.data.load import LoadError
    from analysis.report.html import render
    from analysis.verdict import compute, verdict_bytes

    try:
        analysis = compute(folder)
    except LoadError as error:
        return {}, str(error)
    files = {"analysis/verdict.json": verdict_bytes(analysis)}
    if analysis.verdict.cells:
        files["analysis/report.html"] = render(analysis).encode()
    return files, None


@commands.command()
def export_optuna(
    folder: Folder,
    journal: Annotated[str, typer.Argument(help="File to write, such as journal.log.")],
    trust: Trust = False,
) -> None:
    """Write a study's searches as an Optuna journal, for optuna-dashboard."""
    from study.export.optuna_journal import export as write_journal

    written = write_journal(folder, journal, trust)
    print(f"{journal}: {len(written)} Optuna studies, {sum(written.values())} trials")


@commands.command()
def merge(
    folders: Annotated[list[str], typer.Argument(help="Folders or bundles of one study.")],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="The new folder.")],
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Merge folders of one study: a new folder with the rows of each network once."""
    from analysis.response.surface import choose_points
    from study.export.merge import merge as merge_folders

    merged = merge_folders(folders, output, choose_points, trust)
    if as_json:
        print_json(merged)
        return
    agree = f"{merged.duplicates} were in more than one folder and agree"
    print(
        f"{merged.folder}: {merged.networks} networks; "
        f"{agree if merged.duplicates else 'none was in more than one folder'}"
    )
    if merged.missing:
        print(f"{merged.missing} are to be trained: logit-bias run {merged.folder}/study.yaml")
