"""Errors that are a message for the user: one line, no traceback, an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = "interrupted; run the same command to go on"


class UserError(Exception):
    """The message is one line that says what, where and what is allowed or comes next."""

    exit_code = 1


class BadInputError(UserError):
    """What the user gave cannot be used; nothing was written."""

    exit_code = 2


class InterruptedByUserError(UserError):
    """The user stopped the program; what was finished is kept."""

    exit_code = 130


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`; allowed: a, b, c; did you mean b?`, to end a message about `word` with."""
    there = list(allowed)
    close = difflib.get_close_matches(word, there, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"; allowed: {', '.join(there)}{hint}"
