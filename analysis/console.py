"""How commands print results and errors: tables, strict JSON, one-line messages."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from trainables.errors import BadInputError

out = Console(width=None if sys.stdout.isatty() else 160, markup=False)  # names are plain text
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def print_json(value: Any) -> None:
    """Print strict JSON (RFC 8259) on standard output; see `strict`."""
    print(json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False))


def strict(value: Any) -> Any:
    """Convert a value to the types that strict JSON has.

    Args:
        value: numbers, text, None, mappings, sequences, sets and dataclasses, nested.

    Returns:
        the same value, made of dict, list, str, int, float, bool and None. Numbers that are not
        finite become None: an infinite bound of a parameter is no bound, and NaN is a missing
        value.

    Raises:
        TypeError: a value of another type.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{type(value).__name__} is not a JSON value")


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn a ValueError of the libraries into an error about what the user typed."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(str(error)) from error
