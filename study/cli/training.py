"""The commands that train: plan says what, run does it here, submit on a cluster."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from analysis.console import Json, out, print_json
from study.cli.arguments import Stages, Study, Trust, stop_signals
from study.results.object_store import StorageError
from trainables.errors import INTERRUPTED, BadInputError, InterruptedByUserError

if TYPE_CHECKING:
    from study.config.sections import StudyConfig
    from study.planning.cells import Cell
    from study.planning.gpu_estimate import Measurement
    from study.planning.plan import Plan
    from study.results.evidence import CellEvidence, ChosenPoint

commands = typer.Typer()


@contextmanager
def _named_storage(study: str, config: StudyConfig) -> Iterator[None]:
    """Name the study file, its key and its value in errors of the storage."""
    try:
        yield
    except StorageError as error:
        raise error.at(f"{study}: storage = {config.storage!r}") from error


@commands.command()
def plan(
    study: Study,
    device: Annotated[
        str,
        typer.Option(
            help="Hours on this device: cpu, which is timed here, or h100, h200: from measurements "
            "that came with the program."
        ),
    ] = "cpu",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Show what a study will train, and what differs from its folder. Writes nothing."""
    if device != "cpu":
        from study.planning.gpu_estimate import check_device

        check_device(device)
    from study.config.loader import read_study

    config, _ = read_study(study, trust)  # before imports that a bad study file does not need
    from study.execution.progress import duration
    from study.planning.open_study import (
        compare_with_folder,
        folder_of,
        has_begun,
        plan_in_folder,
    )
    from study.planning.plan import planned_cells, rules_of_logits
    from study.results.plan_summary import read_plan_summary

    folder = folder_of(config)

    def say(cells: Sequence[Cell]) -> None:
        count, models = len(planned_cells(config)), len({cell.group_id for cell in cells})
        if not as_json:
            print(
                f"{count} cells; measuring the initial logits of {models} untrained "
                f"{'model' if models == 1 else 'models'} for analytic:activation-measured …",
                flush=True,  # convolutional networks take some seconds on a CPU
            )

    with _named_storage(study, config):
        planned = plan_in_folder(config, folder, trust, before_measuring=say, is_estimate=True)
        growth = compare_with_folder(folder, config, planned, trust)
        summary = read_plan_summary(folder)
    rules = rules_of_logits(config)
    estimated = set() if not rules or has_begun(folder) else rules
    superseded = 0 if summary is None else summary.superseded
    trained = folder.read("trials", columns=["network_id"]).num_rows - superseded
    networks = planned.networks()
    if as_json:
        hours = _hours(planned, device)
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
                "estimated_rules": sorted(estimated),
                "growth": None if growth is None else growth.to_json(),
                "replicates": config.search.replicates,
                "hours": hours.hours,
                "hours_on": device,
                "hours_factor": hours.factor,
                "hours_from": [asdict(measurement) for measurement in hours.measurements],
                "cells": cells,
            }
        )
        return
    table = Table("cell", "classes", "arms", "analytic ε", box=None)
    for cell, arms in planned.arms.items():
        analytic = (
            f"{rule} {'about ' if rule in estimated else ''}{epsilon:.2f}"
            for rule, epsilon in planned.analytic[cell].items()
        )
        row = str(cell.classes), ", ".join(arm.name for arm in arms), ", ".join(analytic) or "–"
        table.add_row(cell.cell_id, *row)
    out.print(table)
    if estimated:
        print(
            f"{' and '.join(sorted(estimated))}: here from one untrained network of each model and "
            "64 examples; `run` measures four networks and 1,024 examples, and keeps ε"
        )
    if config.has_best:
        print(f"{config.search.replicates} replicates of every search")
    stages = " + ".join(f"{count} {stage}" for stage, count in networks.items())
    print(
        f"{sum(networks.values())} networks ({stages}), {trained} already in {folder.uri}",
        flush=True,  # the estimate takes some seconds
    )
    for line in () if growth is None else growth.lines():
        print(line, flush=True)
    hours = _hours(planned, device)
    if hours.hours is not None:
        share = "" if growth is None else ", with the kept networks"
        print(f"about {duration(3600 * hours.hours)} of training on {hours.where}{share}")
    if hours.factor is not None:
        print(
            "estimated, not timed: from the measurements below and the models' arithmetic; it may "
            f"be off by a factor of {hours.factor:.0f}"
        )
    for measurement in hours.measurements:
        print(f"- {measurement.what}; {measurement.hardware}; {measurement.provenance}")


