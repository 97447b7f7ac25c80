"""How many cohorts at a time, and what each asks of Ray."""

from typing import Any

import pytest
import yaml
from tests_support import TINY_STUDY

from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.execution.ray_resources import InsufficientResourcesError, RayResources, machines


def config(**resources: Any) -> StudyConfig:
    return parse_study(yaml.safe_dump({**TINY_STUDY, "resources": resources}).encode(), "test")


LAPTOP = {"CPU": 8.0, "memory": 1e10}
BOX = {"CPU": 16.0, "GPU": 2.0, "accelerator_type:A100": 1.0}


@pytest.mark.parametrize(
    ("asked", "there", "workers", "per_cohort"),
    [
        ({}, LAPTOP, 8, {"cpu": 1, "gpu": 0}),
        ({"workers": 2}, LAPTOP, 2, {"cpu": 1, "gpu": 0}),
        ({"cpus_per_cohort": 3}, LAPTOP, 2, {"cpu": 3, "gpu": 0}),
        ({}, BOX, 2, {"cpu": 1, "gpu": 1}),
        ({"gpus_per_cohort": 0.25}, BOX, 8, {"cpu": 1, "gpu": 0.25}),
        ({"gpus_per_cohort": 0}, BOX, 16, {"cpu": 1, "gpu": 0}),
        ({"gpus_per_cohort": 0.1, "cpus_per_cohort": 4}, BOX, 4, {"cpu": 4, "gpu": 0.1}),
        (
            {"accelerator_type": "A100"},
            BOX,
            2,
            {"cpu": 1, "gpu": 1, "accelerator_type:A100": 0.001},
        ),
    ],
)
def test_cohorts_fill_what_is_there(
    asked: dict, there: dict, workers: int, per_cohort: dict
) -> None:
    assert machines(config(**asked), there, grows=False) == RayResources(workers, per_cohort)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpus_per_cohort": 1}, r"gpus_per_cohort = 1: Ray has 0 × GPU"),
        ({"cpus_per_cohort": 9}, r"cpus_per_cohort = 9: Ray has 8 × CPU"),
        ({"accelerator_type": "H100"}, r"accelerator_type = H100: Ray has 0"),
    ],
)
def test_what_can_never_run_is_refused(asked: dict, words: str) -> None:
    with pytest.raises(InsufficientResourcesError, match=words):
        machines(config(**asked), LAPTOP, grows=False)


def test_a_cluster_that_grows_is_believed() -> None:
    asked = config(workers=8, gpus_per_cohort=1, accelerator_type="T4")
    found = machines(asked, {"CPU": 0.0}, grows=True)
    assert found == RayResources(8, {"cpu": 1, "gpu": 1, "accelerator_type:T4": 0.001})
