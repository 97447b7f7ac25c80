"""One driver a study folder.

The driver of a study holds `.driver` in the study folder. On a disk the file is locked, so that a
second driver refuses and a dead driver's hold ends with its process. An object store has no locks:
there the driver renews the file every few seconds, and a second driver first watches whether that
happens. It watches by its own monotonic clock, and compares contents, never times of two machines.

Workers compare the token in the file with their own before they write, so a worker that outlives
its driver cannot add rows beside the next driver's.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import IO, Any

import pyarrow.fs as pafs

from study.results.folder import StudyFolder
from trainables.errors import UserError

RENEWED_EVERY_S = 10.0
DEAD_AFTER_S = 35.0  # three renewals may fail or be late
_NAME = ".driver"


class StudyBusyError(UserError):
    """Another driver is at work in the study folder; the message is one line for the user."""


class LostLeaseError(Exception):
    """The study folder has another driver by now; this worker's rows must not be written."""


class Lease:
    """A driver's hold on a study folder, from construction to `release`.

    Parameters
    ----------
    renewed_every_s, dead_after_s: on object stores, how often the hold is renewed, and how long it
        must not have been before another driver takes it over.

    Raises
    ------
    StudyBusyError: another driver holds it.
    """

    def __init__(
        self,
        folder: StudyFolder,
        renewed_every_s: float = RENEWED_EVERY_S,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self.token = uuid.uuid4().hex
        self._folder = folder
        self._locked: IO[bytes] | None = None
        self._released = threading.Event()
        self._renewer: threading.Thread | None = None
        self._content: dict[str, Any] = {
            "token": self.token,
            "pid": os.getpid(),
            "host": platform.node(),
            "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if isinstance(folder.filesystem, pafs.LocalFileSystem):
            self._lock()
        else:
            self._take(renewed_every_s, dead_after_s)

    def release(self) -> None:
        """Let go of the folder. The file stays: its token keeps late workers out."""
        if self._locked is not None:
            self._locked.close()
        if self._renewer is not None:
            self._released.set()
            self._renewer.join()
            if _holder(self._folder).get("token") == self.token:
                self._write(released=True)

    def _lock(self) -> None:
        self._locked = open(self._folder.file(_NAME), "a+b")  # noqa: SIM115 (held until release)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._locked.close()
            raise StudyBusyError(_busy(self._folder)) from None
        self._locked.truncate(0)
        self._locked.write(json.dumps(self._content).encode())
        self._locked.flush()

    def _take(self, renewed_every_s: float, dead_after_s: float) -> None:
        """Take a folder whose holder is not renewing, and start to renew."""
        before = self._folder.read_bytes(_NAME)
        if before is not None and not _holder(self._folder).get("released"):
            end = time.monotonic() + dead_after_s
            while time.monotonic() < end:
                time.sleep(min(1.0, renewed_every_s))
                if self._folder.read_bytes(_NAME) != before:
                    raise StudyBusyError(_busy(self._folder))
        self._write(renewal=0)
        # Of two drivers that get here together the later writer wins, and the other sees it.
        time.sleep(min(2.0, renewed_every_s))
        if _holder(self._folder).get("token") != self.token:
            raise StudyBusyError(_busy(self._folder))
        self._renewer = threading.Thread(target=self._renew, args=(renewed_every_s,), daemon=True)
        self._renewer.start()

    def _renew(self, every_s: float) -> None:
        renewal = 0
        while not self._released.wait(every_s):
            try:
                if _holder(self._folder).get("token") != self.token:
                    return  # taken over: our workers notice before they write
                renewal += 1
                self._write(renewal=renewal)
            except OSError:
                continue  # the store is away; the next renewal may reach it

    def _write(self, **more: Any) -> None:
        self._folder.write_bytes(_NAME, json.dumps({**self._content, **more}).encode())


def check(folder: StudyFolder, token: str) -> None:
    """Make sure that the driver with `token` still holds the folder.

    Raises
    ------
    LostLeaseError: it does not.
    """
    if _holder(folder).get("token") != token:
        raise LostLeaseError(f"{folder.uri}: another driver has taken over this study")


def _holder(folder: StudyFolder) -> dict[str, Any]:
    """What the holder says of itself; empty where there is none, or it is just being written."""
    try:
        found = json.loads(folder.read_bytes(_NAME) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _busy(folder: StudyFolder) -> str:
    holder = _holder(folder)
    try:
        who = f"process {holder['pid']} on {holder['host']} since {holder['started_utc']}"
    except KeyError:
        who = "another process"
    return f"{folder.uri}: this study is being run by {who}; wait for it or stop it first"
