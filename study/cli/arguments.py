"""What several commands take: the study, its stages, and the signals that stop them."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

Study = Annotated[str, typer.Argument(help="A study file, or a preset's name (see `presets`).")]
Folder = Annotated[str, typer.Argument(help="A study folder, such as results/quickstart.")]
Stages = Annotated[
    list[str] | None, typer.Option(help="Only this stage (search, sweep, confirm); repeatable.")
]

Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Import the package.module:name that a study folder names: it runs code."
    ),
]


def stop_signals() -> list[signal.Signals]:
    """SIGINT and SIGTERM, except those that our parent ignores (`nohup`, `&` in scripts)."""
    both = [signal.SIGINT, signal.SIGTERM]
    return [number for number in both if signal.getsignal(number) is not signal.SIG_IGN]
