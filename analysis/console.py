"""What the commands have in common: how they print and how they complain."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from trainables.errors import BadInputError

out = Console(width=None if sys.stdout.isatty() else 160)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def print_json(value: Any) -> None:
    """JSON on standard output; NaN is refused."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=list))


def number(value: float) -> str:
    """A parameter's value as short as it can be."""
    return f"{value:g}"


def in_words(value: Any) -> str:
    """A table's cell: numbers short, what is missing as a dash."""
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def bad_input() -> Iterator[None]:
    """What the pure libraries say about their arguments is about what the user typed."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(str(error)) from error
