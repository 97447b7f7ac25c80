"""Stopping a study on a signal: cohorts finish their epoch, are saved, and the study ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from study.results.folder import StudyFolder
from trainables.errors import INTERRUPTED, InterruptedByUserError

_FILE = ".stop"
_LONGEST_WAIT_S = 25.0  # after SIGTERM, which SIGKILL usually follows soon
_CHECK_S = 0.01


class StopListener:
    """Listens to SIGINT and SIGTERM while a study runs.

    The first signal tells the workers, through a file in the study folder, to save their cohorts at
    the end of the epoch. A second signal ends this process at once; after SIGTERM, so does a long
    wait or the end of Ray's node. The tables on storage are consistent at every moment.

    Args:
        folder: the study folder.
        token: the driver's token, as in `study.execution.lease`.

    Attributes:
        stop_requested: whether a signal has arrived.
    """

    def __init__(self, folder: StudyFolder, token: str) -> None:
        self.stop_requested = False
        self._folder, self._token = folder, token
        self._ended = threading.Event()

    def close(self) -> None:
        """Ray is about to be shut down; nothing waits for the workers any more."""
        self._ended.set()

    def listen(self) -> None:
        """Handle the signals, except those that the parent process ignores (`nohup`)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, _: object) -> None:
        if self.stop_requested:
            _exit()
        self.stop_requested = True
        os.write(2, b"stopping when the epochs in training end; once more to stop at once\n")
        # In a thread, because a handler can interrupt any code, such as a write to this folder.
        threading.Thread(target=self.request_stop, daemon=True).start()
        if number == signal.SIGTERM:
            timer = threading.Timer(_LONGEST_WAIT_S, _exit)
            timer.daemon = True
            timer.start()
            threading.Thread(target=self._exit_with_ray, daemon=True).start()

    def _exit_with_ray(self) -> None:
        """End this process where the signal has ended Ray's node on this machine, too.

        Its workers end with it. Ray would end this process without a word, and as a failure.
        """
        nodes = [pid for pid in _children() if _name_and_state(pid)[0] == "raylet"]
        while nodes and all(_name_and_state(pid)[1] not in "ZX" for pid in nodes):
            if self._ended.wait(_CHECK_S):
                return
        if nodes:
            _exit()

    def request_stop(self) -> None:
        """Tell the workers of this driver to stop."""
        self._folder.write_bytes(_FILE, self._token.encode())


def stop_requested(folder: StudyFolder, token: str) -> bool:
    """Whether the driver with `token` has told its workers to stop."""
    return folder.read_bytes(_FILE) == token.encode()


def _children() -> list[int]:
    """Processes that this one started; none where the system has no /proc."""
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []


def _name_and_state(pid: int) -> tuple[str, str]:
    """Name and state of a process; the state of one that has ended is X."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "", "X"
    return name, rest.split()[0]


def _exit() -> None:
    os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
    os._exit(InterruptedByUserError.exit_code)
