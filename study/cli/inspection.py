"""The commands that look into a study folder: status, trial."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from analysis.console import Json, out, print_json
from study.cli.arguments import Folder, Trust
from trainables.errors import UserError

commands = typer.Typer()


@commands.command()
def status(folder: Folder, trust: Trust = False, as_json: Json = False) -> None:
    """Show the progress of a study: networks per stage, best point of each cell."""
    from analysis.formatting import count as count_of
    from study.results.folder import StudyFolder
    from study.results.plan_summary import read_plan_summary
    from study.results.status import study_status

    study_folder = StudyFolder.at(folder)
    planned = read_plan_summary(study_folder)
    if planned is None:  # the folder is older than plan.json, or holds no study
        study_folder.study_file()  # before the import of what the base installation lacks
        from study.planning.open_study import open_study, plan_summary

        planned = plan_summary(open_study(folder, trust)[1])
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
    if state.saved_cohorts:
        print(f"{count_of(state.saved_cohorts, 'unfinished cohort')} saved, to be continued")
    print(f"{state.diverged} diverged; last row {state.last_row_utc or 'none'}")


@commands.command()
def trial(
    folder: Folder,
    network_id: Annotated[str, typer.Argument(help="The network's id, as in its row.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    explain: Annotated[
        bool, typer.Option("--explain", help="Train nothing; say how and when it failed.")
    ] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Train the network of one row again, outside Ray, and compare. Exit 1 if a number differs."""
    if explain:
        _explain(folder, network_id, as_json)
        return
    from study.execution.reproduce import reproduce

    result = reproduce(folder, network_id, device, trust)
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
