"""The installed Ray accepts the cluster files, and they configure what the documentation says."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ["cluster.yaml", "cluster-onprem.yaml"]


def prepared(name: str, **changes: Any) -> dict[str, Any]:
    return prepare_config({**yaml.safe_load((ROOT / name).read_text()), **changes})


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepared(name))


@pytest.mark.parametrize("name", FILES)
def test_the_validation_can_fail(name: str) -> None:
    with pytest.raises(Exception, match="wrokers"):
        validate_config(prepared(name, max_wrokers=3))


@pytest.mark.parametrize("name", FILES)
def test_every_node_gets_this_package_at_its_pins_and_asks_for_a_token(name: str) -> None:
    config = prepared(name)
    setup = " ".join(config["setup_commands"])
    package = r'-e "\$HOME/logit-bias\[study\]"'  # the base installation has neither torch nor Ray
    assert re.search(rf"pip install .*-c ~/logit-bias/constraints\.txt\s+{package}", setup)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert re.search(r"export RAY_AUTH_MODE=token[^;]*; ray start", config[key][-1])
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])


def test_on_premise_the_head_trains_nothing_and_every_worker_starts() -> None:
    """Ray's second autoscaler takes the head for a worker there (Ray 2.60, seen on machines)."""
    start = prepared("cluster-onprem.yaml")["head_start_ray_commands"][-1]
    assert "RAY_enable_autoscaler_v2=0 " in start
    assert "--num-cpus=0 " in start


def test_images_have_the_ray_that_is_pinned() -> None:
    docker = prepared("cluster.yaml")["docker"]
    for image in (docker["head_image"], docker["worker_image"]):
        assert image.startswith(f"rayproject/ray:{version('ray')}-")


def test_workers_are_spot_and_the_head_trains_nothing() -> None:
    types = prepared("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert types["gpu"]["max_workers"] == 8
