"""Errors that are a message for the user: one line, no traceback, an exit code."""

from __future__ import annotations


class UserError(Exception):
    """The message is one line that says what, where and what is allowed or comes next."""

    exit_code = 1


class BadInputError(UserError):
    """What the user gave cannot be used; nothing was written."""

    exit_code = 2


class InterruptedByUserError(UserError):
    """The user stopped the program; what was finished is kept."""

    exit_code = 130
