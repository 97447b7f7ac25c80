"""The command `logit-bias`: the commands that plan, run and inspect a study, and the entry point.

Each command imports what it needs. Light commands therefore start fast, and the base installation,
which has neither torch nor Ray, runs every command that needs neither of them.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.exceptions import TyperException

from analysis.cli import commands as analysis_commands
from analysis.console import Json, bad_input, out, print_json
from study.cli.catalogue import commands as catalogue_commands
from study.cli.results import commands as results_commands
from trainables.errors import (
    INTERRUPTED,
    BadInputError,
    InterruptedByUserError,
    MissingExtraError,
    UserError,
)

if TYPE_CHECKING:
    from study.planning.plan import Plan
    from study.results.evidence import CellEvidence, ChosenPoint

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does the analytic logit bias ε agree with the tuned one? Studies of noise-robust losses.",
)

Study = Annotated[str, typer.Argument(help="A study file, or a preset's name (see `presets`).")]
Folder = Annotated[str, typer.Argument(help="A study folder, such as results/quickstart.")]


@app.command()
def init(
    data: Annotated[
        str,
        typer.Argument(help="A file, a folder of images, or a data set's name (see `datasets`)."),
    ],
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write here; default: standard output.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of texts.")] = None,
    clean_label: Annotated[
        str | None, typer.Option(help="Column of correct labels, empty where unknown.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="A second table, as test set.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder of downloaded data sets.")] = None,
    minutes: Annotated[float, typer.Option(help="Time for the study on this machine.")] = 8.0,
    networks: Annotated[
        int | None, typer.Option(help="Largest number of networks, in place of a time.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Look at a data set whose labels may be wrong, and write a study file that fits it."""
    import shlex

    from study.proposal.propose import Budget, propose
    from study.proposal.survey import Request

    target = None if output is None else Path(output)
    if target is not None and target.exists() and not overwrite:
        raise BadInputError(f"{output}: the file exists; --overwrite replaces it")
    request = Request(data, label, text, clean_label, test, root)
    with bad_input():
        proposal = propose(
            request, Budget(minutes, networks), name, f"logit-bias {shlex.join(sys.argv[1:])}"
        )
    if target is None:
        print(proposal.text, end="")
        return
    target.write_text(proposal.text, encoding="utf-8")
    print(
        f"{output}: {proposal.networks} networks, about {proposal.minutes:.0f} minutes; next: "
        f"logit-bias run {output}"
    )


@app.command()
def plan(study: Study, as_json: Json = False) -> None:
    """Show what a study will train, and what differs from its folder. Writes nothing."""
    from study.config.loader import read_study
    from study.execution.progress import duration
    from study.planning.open_study import compare_with_folder, folder_of, plan_in_folder
    from study.results.plan_summary import read_plan_summary

    config, _ = read_study(study)
    folder = folder_of(config)
    planned = plan_in_folder(config, folder)
    growth = compare_with_folder(folder, config, planned)
    summary = read_plan_summary(folder)
    superseded = 0 if summary is None else summary.superseded
    trained = folder.read("trials", columns=["network_id"]).num_rows - superseded
    networks = planned.networks()
    if as_json:
        cells = [
            {
                "cell_id": cell.cell_id,
                "classes": cell.classes,
                "arms": [arm.name for arm in arms],
                "epsilon_analytic": planned.analytic[cell],
                "epsilon_grid": planned.epsilon_grid(cell),
            }
            for cell, arms in planned.arms.items()
        ]
        print_json(
            {
                "study": config.name,
                "folder": folder.uri,
                "networks": networks,
                "networks_trained": trained,
                "growth": None if growth is None else growth.to_json(),
                "replicates": config.search.replicates,
                "hours": _hours(planned),
                "cells": cells,
            }
        )
        return
    table = Table("cell", "classes", "arms", "analytic ε", box=None)
    for cell, arms in planned.arms.items():
        analytic = ", ".join(f"{r} {e:.2f}" for r, e in planned.analytic[cell].items()) or "–"
        table.add_row(
            cell.cell_id, str(cell.classes), ", ".join(arm.name for arm in arms), analytic
        )
    out.print(table)
    if config.has_best:
        print(f"{config.search.replicates} replicates of every search")
    stages = " + ".join(f"{count} {stage}" for stage, count in networks.items())
    print(
        f"{sum(networks.values())} networks ({stages}), {trained} already in {folder.uri}",
        flush=True,  # the estimate takes some seconds
    )
    for line in () if growth is None else growth.lines():
        print(line, flush=True)
    hours = _hours(planned)
    if hours is not None:
        share = "" if growth is None else ", with the kept networks"
        print(f"about {duration(3600 * hours)} of training on this machine's processors{share}")


