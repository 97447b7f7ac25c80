"""From a study file or a study folder to what a command works with: configuration, plan, rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from study.config.loader import StudyFileError, parse_study
from study.config.sections import StudyConfig
from study.planning.plan import Plan, make_plan, needs_measured_logits
from study.results.folder import ResultsError, StudyFolder

_FREE = {"storage", "resources"}  # what may change between two runs of a study


def folder_of(config: StudyConfig) -> StudyFolder:
    """The folder that the study file names."""
    return StudyFolder.at(config.folder_uri)


def plan_of(config: StudyConfig) -> Plan:
    """The study's plan, with initial logits measured where an arm asks for it."""
    if needs_measured_logits(config):
        from study.planning.initial_logits import initial_logits

        return make_plan(config, initial_logits(config))
    return make_plan(config)


def open_study(uri: str) -> tuple[StudyFolder, Plan]:
    """A study folder, as a path or URI, with the plan of the study in it.

    Raises
    ------
    ResultsError: there is no study in the folder.
    """
    folder = StudyFolder.at(uri)
    content = folder.read_bytes("study.yaml")
    if content is None:
        raise ResultsError(f"{uri}: no study here (study.yaml is missing)")
    return folder, plan_of(parse_study(content, folder.file("study.yaml")))


def plan_summary(plan: Plan, networks: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What `status` wants to know of a plan; `networks`: of each stage, where it has changed."""
    return {
        "study": plan.config.name,
        "value_column": plan.config.search.value_column,
        "networks": dict(networks or plan.networks()),
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
    """The rows of `trials`, with the columns from which a scheduler is rebuilt."""
    columns = ["schema_version", "network_id", "stage", "cell_id", "arm", "point", "loss"]
    columns += ["loss_params", "epsilon", "lr", "seed", "val_acc_noisy", "val_acc_clean"]
    columns += ["epochs", "status", "wall_s", "networks_in_cohort"]
    return folder.read("trials", columns=columns).to_pylist()


def check_folder(folder: StudyFolder, config: StudyConfig, content: bytes) -> None:
    """Make sure that the folder is new or holds this study.

    Raises
    ------
    StudyFileError: the study in the folder differs in something that decides a row.
    """
    earlier = folder.read_bytes("study.yaml")
    if earlier is None or earlier == content:
        return
    other = parse_study(earlier, folder.file("study.yaml"))
    keys = _differences(other.model_dump(exclude=_FREE), config.model_dump(exclude=_FREE))
    if keys:
        raise StudyFileError(
            f"{folder.uri} holds a study from another study file (differs in {', '.join(keys)}); "
            "give this one another name"
        )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        return found
    return [] if old == new else [path]
