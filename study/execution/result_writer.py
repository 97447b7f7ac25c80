"""What a worker does with trained networks: whole rows into one part file."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from study.execution import lease
from study.results.folder import StudyFolder
from study.results.provenance import Provenance
from study.results.schema import SCHEMA_VERSION
from trainables.engine.trainer import MemberResult


@dataclass(frozen=True)
class ResultWriter:
    """Writes a cohort's rows; pickled to workers, and called there."""

    folder: StudyFolder
    token: str
    config_sha256: str
    provenance: Provenance

    def __call__(
        self,
        config: Mapping[str, Any],
        results: list[MemberResult],
        device: str,
        started: datetime,
    ) -> None:
        """Write the rows of `results`; `config` is the Tune trial's.

        Raises
        ------
        study.execution.lease.LostLeaseError: this worker's driver no longer runs the study.
        """
        common = {
            "schema_version": SCHEMA_VERSION,
            "cohort_id": config["cohort_id"],
            "device": device,
            "host": platform.node(),
            "started_utc": started,
            "finished_utc": datetime.now(UTC),
            "config_sha256": self.config_sha256,
            "git_commit": self.provenance.git_commit,
            "git_dirty": self.provenance.git_dirty,
            "versions": self.provenance.versions,
        }
        trials = [
            {**common, **identity, **result.metrics}
            for identity, result in zip(config["identity"], results, strict=True)
        ]
        epochs = [row for result in results for row in result.epochs]
        lease.check(self.folder, self.token)
        self.folder.write_part(config["stage"], config["cohort_id"], trials, epochs)
