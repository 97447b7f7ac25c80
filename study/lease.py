"""One driver a study folder.

The driver of a study holds `.driver` in the study folder. On a disk the file is locked, so that a
second driver refuses and a dead driver's hold ends with its process. Workers compare the token in
it with their own before they write, so a worker that outlives its driver cannot add rows beside
the next driver's.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import uuid
from datetime import UTC, datetime
from typing import IO

import pyarrow.fs as pafs

from study.errors import UserError
from study.results import StudyFolder

_NAME = ".driver"


class StudyBusyError(UserError):
    """Another driver is at work in the study folder; the message is one line for the user."""


class LostLeaseError(Exception):
    """The study folder has another driver by now; this worker's rows must not be written."""


class Lease:
    """A driver's hold on a study folder, from construction to `release`.

    Raises
    ------
    StudyBusyError: another driver holds it.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self.token = uuid.uuid4().hex
        self._folder = folder
        self._locked: IO[bytes] | None = None
        content = json.dumps(
            {
                "token": self.token,
                "pid": os.getpid(),
                "host": platform.node(),
                "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        ).encode()
        if isinstance(folder.filesystem, pafs.LocalFileSystem):
            self._locked = open(folder.file(_NAME), "a+b")  # noqa: SIM115 (held until release)
            try:
                fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._locked.close()
                raise StudyBusyError(_busy(folder)) from None
            self._locked.truncate(0)
            self._locked.write(content)
            self._locked.flush()
        else:
            folder.write_bytes(_NAME, content)

    def release(self) -> None:
        """Let go of the folder. The file stays: its token keeps late workers out."""
        if self._locked is not None:
            self._locked.close()


def check(folder: StudyFolder, token: str) -> None:
    """Make sure that the driver with `token` still holds the folder.

    Raises
    ------
    LostLeaseError: it does not.
    """
    content = folder.read_bytes(_NAME)
    if content is None or json.loads(content)["token"] != token:
        raise LostLeaseError(f"{folder.uri}: another driver has taken over this study")


def _busy(folder: StudyFolder) -> str:
    try:
        holder = json.loads(folder.read_bytes(_NAME) or b"")
        who = f"process {holder['pid']} on {holder['host']} since {holder['started_utc']}"
    except (ValueError, KeyError):
        who = "another process"
    return f"{folder.uri}: this study is being run by {who}; wait for it or stop it first"