def _hours(planned: Plan) -> float | None:
    """Hours of training; None where this machine cannot train, which is said on stderr."""
    from study.planning.estimate import estimated_hours

    try:
        return estimated_hours(planned)
    except ValueError as error:
        print(f"no estimate of the hours: {error}", file=sys.stderr)
        return None


@app.command()
def run(
    study: Study,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage (search, sweep, confirm); repeatable.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster.", envvar="RAY_ADDRESS", show_envvar=True),
    ] = None,
    tensorboard: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write learning curves for TensorBoard.")
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Start Ray's dashboard (http://127.0.0.1:8265).")
    ] = False,
) -> None:
    """Run a study or resume it. A network that has a row in parquet is not trained again."""
    from study.config.loader import StudyFileError, read_study
    from study.execution.run import RunOptions, run_study
    from study.results.schema import STAGES, Stage

    for name in stage or []:
        if name not in STAGES:
            raise StudyFileError(f"--stage {name}: allowed: {', '.join(STAGES)}")
    config, content = read_study(study)
    after_cohort = None
    if tensorboard:
        from study.export.tensorboard import scalar_log

        after_cohort = scalar_log(tensorboard)
    options = RunOptions(
        stages=tuple(map(Stage, stage or STAGES)),
        address=address,
        dashboard=dashboard,
        after_cohort=after_cohort,
    )
    for number in _stop_signals():
        signal.signal(number, signal.default_int_handler)
    try:
        folder = run_study(
            config,
            content,
            options,
            interval_width=_interval_width,
            choose_points=_choose_points,
        )
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, SIGTERM is SystemExit
        raise InterruptedByUserError(INTERRUPTED) from None
    print(f"{folder.uri}: done; next: logit-bias report {folder.uri}")


def _interval_width(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Width of the 95 % interval of the best ε of a cell's sweep; None where there is no curve."""
    import pandas as pd

    from analysis.data.load import DEFAULT_MARGIN
    from analysis.response.fit import fit_response

    response = fit_response(pd.DataFrame(rows), DEFAULT_MARGIN)
    return None if response is None else response.best.high - response.best.low


def _choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """Where the pooled arms of a cell are confirmed."""
    from analysis.response.surface import choose_points

    return choose_points(evidence, arms)


@app.command()
def submit(
    study: Study,
    address: Annotated[
        str | None,
        typer.Option(
            help="The cluster's dashboard, http://HEAD:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=True,
        ),
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage (search, sweep, confirm); repeatable.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Follow the log until the study is done.")] = True,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Write a batch script for SLURM, and submit it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --slurm: print the script, and do no more.")
    ] = False,
    nodes: Annotated[int, typer.Option(help="With --slurm: nodes of the job.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="With --slurm: GPUs of each node.")] = 0,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(help="With --slurm: cores of each node.", show_default="4 per GPU, or all"),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="With --slurm: time limit of one job, as H:MM:SS.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="With --slurm: partition.")] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(help="With --slurm: an option of sbatch, as --account=NAME; repeatable."),
    ] = None,
) -> None:
    """Run a study on a Ray cluster, as a job there, and follow its log; or as a job of SLURM."""
    if slurm:
        from study.execution.slurm import SlurmOptions, batch_script, submit_to_slurm

        options = SlurmOptions(nodes, gpus_per_node, cpus_per_node, time, partition, sbatch or ())
        if dry_run:
            print(batch_script(study, options, stage or ())[1], end="")
        else:
            print(f"job {submit_to_slurm(study, options, stage or ())}; follow it with `squeue`")
        return
    if address is None:
        raise BadInputError("submit: give --address http://HEAD:8265 (a Ray cluster) or --slurm")
    if dry_run or nodes != 1 or gpus_per_node or cpus_per_node or time or partition or sbatch:
        raise BadInputError("submit: only with --slurm: --dry-run and the options of a SLURM job")
    from study.execution.submit import submit as submit_study

    signal.signal(signal.SIGINT, signal.default_int_handler)
    submit_study(study, address, stage, follow)


