"""How many cohorts train at a time, and which resources each of them gets."""

import socket
import time
from typing import Any

import pytest
import yaml
from tests_support import TINY_STUDY

from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.execution.cluster_access import NoClusterError
from study.execution.ray_resources import (
    InsufficientResourcesError,
    RayDidNotStartError,
    RayResources,
    resources_for,
    start_ray,
)


def config(**resources: Any) -> StudyConfig:
    return parse_study(yaml.safe_dump({**TINY_STUDY, "resources": resources}).encode(), "test")


LAPTOP = {"CPU": 8.0, "memory": 1e10}
GPU_SERVER = {"CPU": 16.0, "GPU": 2.0, "accelerator_type:A100": 1.0}


@pytest.mark.parametrize(
    ("section", "available", "workers", "per_cohort"),
    [
        ({}, LAPTOP, 8, {"cpu": 1, "gpu": 0}),
        ({"workers": 2}, LAPTOP, 2, {"cpu": 1, "gpu": 0}),
        ({"cpus_per_cohort": 3}, LAPTOP, 2, {"cpu": 3, "gpu": 0}),
        ({}, GPU_SERVER, 2, {"cpu": 1, "gpu": 1}),
        ({"gpus_per_cohort": 0.25}, GPU_SERVER, 8, {"cpu": 1, "gpu": 0.25}),
        ({"gpus_per_cohort": 0}, GPU_SERVER, 16, {"cpu": 1, "gpu": 0}),
        ({"gpus_per_cohort": 0.1, "cpus_per_cohort": 4}, GPU_SERVER, 4, {"cpu": 4, "gpu": 0.1}),
        (
            {"accelerator_type": "A100"},
            GPU_SERVER,
            2,
            {"cpu": 1, "gpu": 1, "accelerator_type:A100": 0.001},
        ),
    ],
)
def test_as_many_cohorts_as_fit(
    section: dict, available: dict, workers: int, per_cohort: dict
) -> None:
    resources = resources_for(config(**section), available, grows=False)
    shared = {0.25: 2, 0.1: 1}.get(per_cohort["gpu"], 0)
    assert resources == RayResources(workers, per_cohort, 64 if per_cohort["gpu"] else 32, shared)


@pytest.mark.parametrize(
    ("cpus", "section", "workers", "gpu"),
    [
        (16.0, {}, 8, 0.25),
        (6.0, {}, 6, 1 / 3),
        (2.0, {}, 2, 1),
        (16.0, {"cpus_per_cohort": 4}, 4, 0.5),
        (16.0, {"gpus_per_cohort": 1}, 2, 1),
    ],
)
def test_small_networks_share_gpus(cpus: float, section: dict, workers: int, gpu: float) -> None:
    server = {**GPU_SERVER, "CPU": cpus}
    resources = resources_for(config(**section), server, grows=False, small_networks=True)
    assert (resources.workers, resources.per_cohort["gpu"]) == (workers, gpu)
    assert resources.shared_gpus == (2 if gpu < 1 else 0)


def test_cohorts_of_brackets_are_not_made_larger() -> None:
    """They are never split where they do not fit."""
    search = {**TINY_STUDY["search"], "points_per_round": 2, "rungs": [{"epoch": 1, "keep": 0.5}]}
    study = {**TINY_STUDY, "search": search, "recipe": {**TINY_STUDY["recipe"], "epochs": 2}}
    parsed = parse_study(yaml.safe_dump(study).encode(), "test")
    assert resources_for(parsed, GPU_SERVER, False, small_networks=True).shared_gpus == 0
    assert resources_for(config(), GPU_SERVER, False, small_networks=True).shared_gpus == 2


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"gpus_per_cohort": 1}, r"gpus_per_cohort = 1: Ray has 0 × GPU"),
        ({"cpus_per_cohort": 9}, r"cpus_per_cohort = 9: Ray has 8 × CPU"),
        ({"accelerator_type": "H100"}, r"accelerator_type = H100: Ray has 0"),
    ],
)
def test_a_cohort_that_can_never_start_is_refused(section: dict, message: str) -> None:
    with pytest.raises(InsufficientResourcesError, match=message):
        resources_for(config(**section), LAPTOP, grows=False)


def test_a_cluster_that_grows_may_start_empty() -> None:
    section = config(workers=8, gpus_per_cohort=1, accelerator_type="T4")
    resources = resources_for(section, {"CPU": 0.0}, grows=True)
    assert resources == RayResources(8, {"cpu": 1, "gpu": 1, "accelerator_type:T4": 0.001}, 64)
    assert resources.summary == (
        "8 cohorts at a time, 1 CPU and 1 GPU each; up to 64 networks in a cohort"
    )


def test_a_cluster_that_is_gone_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(NoClusterError, match=f"--address = {address}: no Ray cluster"):
        start_ray(config(), address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(NoClusterError, match=r"environment variable RAY_ADDRESS .*; unset it"):
        start_ray(config(), address)
    assert time.monotonic() - started < 15


def test_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that is too busy: Ray raises a bare Exception."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because …")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("study.execution.ray_resources._close_to_others", lambda: None)
    with pytest.raises(
        RayDidNotStartError, match=r"did not start on this machine: The .* timed"
    ) as e:
        start_ray(config(), None)
    assert "\n" not in str(e.value)
