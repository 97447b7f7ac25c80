"""From a study file or a study folder to what a command works with: configuration, plan, rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from study.config.loader import StudyFileError, parse_study
from study.config.sections import StudyConfig
from study.planning.plan import Plan, make_plan, needs_measured_logits
from study.results.folder import StudyFolder
from study.results.plan_summary import CellSummary, LossLabel, PlanSummary
from study.results.schema import Stage

REPLAYED = (
    *("network_id", "stage", "cell_id", "arm", "point", "loss", "loss_params", "epsilon", "lr"),
    *("seed", "replicate", "val_acc_noisy", "val_acc_clean", "epochs", "status", "wall_s"),
    "networks_in_cohort",
)
"""The columns of `trials` from which a scheduler is rebuilt."""

_ROWS_AT_ONCE = 10_000
_MAY_CHANGE = {"storage", "resources"}  # sections that may change between two runs of a study


def folder_of(config: StudyConfig) -> StudyFolder:
    """The folder that the study file names."""
    return StudyFolder.at(config.folder_uri)


def plan_of(config: StudyConfig) -> Plan:
    """The study's plan; initial logits are measured where an arm needs them."""
    if needs_measured_logits(config):
        from study.planning.initial_logits import initial_logits

        return make_plan(config, initial_logits(config))
    return make_plan(config)


def open_study(uri: str) -> tuple[StudyFolder, Plan]:
    """Open a study folder.

    Args:
        uri: a path or URI.

    Returns:
        The folder, and the plan of the study in it.

    Raises:
        ResultsError: there is no study in the folder.
        StudyFileError: the study file in the folder is not valid.
    """
    folder = StudyFolder.at(uri)
    return folder, plan_of(parse_study(folder.study_file(), folder.file("study.yaml")))


def plan_summary(plan: Plan, networks: Mapping[Stage, int] | None = None) -> PlanSummary:
    """What `status` shows of a plan.

    Args:
        plan: the study's plan.
        networks: number of networks per stage, where it has changed since the plan was made.
    """
    return PlanSummary(
        study=plan.config.name,
        value_column=plan.config.search.value_column,
        networks=dict(networks or plan.networks()),
        replicates=plan.config.search.replicates if plan.config.has_best else None,
        confirm_seeds=len(plan.confirm_seeds),
        replicate_seeds=len(plan.replicate_seeds(0)) if plan.config.has_best else 0,
        cells=tuple(
            CellSummary(
                cell_id=cell.cell_id,
                budget=plan.search_points(cell),
                loss_is_searched=cell.loss is None,
                takes_epsilon=cell.takes_epsilon,
                losses=tuple(LossLabel(x.name, x.params_json, x.label) for x in cell.losses),
                arms=tuple(arm.name for arm in arms if arm.is_pooled),
                replicate_arms=tuple(arm.name for arm in arms if arm.is_replicated),
            )
            for cell, arms in plan.arms.items()
        ),
    )


def replay_rows(folder: StudyFolder) -> Iterator[Mapping[str, Any]]:
    """The rows of `trials`, with the columns from which a scheduler is rebuilt.

    Raises:
        ResultsError: a file is damaged or has another schema version.
    """
    table = folder.read("trials", columns=["schema_version", *REPLAYED])
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def check_folder(folder: StudyFolder, config: StudyConfig, content: bytes) -> None:
    """Check that the folder is new or holds this study.

    Args:
        folder: the study's folder.
        config: the study.
        content: the study file that `config` was read from.

    Raises:
        StudyFileError: the study in the folder differs in a setting that changes its rows.
    """
    earlier = folder.read_bytes("study.yaml")
    if earlier is None or earlier == content:
        return
    other = parse_study(earlier, folder.file("study.yaml"))
    keys = _differences(
        other.model_dump(exclude=_MAY_CHANGE), config.model_dump(exclude=_MAY_CHANGE)
    )
    if keys:
        raise StudyFileError(
            f"{folder.uri} holds a study from another study file (differs in {', '.join(keys)}); "
            "give this one another name"
        )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = []
        for key in sorted(old.keys() | new.keys()):
            keys += _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        return keys
    return [] if old == new else [path]