@app.command()
def trial(
    folder: Folder,
    network_id: Annotated[str, typer.Argument(help="The network's id, as in its row.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    explain: Annotated[
        bool, typer.Option("--explain", help="Train nothing; say how and when it failed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the network of one row again, outside Ray, and compare. Exit 1 if a number differs."""
    if explain:
        _explain(folder, network_id, as_json)
        return
    from study.execution.reproduce import reproduce

    result = reproduce(folder, network_id, device)
    if as_json:
        print_json(result.to_json())
    if result.differences and not as_json:
        table = Table("number", "row", "retrained", box=None)
        for difference in result.differences:
            table.add_row(difference.where, repr(difference.row), repr(difference.retrained))
        out.print(table)
    if result.differences:
        raise UserError(
            f"{network_id}: {len(result.differences)} of {result.compared} numbers differ "
            f"(row: {result.device_of_row}, now: {device})"
        )
    if not as_json:
        print(f"{network_id}: all {result.compared} numbers are the row's, bit for bit")


def _explain(folder: str, network_id: str, as_json: bool) -> None:
    """Print why a network failed, from its rows."""
    from analysis.formatting import table_value
    from study.results.explain import explain
    from study.results.folder import StudyFolder

    explanation = explain(StudyFolder.at(folder), network_id)
    if as_json:
        print_json(explanation.to_json())
        return
    settings = [f"{k} {table_value(v)}" for k, v in explanation.settings.items() if v is not None]
    print(f"{network_id}: {explanation.status}; {', '.join(settings)}")
    if explanation.epochs:
        table = Table(*explanation.epochs[0], box=None)
        for epoch in explanation.epochs:
            table.add_row(*("not finite" if v is None else table_value(v) for v in epoch.values()))
        out.print(table)
    for sentence in explanation.sentences:
        print(f"- {sentence}")


@app.command()
def export_optuna(
    folder: Folder,
    journal: Annotated[str, typer.Argument(help="File to write, such as journal.log.")],
) -> None:
    """Write a study's searches as an Optuna journal, for optuna-dashboard."""
    from study.export.optuna_journal import export

    written = export(folder, journal)
    print(f"{journal}: {len(written)} Optuna studies, {sum(written.values())} trials")


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """Show the progress of a study: networks per stage, best point of each cell."""
    from study.results.folder import StudyFolder
    from study.results.plan_summary import read_plan_summary
    from study.results.status import study_status

    study_folder = StudyFolder.at(folder)
    planned = read_plan_summary(study_folder)
    if planned is None:  # the folder is older than plan.json, or holds no study
        study_folder.study_file()  # before the import of what the base installation lacks
        from study.planning.open_study import open_study, plan_summary

        planned = plan_summary(open_study(folder)[1])
    state = study_status(folder, planned)
    if as_json:
        print_json(state.to_json())
        return
    table = Table("cell", "searched", "best so far", box=None)
    for cell_id, search in state.cells.items():
        table.add_row(cell_id, f"{search.completed}/{search.planned}", search.best_text)
    out.print(table)
    for stage, count in state.networks.items():
        print(f"{stage}: {count.done} of {count.planned} networks")
    print(f"{state.diverged} diverged; last row {state.last_row_utc or 'none'}")


app.add_typer(results_commands)
app.add_typer(analysis_commands)
app.add_typer(catalogue_commands)

_EXTRA_OF_MODULE = {
    **dict.fromkeys(("torch", "torchvision", "sklearn", "PIL", "filelock"), "train"),
    **dict.fromkeys(("ray", "optuna", "tensorboardX"), "study"),
    "mlflow": "mlflow",
}
_STUDY_COMMANDS = {"init", "plan", "run", "submit", "trial", "export-optuna", "merge"}


def main() -> None:
    """Run the command line. Exit 0 done, 1 failed, 2 bad input, 130 interrupted."""
    for number in _stop_signals():
        signal.signal(number, _quit)
    warnings.formatwarning = _one_line_warning
    try:
        app(standalone_mode=False)
    except TyperException as error:
        if len(sys.argv) == 1:  # the whole help has been printed
            sys.exit(2)
        _fail(f"{error.format_message()} (see logit-bias --help)", 2)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _fail(str(_missing_extra(error)), MissingExtraError.exit_code)
    except OSError as error:  # a full disk, a folder without permission, a path that is a file
        _fail(" ".join(str(error).split()), 1)


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """The notes of data sets are for the user; other warnings say where they come from."""
    if category.__name__ == "DatasetWarning":
        return f"{message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _missing_extra(error: ModuleNotFoundError) -> MissingExtraError:
    """An error that names the extra which installs the module; raises `error` if no extra does."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRA_OF_MODULE:
        raise error
    command = sys.argv[1]
    extra = "study" if command in _STUDY_COMMANDS else _EXTRA_OF_MODULE[module]
    return MissingExtraError(f"logit-bias {command}", module, extra)


def _stop_signals() -> list[signal.Signals]:
    """SIGINT and SIGTERM, except those that our parent ignores (`nohup`, `&` in scripts)."""
    both = [signal.SIGINT, signal.SIGTERM]
    return [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]


def _quit(*_: object) -> None:
    """End at once. A library that is being imported could catch an exception and continue."""
    os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
    os._exit(InterruptedByUserError.exit_code)


def _fail(message: str, code: int) -> None:
    print(f"logit-bias: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
