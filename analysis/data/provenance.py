"""Where the rows of a study come from: code, libraries, machines, times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.load import Study
from analysis.records import Record
from study.results.schema import STAGES, Status


@dataclass(frozen=True)
class StudyProvenance(Record):
    """Where the rows of a study come from.

    Attributes:
        study: the study's name.
        networks: {stage: number of networks}.
        diverged: {stage: number of networks that diverged}.
        config_sha256: hashes of the study files.
        git_commit: commits of the code.
        git_dirty: whether a row comes from code with uncommitted changes.
        versions: JSON texts with the versions of the libraries.
        device: devices that trained.
        host: machines that trained.
        started_utc: start of the first training, ISO 8601; None where unknown.
        finished_utc: end of the last training, ISO 8601; None where unknown.
        worker_hours: training time summed over cohorts, in hours.
    """

    study: str
    networks: dict[str, int]
    diverged: dict[str, int]
    config_sha256: list[str]
    git_commit: list[str]
    git_dirty: bool
    versions: list[str]
    device: list[str]
    host: list[str]
    started_utc: str | None
    finished_utc: str | None
    worker_hours: float


def provenance(study: Study) -> StudyProvenance:
    """Where the rows of a study come from.

    Args:
        study: as loaded.
    """
    trials = study.trials
    hours = (trials["wall_s"] / trials["networks_in_cohort"].clip(lower=1)).sum() / 3600
    diverged = trials["status"] == Status.DIVERGED
    in_stage = {stage.value: trials["stage"] == stage for stage in STAGES}
    return StudyProvenance(
        study=study.name,
        networks={stage: int(rows.sum()) for stage, rows in in_stage.items()},
        diverged={stage: int((rows & diverged).sum()) for stage, rows in in_stage.items()},
        config_sha256=_distinct(trials["config_sha256"]),
        git_commit=_distinct(trials["git_commit"]),
        git_dirty=bool(trials["git_dirty"].fillna(False).astype(bool).any()),
        versions=_distinct(trials["versions"]),
        device=_distinct(trials["device"]),
        host=_distinct(trials["host"]),
        started_utc=_isoformat(trials["started_utc"].min()),
        finished_utc=_isoformat(trials["finished_utc"].max()),
        worker_hours=float(np.nan_to_num(hours)),
    )


def _distinct(column: pd.Series[Any]) -> list[str]:
    return sorted(str(value) for value in column.dropna().unique())


def _isoformat(time: pd.Timestamp) -> str | None:
    return None if pd.isna(time) else time.isoformat()