class _Hours(NamedTuple):
    """How long a study takes, and how that is known.

    Attributes:
        hours: None where it is not known, which is said on stderr.
        where: the hardware, in words.
        factor: by which the hours may be off; None where training steps were timed here.
        measurements: from which they were computed.
    """

    hours: float | None = None
    where: str = ""
    factor: float | None = None
    measurements: tuple[Measurement, ...] = ()


def _hours(planned: Plan, device: str) -> _Hours:
    """Hours of training on this machine's processors, or on a GPU that is not here."""
    try:
        if device == "cpu":
            from study.planning.estimate import estimated_hours

            return _Hours(estimated_hours(planned), "this machine's processors")
        from study.planning.gpu_estimate import hours_on

        estimate = hours_on(planned, device)
    except ValueError as error:
        print(f"no estimate of the hours: {error}", file=sys.stderr)
        return _Hours()
    return _Hours(estimate.hours, f"one {device.upper()}", estimate.factor, estimate.measurements)


@commands.command()
def run(
    study: Study,
    stage: Stages = None,
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
    trust: Trust = False,
) -> None:
    """Run a study or resume it. A network that has a row in parquet is not trained again."""
    from study.config.loader import StudyFileError, read_study
    from study.results.schema import STAGES, Stage

    for name in stage or []:
        if name not in STAGES:
            raise StudyFileError(f"--stage {name}: allowed: {', '.join(STAGES)}")
    config, content = read_study(study, trust)  # before imports that a bad file does not need
    from study.execution.run import RunOptions, run_study

    after_cohort = None
    if tensorboard:
        from study.export.tensorboard import scalar_log

        after_cohort = scalar_log(tensorboard)
    options = RunOptions(
        stages=tuple(map(Stage, stage or STAGES)),
        address=address,
        dashboard=dashboard,
        trust=trust,
        after_cohort=after_cohort,
    )
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    try:
        with _named_storage(study, config):
            folder = run_study(
                config,
                content,
                options,
                interval_width=_interval_width,
                choose_points=_choose_points,
            )
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, SIGTERM is SystemExit
        raise InterruptedByUserError(INTERRUPTED) from None
    print(f"{folder.uri}: done; next: logit-bias report {shlex.quote(folder.uri)}")


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


@commands.command()
def submit(
    context: typer.Context,
    study: Study,
    address: Annotated[
        str | None,
        typer.Option(
            help="The cluster's dashboard, http://HEAD:8265.",
            envvar="RAY_API_SERVER_ADDRESS",
            show_envvar=True,
        ),
    ] = None,
    stage: Stages = None,
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
    trust: Trust = False,
) -> None:
    """Run a study on a Ray cluster, as a job there, and follow its log; or as a job of SLURM."""
    if slurm:
        source = context.get_parameter_source("address")
        if address is not None and source is not None and source.name == "COMMANDLINE":
            raise BadInputError("submit: --address and --slurm: allowed: one of them")
        from study.execution.slurm import SlurmOptions, batch_script, submit_to_slurm

        options = SlurmOptions(nodes, gpus_per_node, cpus_per_node, time, partition, sbatch or ())
        if dry_run:
            print(batch_script(study, options, stage or (), trust)[1], end="")
        else:
            job = submit_to_slurm(study, options, stage or (), trust)
            print(f"job {job}; follow it with `squeue`")
        return
    if address is None:
        raise BadInputError("submit: give --address http://HEAD:8265 (a Ray cluster) or --slurm")
    if dry_run or nodes != 1 or gpus_per_node or cpus_per_node or time or partition or sbatch:
        raise BadInputError("submit: only with --slurm: --dry-run and the options of a SLURM job")
    from study.execution.submit import submit as submit_study

    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    try:
        submit_study(study, address, stage, follow, trust)
    except KeyboardInterrupt:
        raise InterruptedByUserError(
            "interrupted before the cluster named the study's job; whether there is one: "
            f"`ray job list --address {address}`"
        ) from None
