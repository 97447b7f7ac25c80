"""Only one driver per study folder.

The driver of a study holds `.driver` in the study folder. On a disk it locks the file: a second
driver is refused, and the lock of a dead driver ends with its process. An object store has no
locks. There the driver renews the file every few seconds, and a second driver first waits to see
whether the content changes. It measures the wait with its own monotonic clock and never compares
the times of two machines.

A worker compares its token with the one in the file before it writes. A worker that outlives its
driver therefore cannot add rows to the next driver's run.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

import pyarrow.fs as pafs

from study.results.folder import StudyFolder
from trainables.errors import UserError

RENEWED_EVERY_S = 10.0
DEAD_AFTER_S = 35.0  # three renewals may fail or be late
_NAME = ".driver"


class StudyBusyError(UserError):
    """Another driver is running the study; the message is one line for the user."""


class LostLeaseError(Exception):
    """Another driver has taken over the study folder; this worker's rows must not be written."""


@dataclass(frozen=True)
class LeaseHolder:
    """The driver that holds a study folder: the content of `.driver`.

    Attributes:
        token: identifies the driver's run.
        pid: the driver's process.
        host: the driver's machine.
        started_utc: ISO time at which it took the folder.
        renewal: number of renewals so far; object stores only.
        released: whether the driver has ended regularly; object stores only.
    """

    token: str
    pid: int | None = None
    host: str | None = None
    started_utc: str | None = None
    renewal: int | None = None
    released: bool | None = None

    @classmethod
    def read(cls, folder: StudyFolder) -> LeaseHolder | None:
        """The holder of a folder; None if there is none, or the file is just being written."""
        try:
            content = json.loads(folder.read_bytes(_NAME) or b"{}")
        except ValueError:
            return None
        if not isinstance(content, dict) or "token" not in content:
            return None
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: content[name] for name in names if name in content})

    def to_json(self) -> bytes:
        """The content of `.driver`, without the fields that are None."""
        fields = dataclasses.asdict(self)
        return json.dumps({k: v for k, v in fields.items() if v is not None}).encode()


class Lease:
    """A driver's hold on a study folder, from construction to `release`.

    Args:
        folder: the study folder.
        renewed_every_s: seconds between two renewals; object stores only.
        dead_after_s: seconds without a renewal after which another driver takes over; object
            stores only.

    Attributes:
        token: identifies this driver's run.

    Raises:
        StudyBusyError: another driver holds the folder.
    """

    def __init__(
        self,
        folder: StudyFolder,
        renewed_every_s: float = RENEWED_EVERY_S,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self.token = uuid.uuid4().hex
        self._folder = folder
        self._locked_file: IO[bytes] | None = None
        self._released = threading.Event()
        self._renewer: threading.Thread | None = None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = LeaseHolder(self.token, os.getpid(), platform.node(), started)
        if isinstance(folder.filesystem, pafs.LocalFileSystem):
            self._lock()
        else:
            self._take(renewed_every_s, dead_after_s)

    def release(self) -> None:
        """Release the folder. The file stays, because late workers compare their token with it."""
        if self._locked_file is not None:
            self._locked_file.close()
        if self._renewer is not None:
            self._released.set()
            self._renewer.join()
            if _holds(self._folder, self.token):
                self._write(dataclasses.replace(self._holder, released=True))

    def _lock(self) -> None:
        # The file stays open until `release`.
        self._locked_file = open(self._folder.file(_NAME), "a+b")  # noqa: SIM115
        try:
            fcntl.flock(self._locked_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._locked_file.close()
            raise StudyBusyError(_busy(self._folder)) from None
        self._locked_file.truncate(0)
        self._locked_file.write(self._holder.to_json())
        self._locked_file.flush()

    def _take(self, renewed_every_s: float, dead_after_s: float) -> None:
        """Take a folder whose holder does not renew its lease, and start to renew."""
        before, holder = self._folder.read_bytes(_NAME), LeaseHolder.read(self._folder)
        if before is not None and not (holder and holder.released):
            end = time.monotonic() + dead_after_s
            while time.monotonic() < end:
                time.sleep(min(1.0, renewed_every_s))
                if self._folder.read_bytes(_NAME) != before:
                    raise StudyBusyError(_busy(self._folder))
        self._write(dataclasses.replace(self._holder, renewal=0))
        # If two drivers get here at the same time, the later writer wins; the other reads its token
        # after this pause and raises `StudyBusyError`.
        time.sleep(min(2.0, renewed_every_s))
        if not _holds(self._folder, self.token):
            raise StudyBusyError(_busy(self._folder))
        self._renewer = threading.Thread(target=self._renew, args=(renewed_every_s,), daemon=True)
        self._renewer.start()

    def _renew(self, every_s: float) -> None:
        renewal = 0
        while not self._released.wait(every_s):
            try:
                if not _holds(self._folder, self.token):
                    return  # another driver has taken over: our workers check before they write
                renewal += 1
                self._write(dataclasses.replace(self._holder, renewal=renewal))
            except OSError:
                continue  # the store cannot be reached now; the next renewal may succeed

    def _write(self, holder: LeaseHolder) -> None:
        self._folder.write_bytes(_NAME, holder.to_json())


def check(folder: StudyFolder, token: str) -> None:
    """Check that the driver with `token` still holds the folder.

    Raises:
        LostLeaseError: another driver, or none, holds it.
    """
    if not _holds(folder, token):
        raise LostLeaseError(f"{folder.uri}: another driver has taken over this study")


def _holds(folder: StudyFolder, token: str) -> bool:
    holder = LeaseHolder.read(folder)
    return holder is not None and holder.token == token


def _busy(folder: StudyFolder) -> str:
    holder = LeaseHolder.read(folder)
    if holder is None or holder.pid is None:
        driver = "another process"
    else:
        driver = f"process {holder.pid} on {holder.host} since {holder.started_utc}"
    return f"{folder.uri}: this study is being run by {driver}; wait for it or stop it first"
