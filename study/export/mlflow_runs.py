"""A study as an MLflow experiment, through MLflow's own client: one run per network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from study.results.credentials import without_credentials
from study.results.folder import STUDY_FILE, StudyFolder
from study.results.schema import EPOCHS, READER_NAMES, STAGES
from trainables.errors import UserError

_NETWORK, _VERDICT = "logit_bias.network_id", "logit_bias.verdict"  # tags
_PARAMS = (
    *("stage", "cell_id", "arm", "rule", "replicate", "point", "dataset", "classes", "train_size"),
    *("model", "loss", "loss_params", "epsilon", "rescale", "lr", "weight_decay", "noise_kind"),
    *("noise_rate_asked", "seed", "epochs"),
)
_TAGS = ("status", "cohort_id", "device", "host", "config_sha256", "versions")
_LAST_METRICS = ("best_val_acc_noisy", "noise_rate_real", "logit_std_init")
_CURVES = [name for name in EPOCHS.names if name not in ("network_id", "epoch")]
_METRICS_AT_ONCE = 1000  # MLflow's limit for a request
_RUNS_AT_ONCE = 1000
_LONGEST_MESSAGE = 300  # characters


class MlflowError(UserError):
    """MLflow refused a request or cannot be reached."""


@dataclass(frozen=True)
class ExportedRuns:
    """What was written to MLflow.

    Attributes:
        experiment: its name.
        tracking_uri: where it is, without credentials.
        runs: number of runs written.
        present: number of networks that were there already.
    """

    experiment: str
    tracking_uri: str
    runs: int
    present: int


def export_mlflow(
    folder: StudyFolder, tracking_uri: str | None, analysis: Mapping[str, bytes]
) -> ExportedRuns:
    """Write the networks of a study as runs of an MLflow experiment of the study's name.

    Settings become parameters, learning curves metrics with the epoch as step, origin tags. A
    network that the experiment has already is not written again, so an export can be repeated
    while a study grows. One more run has the study file, the verdict and the report as artifacts.

    Args:
        folder: the study folder.
        tracking_uri: a folder, a database or a server, as MLflow takes it; None for MLflow's own
            setting (`MLFLOW_TRACKING_URI`).
        analysis: {name: content} of further artifacts, such as `analysis/verdict.json`.

    Raises:
        MlflowError: MLflow refuses it.
        ResultsError: there is no study in the folder.
    """
    study_file = folder.study_file()
    names = folder.read("trials", columns=["schema_version", "study"])["study"]
    name = str(names[0]) if len(names) else folder.name
    try:
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        present = _complete_networks(client, experiment)
        written = 0
        for stage in STAGES:
            rows = [
                row
                for row in folder.read("trials", [stage]).to_pylist()
                if row["network_id"] not in present
            ]
            curves = _curves(folder, stage) if rows else {}
            for row in rows:
                _write_run(client, experiment, row, curves.get(row["network_id"], []))
            written += len(rows)
        _write_verdict(client, experiment, {STUDY_FILE: study_file, **analysis})
    except MlflowException as error:
        first = str(error).strip().splitlines()[0][:_LONGEST_MESSAGE]
        raise MlflowError(f"MLflow: {first}; runs written so far are kept") from error
    shown = without_credentials(client.tracking_uri)
    return ExportedRuns(name, shown, written, len(names) - written)


def _complete_networks(client: MlflowClient, experiment: str) -> set[str]:
    """Ids of the networks with a finished run; runs that were broken off are deleted."""
    present = set()
    for run in list(_runs(client, experiment, f"tags.`{_NETWORK}` LIKE '%'")):
        if run.info.status == "FINISHED":
            present.add(run.data.tags[_NETWORK])
        else:
            client.delete_run(run.info.run_id)
    return present


def _runs(client: MlflowClient, experiment: str, condition: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment], condition, max_results=_RUNS_AT_ONCE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _curves(folder: StudyFolder, stage: str) -> dict[str, list[dict[str, Any]]]:
    """{network id: its rows of `epochs`, in order}."""
    rows = folder.read("epochs", [stage]).to_pylist()
    rows.sort(key=lambda row: (row["network_id"], row["epoch"]))
    grouped = itertools.groupby(rows, key=lambda row: row["network_id"])
    return {network_id: list(group) for network_id, group in grouped}


def _write_run(
    client: MlflowClient, experiment: str, row: Mapping[str, Any], epochs: Sequence[Any]
) -> None:
    started, finished = (_milliseconds(row[name]) for name in ("started_utc", "finished_utc"))
    tags = {_NETWORK: row["network_id"], **{f"logit_bias.{name}": row[name] for name in _TAGS}}
    tags["mlflow.source.git.commit"] = row["git_commit"]
    run = client.create_run(
        experiment,
        start_time=started,
        tags={name: str(value) for name, value in tags.items() if value is not None},
        run_name=f"{row['arm'] or row['stage']} {row['network_id'].rpartition('-')[2]}",
    )
    params = [
        Param(READER_NAMES.get(name, name), str(row[name]))
        for name in _PARAMS
        if row[name] is not None
    ]
    client.log_batch(run.info.run_id, params=params)
    metrics, time = [], started or 0
    for epoch in epochs:
        time += int(1000 * (epoch["wall_s"] or 0))
        metrics += [
            Metric(name, epoch[name], time, epoch["epoch"])
            for name in _CURVES
            if epoch[name] is not None
        ]
    metrics += [
        Metric(READER_NAMES.get(name, name), row[name], time, row["epochs"])
        for name in _LAST_METRICS
        if row[name] is not None
    ]
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run.info.run_id, metrics=metrics[first : first + _METRICS_AT_ONCE])
    client.set_terminated(run.info.run_id, "FINISHED", finished)


def _write_verdict(client: MlflowClient, experiment: str, files: Mapping[str, bytes]) -> None:
    """Replace the run with the study file, the verdict and the report."""
    for run in list(_runs(client, experiment, f"tags.`{_VERDICT}` LIKE '%'")):
        client.delete_run(run.info.run_id)
    pooled = json.loads(files.get("analysis/verdict.json", b"{}")).get("pooled", {})
    run = client.create_run(
        experiment, tags={_VERDICT: pooled.get("verdict") or "none"}, run_name="verdict"
    )
    value = pooled.get("value") or {}
    metrics = [
        Metric(f"value_{key}", value[key], run.info.start_time, 0)
        for key in ("mean", "low", "high")
        if value.get(key) is not None
    ]
    client.log_batch(run.info.run_id, metrics=metrics)
    for name, content in files.items():
        client.log_text(run.info.run_id, content.decode(), name.rpartition("/")[2])
    client.set_terminated(run.info.run_id)


def _milliseconds(time: Any) -> int | None:
    return None if time is None else int(1000 * time.timestamp())
