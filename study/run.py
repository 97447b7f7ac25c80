"""Run a study: one Ray Tune experiment that starts from, and adds to, the study folder."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study import lease, provenance
from study.campaign import Campaign
from study.config import StudyConfig
from study.errors import INTERRUPTED, BadInputError, InterruptedByUserError, UserError
from study.plan import Plan, data_spec, make_plan, needs_measured_logits
from study.progress import Progress
from study.results import STAGES, ResultsError, StudyFolder
from study.status import PLAN_FILE
from study.study_file import StudyFileError, parse_study, sha256
from study.writer import PartWriter
from trainables import noise

_LAUNCHES = 3  # Ray experiments in a row that may end early without a single new network
_OBJECT_STORE_BYTES = 100 * 2**20  # cohorts and their metrics are small; the data is not in it
_LARGEST_COHORT = 32
_STOP_SECONDS = 20.0  # how long Tune may take to stop after SIGTERM
_COMPACT_FROM = 64  # part files of a stage; fewer are read fast enough as they are
_COMPACT_EVERY = 500  # cohorts, within a run

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # parquet is the only record
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old output can be silenced
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class StudyFailedError(UserError):
    """A study that could not go on; the message is one line for the user."""


class StudyInterruptedError(InterruptedByUserError):
    """The user stopped the study; what was finished is on storage."""


@dataclass(frozen=True)
class Machines:
    """What Ray offers: how many cohorts at a time, and what each is given."""

    workers: int
    gpus_per_cohort: float


def folder_of(config: StudyConfig) -> StudyFolder:
    """The study's folder; a local path is made absolute, because workers have other folders."""
    uri = config.folder_uri
    return StudyFolder(uri if "://" in uri else str(Path(uri).resolve()))


def plan_of(config: StudyConfig) -> Plan:
    """The study's plan, with initial logits measured where an arm asks for it."""
    if needs_measured_logits(config):
        from study.measure import initial_logits

        return make_plan(config, initial_logits(config))
    return make_plan(config)


def open_study(uri: str) -> tuple[StudyFolder, Plan]:
    """A study folder, as a path or URI, with the plan of the study in it.

    Raises
    ------
    ResultsError: there is no study in the folder.
    """
    folder = StudyFolder(uri if "://" in uri else str(Path(uri).resolve()))
    content = folder.read_bytes("study.yaml")
    if content is None:
        raise ResultsError(f"{uri}: no study here (study.yaml is missing)")
    return folder, plan_of(parse_study(content, folder.file("study.yaml")))


def plan_summary(plan: Plan) -> dict[str, Any]:
    """What `status` wants to know of a plan."""
    return {
        "study": plan.config.name,
        "value_column": plan.config.search.value_column,
        "networks": plan.networks(),
        "cells": [
            {
                "cell_id": cell.cell_id,
                "budget": plan.config.search.networks_per_cell * len(arms),
                "loss_is_searched": cell.loss is None,
                "takes_epsilon": cell.takes_epsilon,
            }
            for cell, arms in plan.arms.items()
        ],
    }


def replay_rows(folder: StudyFolder, config: StudyConfig) -> list[dict[str, Any]]:
    """The rows of `trials`, with the columns from which a campaign is rebuilt."""
    columns = ["schema_version", "network_id", "stage", "cell_id", "arm", "point", "loss"]
    columns += ["loss_params", "epsilon", "lr", "epochs", "status", "finished_utc"]
    return folder.read("trials", columns=[*columns, config.search.value_column]).to_pylist()


def check_folder(folder: StudyFolder, config: StudyConfig, content: bytes) -> None:
    """Make sure that the folder is new or holds this study.

    Raises
    ------
    StudyFileError: the study in the folder differs in something that decides a row.
    """
    earlier = folder.read_bytes("study.yaml")
    if earlier is None or earlier == content:
        return
    free = {"storage", "resources"}
    other = parse_study(earlier, folder.file("study.yaml"))
    keys = _differences(other.model_dump(exclude=free), config.model_dump(exclude=free))
    if keys:
        raise StudyFileError(
            f"{folder.uri} holds a study from another study file (differs in {', '.join(keys)}); "
            "give this one another name"
        )


def run_study(
    config: StudyConfig,
    content: bytes,
    *,
    stages: Iterable[str] = STAGES,
    address: str | None = None,
    progress: Progress | None = None,
) -> StudyFolder:
    """Train every network that the study still lacks, and return the study's folder.

    Parameters
    ----------
    content: the study file as read; it is kept in the folder, and its hash in every row.
    address: a running Ray cluster; None starts Ray on this machine for the study alone.

    Raises
    ------
    StudyFileError: the folder holds a study from another study file.
    study.lease.StudyBusyError: another driver is running this study.
    StudyFailedError: networks failed repeatedly.
    StudyInterruptedError: SIGINT; running again goes on.
    """
    folder = folder_of(config)
    check_folder(folder, config, content)
    _check_data(config)
    plan = plan_of(config)
    folder.filesystem.create_dir(folder.path, recursive=True)
    held = lease.Lease(folder)
    try:
        folder.discard_uncommitted()
        _compact(folder)
        if not folder.exists():
            folder.write_bytes("study.yaml", content)
        folder.write_bytes(PLAN_FILE, json.dumps(plan_summary(plan)).encode())
        kept = folder.read_bytes("study.yaml") or content
        writer = PartWriter(folder, held.token, sha256(kept), provenance.collect())
        with progress or Progress() as shown:
            _run(plan, folder, writer, tuple(stages), address, shown)
        _compact(folder)
    finally:
        held.release()
    return folder


