"""The command that writes a study file for a data set: init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.console import bad_input
from trainables.errors import BadInputError

commands = typer.Typer()


@commands.command()
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
