"""Writes the rows of trained networks into the study folder; runs in the workers."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from study.execution import lease
from study.results.folder import StudyFolder
from study.results.provenance import Provenance
from study.results.schema import NEED_CORRECT_LABELS, SCHEMA_VERSION, Stage
from trainables import noise
from trainables.engine.results import MemberResult


@dataclass(frozen=True)
class ResultWriter:
    """The `trainables.tune.RowWriter` of a study; it is pickled, and workers call the copy.

    Attributes:
        folder: the study folder.
        token: the driver's token, as in `study.execution.lease`.
        config_sha256: hash of the study file.
        provenance: code and libraries of the run.
    """

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
        """Write the rows of one cohort as one part file per table.

        Args:
            config: the Tune trial's configuration, as `CohortSearcher.suggest` makes it.
            results: one per network, in the order of `config["identity"]`.
            device: the name of the device that trained the cohort.
            started: when training started.

        Raises:
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
        trials, epochs = [], []
        for identity, result in zip(config["identity"], results, strict=True):
            kind = identity["noise_kind"]
            trials.append(
                {**common, **identity, **null_where_unknown(result.metrics.to_row(), kind)}
            )
            epochs += [null_where_unknown(epoch.to_row(), kind) for epoch in result.epochs]
        lease.check(self.folder, self.token)
        self.folder.write_part(Stage(config["stage"]), config["cohort_id"], trials, epochs)


def null_where_unknown(row: Mapping[str, Any], noise_kind: str) -> dict[str, Any]:
    """A row without the numbers that need correct labels where those are unknown.

    Training compares with the data set's own labels; where these may be wrong, such a number must
    not be called clean accuracy.

    Args:
        row: of `trials` or `epochs`.
        noise_kind: of its network.
    """
    if noise.get(noise_kind).truth_is_known:
        return dict(row)
    return {name: None if name in NEED_CORRECT_LABELS else value for name, value in row.items()}