def _check_data(config: StudyConfig) -> None:
    """Load every data set and noise once, here, where a missing file is one line for the user."""
    for dataset in config.grid.dataset:
        try:
            loaded = data_spec(dataset).load()
            for kind in config.grid.noise:
                noise.apply(loaded, kind.kind, kind.rate, 0, root=dataset.root, **kind.options)
        except ValueError as error:
            raise BadInputError(str(error)) from error


def _run(
    plan: Plan,
    folder: StudyFolder,
    writer: PartWriter,
    stages: tuple[str, ...],
    address: str | None,
    progress: Progress,
) -> None:
    """Launch experiments until nothing is due.

    Some events (an out-of-memory kill, a lost node at a bad moment) end a whole Tune experiment.
    Each launch starts from the rows on storage, so another launch simply goes on.
    """
    import ray

    def campaign(workers: int) -> Campaign:
        rows = replay_rows(folder, plan.config)
        largest = plan.config.resources.networks_per_cohort or _LARGEST_COHORT
        return Campaign(plan, rows, workers=workers, largest_cohort=largest, stages=stages)

    before = campaign(1)
    if before.lacks_search:
        raise BadInputError("--stage confirm: the search is not finished; add --stage search")
    if before.is_done:
        progress.say(f"{before.networks_done} networks are trained; nothing is left to do")
        return
    machines = _start_ray(plan.config, address)
    idle_launches, done = 0, before.networks_done
    try:
        while True:
            current = campaign(machines.workers)
            if current.is_done:
                return
            idle_launches = 0 if current.networks_done > done else idle_launches + 1
            if idle_launches > _LAUNCHES:
                raise StudyFailedError(
                    f"{folder.uri}: {_LAUNCHES} launches in a row trained nothing; "
                    "run again to go on"
                )
            done = current.networks_done
            _launch(current, writer, machines, progress)
    finally:
        ray.shutdown()


def _launch(campaign: Campaign, writer: PartWriter, machines: Machines, progress: Progress) -> None:
    """One Ray Tune experiment over everything that is due."""
    from ray import tune

    from study.tune_search import CohortSearcher
    from trainables.tune import train_cohort

    def now_and_then(cohorts_done: int) -> None:
        if cohorts_done % _COMPACT_EVERY == 0:
            _compact(writer.folder)

    searcher = CohortSearcher(campaign, progress, after_cohort=now_and_then)
    trainable = tune.with_resources(
        tune.with_parameters(train_cohort, write=writer),
        {"cpu": 1, "gpu": machines.gpus_per_cohort},
    )
    with tempfile.TemporaryDirectory(prefix="logit-bias-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=machines.workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=campaign.plan.config.name,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
        try:
            found = tuner.fit()
        except Exception as error:  # Ray raises RuntimeError, TuneError and more for lost workers
            progress.say(f"Ray Tune ended early ({_last_line(error)}); going on")
            return
    if searcher.failure:
        reason = f": {_last_line(found.errors[-1])}" if found.errors else ""
        raise StudyFailedError(f"{searcher.failure}{reason}; finished networks are kept")
    if not campaign.is_done:
        raise StudyInterruptedError(
            f"stopped with {campaign.networks_done} of {campaign.networks_total} networks trained; "
            "run the same command to go on"
        )


def _compact(folder: StudyFolder) -> None:
    for stage in STAGES:
        folder.compact(stage, at_least=_COMPACT_FROM)


def _stop(*_: object) -> None:
    """SIGTERM: let Tune stop by itself as at Ctrl-C, but not for ever.

    A signal to the whole process group has killed Ray's daemons too, and its driver then waits a
    minute for them. Parquet is whole at every moment, so the process may simply end.
    """

    def end() -> None:
        os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
        os._exit(InterruptedByUserError.exit_code)

    patience = threading.Timer(_STOP_SECONDS, end)
    patience.daemon = True
    patience.start()
    signal.raise_signal(signal.SIGINT)


def _start_ray(config: StudyConfig, address: str | None) -> Machines:
    import logging

    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        ray.init(address=address, **settings)
    else:
        # "local" never joins a cluster that happens to run here, and takes all of this machine.
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **settings,
        )
    signal.signal(signal.SIGTERM, _stop)
    # What goes wrong is told in one line at the end; tracebacks stay in Ray's session logs.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.air").setLevel(logging.CRITICAL)
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 1)), there.get("GPU", 0.0)
    share = config.resources.gpus_per_cohort
    if share is None:
        share = 1.0 if gpus else 0.0
    if address and config.resources.workers and config.resources.gpus_per_cohort is not None:
        # A cluster that grows on demand has no workers yet; cohorts that wait bring them.
        return Machines(config.resources.workers, share)
    if share > gpus:
        ray.shutdown()
        raise StudyFailedError(
            f"resources.gpus_per_cohort = {share:g}: Ray has {gpus:g} GPUs here; for a cluster "
            "that grows on demand say resources.workers too"
        )
    workers = min(cpus, int(gpus / share)) if share else cpus
    return Machines(max(1, min(workers, config.resources.workers or workers)), share)


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        return found
    return [] if old == new else [path]


def _last_line(error: BaseException, longest: int = 200) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:longest] if lines else type(error).__name__
