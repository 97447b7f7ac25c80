"""A study that is asked to stop: cohorts finish their epoch and are kept, then it ends."""

from __future__ import annotations

import os
import signal
import threading

from study.results.folder import StudyFolder
from trainables.errors import INTERRUPTED, InterruptedByUserError

_FILE = ".stop"
_PATIENCE_S = 25.0  # whoever sends SIGTERM will kill before long


class Stopper:
    """Listens to SIGINT and SIGTERM while a study runs.

    The first asks the workers, through a file in the study folder, to keep their cohorts at the end
    of the epoch. A second one ends this process at once, and so does waiting too long after
    SIGTERM; parquet is whole at every moment.
    """

    def __init__(self, folder: StudyFolder, token: str) -> None:
        self.wanted = False
        self._folder, self._token = folder, token

    def listen(self) -> None:
        """Take the signals, but for one that our parent chose to ignore (`nohup`)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._heard)

    def _heard(self, number: int, _: object) -> None:
        if self.wanted:
            _end()
        self.wanted = True
        os.write(2, b"stopping when the epochs in training end; once more to stop at once\n")
        # Not here: a signal may come in the middle of anything.
        threading.Thread(target=self._ask_workers, daemon=True).start()
        if number == signal.SIGTERM:
            patience = threading.Timer(_PATIENCE_S, _end)
            patience.daemon = True
            patience.start()

    def _ask_workers(self) -> None:
        self._folder.write_bytes(_FILE, self._token.encode())


def stop_wanted(folder: StudyFolder, token: str) -> bool:
    """Whether the driver with `token` has been asked to stop."""
    return folder.read_bytes(_FILE) == token.encode()


def _end() -> None:
    os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
    os._exit(InterruptedByUserError.exit_code)
