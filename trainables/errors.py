"""Errors that carry a one-line message for the user and an exit code.

This is the lowest module of the project: every package may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = "interrupted; run the same command to go on"


class UserError(Exception):
    """An error with a one-line message: what is wrong, where, and what is allowed or to be done.

    Attributes:
        exit_code: exit code of the command that fails with it.
    """

    exit_code = 1


class BadInputError(UserError):
    """The input cannot be used; nothing was written."""

    exit_code = 2


class InterruptedByUserError(UserError):
    """The user stopped the program; finished networks are kept."""

    exit_code = 130


class MissingExtraError(UserError):
    """A command needs an optional dependency that is not installed.

    Args:
        what: the command or feature that needs it.
        module: the module that cannot be imported.
        extra: the extra of this package that installs it.
    """

    exit_code = 2

    def __init__(self, what: str, module: str, extra: str) -> None:
        super().__init__(
            f"{what} needs {module}, which is not installed: "
            f"pip install 'logit-bias-study[{extra}]'"
        )


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown word.

    Args:
        word: what the user wrote.
        allowed: the words that are allowed.

    Example:
        >>> did_you_mean("sgdd", ["sgd", "adamw"])
        '; allowed: sgd, adamw; did you mean sgd?'

    Returns:
        `; allowed: a, b, c` (`none` where nothing is allowed) and, where one of them is close,
        `; did you mean b?`.
    """
    words = list(allowed)
    close = difflib.get_close_matches(word, words, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"; allowed: {', '.join(words) or 'none'}{hint}"
