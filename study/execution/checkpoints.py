"""Cohorts in training, kept on the study's storage so that they can go on elsewhere.

    <study>/checkpoints/<cohort>.json   network ids, in the cohort's order
    <study>/checkpoints/<cohort>.pt     the engine's state after an epoch

A cohort that trains for longer than `resources.checkpoint_minutes` is kept that often, and all are
when the study is asked to stop. A lost worker's cohort goes on from there; a new run puts the same
networks together again. The files go when the cohort's rows are written.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from study.execution import lease
from study.execution.signals import stop_wanted
from study.results.folder import StudyFolder

_ROOM = "checkpoints"


@dataclass(frozen=True)
class CheckpointStore:
    """Pickled to workers, and used there.

    Parameters
    ----------
    token: the driver's, as in `study.execution.lease`.
    every_s: seconds of training between two checkpoints of a cohort; None keeps none but when the
        study is asked to stop.
    """

    folder: StudyFolder
    token: str
    every_s: float | None

    def load(self, cohort_id: str) -> bytes | None:
        """The latest state of a cohort, or None."""
        return self.folder.read_bytes(f"{_ROOM}/{cohort_id}.pt")

    def save(self, cohort_id: str, network_ids: list[str], state: bytes) -> None:
        """Keep a cohort's state in place of an earlier one.

        Raises
        ------
        study.execution.lease.LostLeaseError: this worker's driver no longer runs the study.
        """
        lease.check(self.folder, self.token)
        self.folder.write_bytes(f"{_ROOM}/{cohort_id}.pt", state)
        self.folder.write_bytes(f"{_ROOM}/{cohort_id}.json", json.dumps(network_ids).encode())

    def discard(self, cohort_id: str) -> None:
        """Forget a cohort, which need not be here."""
        for ending in ("json", "pt"):
            self.folder.delete(f"{_ROOM}/{cohort_id}.{ending}")

    def stop_wanted(self) -> bool:
        """Whether the study has been asked to stop."""
        return stop_wanted(self.folder, self.token)

    def begun(self) -> dict[str, list[str]]:
        """{cohort_id: network ids} of the cohorts that are kept."""
        found = {}
        for name in self.folder.file_names(_ROOM):
            cohort_id, _, ending = name.rpartition(".")
            content = self.folder.read_bytes(f"{_ROOM}/{name}") if ending == "json" else None
            if content is not None:
                found[cohort_id] = [str(i) for i in json.loads(content)]
        return found

    def discard_all_but(self, cohort_ids: Collection[str]) -> None:
        """Forget what is of no more use, and what a killed worker left half-written."""
        for name in self.folder.file_names(_ROOM):
            if name.rpartition(".")[0] not in cohort_ids:
                self.folder.delete(f"{_ROOM}/{name}")
