"""Checkpoints of cohorts in training, on the study's storage, so that any worker can resume them.

    <study>/checkpoints/<cohort>.json   network ids, in the cohort's order
    <study>/checkpoints/<cohort>.pt     the engine's state after an epoch

A cohort is saved every `resources.checkpoint_minutes` of training, and whenever the study stops.
The cohort of a lost worker resumes from its checkpoint; a new run forms the same cohorts again. The
files are deleted once the cohort's rows are written.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from study.execution import lease
from study.execution.signals import stop_requested
from study.results.folder import CHECKPOINTS, StudyFolder


@dataclass(frozen=True)
class CheckpointStore:
    """The `trainables.tune.Checkpointer` of a study; it is pickled, and workers use the copy.

    Attributes:
        folder: the study folder.
        token: the driver's token, as in `study.execution.lease`.
        every_s: seconds of training between two checkpoints of a cohort; None saves a cohort only
            when the study stops.
    """

    folder: StudyFolder
    token: str
    every_s: float | None

    def load(self, cohort_id: str) -> bytes | None:
        """The latest state of a cohort, or None."""
        return self.folder.read_bytes(f"{CHECKPOINTS}/{cohort_id}.pt")

    def save(self, cohort_id: str, network_ids: list[str], state: bytes) -> None:
        """Save a cohort's state in place of an earlier one.

        Args:
            cohort_id: the cohort.
            network_ids: its networks, in its order.
            state: the engine's state, serialised.

        Raises:
            study.execution.lease.LostLeaseError: this worker's driver no longer runs the study.
        """
        lease.check(self.folder, self.token)
        self.folder.write_bytes(f"{CHECKPOINTS}/{cohort_id}.pt", state)
        self.folder.write_bytes(f"{CHECKPOINTS}/{cohort_id}.json", json.dumps(network_ids).encode())

    def discard(self, cohort_id: str) -> None:
        """Delete a cohort's checkpoint, if there is one."""
        for suffix in ("json", "pt"):
            self.folder.delete(f"{CHECKPOINTS}/{cohort_id}.{suffix}")

    def stop_requested(self) -> bool:
        """Whether the study is to stop."""
        return stop_requested(self.folder, self.token)

    def cohorts(self) -> dict[str, list[str]]:
        """{cohort id: network ids} of the cohorts with a checkpoint.

        Files that this version cannot read are left out: such a cohort starts from the beginning.
        """
        cohorts = {}
        for name in self.folder.file_names(CHECKPOINTS):
            cohort_id, _, suffix = name.rpartition(".")
            if suffix == "json" and (network_ids := self._network_ids(name)):
                cohorts[cohort_id] = network_ids
        return cohorts

    def discard_all_but(self, cohort_ids: Collection[str]) -> None:
        """Delete all other checkpoints, and the temporary files of killed workers."""
        for name in self.folder.file_names(CHECKPOINTS):
            if name.rpartition(".")[0] not in cohort_ids:
                self.folder.delete(f"{CHECKPOINTS}/{name}")

    def _network_ids(self, name: str) -> list[str]:
        try:
            content = json.loads(self.folder.read_bytes(f"{CHECKPOINTS}/{name}") or b"[]")
        except ValueError:
            return []
        is_valid = isinstance(content, list) and all(isinstance(i, str) for i in content)
        return content if is_valid else []
