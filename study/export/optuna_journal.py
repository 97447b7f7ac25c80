"""A study's searches as an Optuna journal, for optuna-dashboard and Optuna's own plots."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend

from study.planning.open_study import open_study, replay_rows
from study.planning.scheduler import Scheduler
from trainables.errors import BadInputError


def export(uri: str, path: str, trust: bool = False) -> dict[str, int]:
    """Write one Optuna study per search: per arm of each cell, and per replicate.

    Args:
        uri: the study folder.
        path: the journal file to write.
        trust: whether the folder's study file may import `package.module:name`, which runs code.

    Returns:
        {name of the Optuna study: number of trials}

    Raises:
        BadInputError: the file exists.
        ResultsError: there is no study in the folder.
    """
    if Path(path).exists():
        raise BadInputError(f"{path}: this file exists; choose another name")
    folder, plan = open_study(uri, trust)
    scheduler = Scheduler(plan, replay_rows(folder))
    storage = optuna.storages.JournalStorage(JournalFileBackend(path))
    written = {}
    for search in scheduler.searches:
        name = f"{search.cell.cell_id} {search.arm.name}"
        if search.replicate is not None:
            name += f" replicate {search.replicate}"
        exported = optuna.create_study(study_name=name, storage=storage, direction="maximize")
        exported.set_metric_names([plan.config.search.value_column])
        for trial in search.optuna_trials():
            exported.add_trial(trial)
        written[name] = len(search.completed)
    return written
