"""Stopping a study on a signal: cohorts finish their epoch, are saved, and the study ends."""

from __future__ import annotations

import os
import signal
import threading

from study.results.folder import StudyFolder
from trainables.errors import INTERRUPTED, InterruptedByUserError

_FILE = ".stop"
_LONGEST_WAIT_S = 25.0  # after SIGTERM, which SIGKILL usually follows soon


class StopListener:
    """Listens to SIGINT and SIGTERM while a study runs.

    The first signal tells the workers, through a file in the study folder, to save their cohorts at
    the end of the epoch. A second signal ends this process at once, and so does a long wait after
    SIGTERM. The tables on storage are consistent at every moment.

    Args:
        folder: the study folder.
        token: the driver's token, as in `study.execution.lease`.

    Attributes:
        stop_requested: whether a signal has arrived.
    """

    def __init__(self, folder: StudyFolder, token: str) -> None:
        self.stop_requested = False
        self._folder, self._token = folder, token

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

    def request_stop(self) -> None:
        """Tell the workers of this driver to stop."""
        self._folder.write_bytes(_FILE, self._token.encode())


def stop_requested(folder: StudyFolder, token: str) -> bool:
    """Whether the driver with `token` has told its workers to stop."""
    return folder.read_bytes(_FILE) == token.encode()


def _exit() -> None:
    os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
    os._exit(InterruptedByUserError.exit_code)
