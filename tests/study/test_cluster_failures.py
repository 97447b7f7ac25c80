"""Failures of a cluster, on a simulated one: the rows are those of an undisturbed study.

Three nodes of one CPU each on this machine (Ray's own cluster utility). Minutes long;
LOGIT_BIAS_ROUNDS sets the number of rounds.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster
from rows_of_a_study import contents
from tests_support import TINY_STUDY

from study.results.folder import StudyFolder

pytestmark = [pytest.mark.slow, pytest.mark.integration]
ROUNDS = int(os.environ.get("LOGIT_BIAS_ROUNDS", "3"))


def write_study(folder: Path, storage: Path | None = None) -> Path:
    study = {
        **TINY_STUDY,
        "sweep": {"points": 3, "seeds": 1, "lr_points": 2},
        "recipe": {"epochs": 40, "batch_size": 128},
        # More cohorts than nodes: every kill interrupts some and leaves others to come.
        "resources": {"networks_per_cohort": 2, "checkpoint_minutes": 0},
        "storage": str(storage or folder / "out"),
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def start(study: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study), *more],
        cwd=study.parent,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    shown, _ = process.communicate(timeout=400)
    assert process.returncode == 0, shown
    return shown


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(write_study(folder)))
    return contents(folder / "out/tiny")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20}
    )
    for _ in range(3):
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_nodes_killed_at_random(
    round_: int, cluster: Cluster, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(round_)
    process = start(write_study(tmp_path), "--address", cluster.address)
    killed = 0
    while process.poll() is None and not list(tmp_path.glob("out/tiny/trials/*/*.parquet")):
        time.sleep(0.05)
    time.sleep(draw.uniform(0, 4))
    while process.poll() is None and killed < 4:
        victims = [node for node in cluster.worker_nodes]
        cluster.remove_node(draw.choice(victims), allow_graceful=False)
        killed += 1
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        time.sleep(draw.uniform(1, 6))
    finish(process)
    assert killed
    assert contents(tmp_path / "out/tiny") == undisturbed


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_driver_killed_at_random(
    round_: int, cluster: Cluster, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Only the driver dies: its workers on the cluster outlive it for a moment."""
    draw = random.Random(100 + round_)
    study = write_study(tmp_path)
    killed = 0
    for _ in range(3):
        process = start(study, "--address", cluster.address)
        time.sleep(draw.uniform(3, 9))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert killed
    finish(start(study, "--address", cluster.address))
    assert contents(tmp_path / "out/tiny") == undisturbed


def test_the_cohort_of_a_lost_node_resumes_on_another(cluster: Cluster, tmp_path: Path) -> None:
    study = yaml.safe_load(write_study(tmp_path).read_text())
    study |= {"recipe": {"epochs": 600, "batch_size": 128}, "sweep": None, "confirm": None}
    study["search"]["networks_per_cell"] = 1
    study["resources"]["checkpoint_minutes"] = 0
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study))
    process = start(tmp_path / "tiny.yaml", "--address", cluster.address)
    folder = tmp_path / "out/tiny"
    while process.poll() is None and not list(folder.glob("checkpoints/*.json")):
        time.sleep(0.05)
    time.sleep(1)
    for node in list(cluster.worker_nodes):  # the cohort is on one of them
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    finish(process)
    (row,) = StudyFolder(str(folder)).read("trials").to_pylist()
    assert row["epochs"] == 600
    assert row["wall_s"] > (row["finished_utc"] - row["started_utc"]).total_seconds()
    assert not list(folder.glob("checkpoints/*"))


def test_a_full_disk_is_one_line_and_the_study_resumes_later(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        study = write_study(tmp_path, storage=small / "out")
        process = start(study)
        shown, _ = process.communicate(timeout=400)
        assert process.returncode == 1, shown
        assert "No space left on device" in shown.strip().splitlines()[-1]
        assert "Traceback" not in shown
        kept = StudyFolder(str(small / "out/tiny")).read("trials").num_rows
        assert 0 < kept < len(undisturbed["trials"])
        subprocess.run(["mount", "-o", "remount,size=16m", str(small)], check=True)
        finish(start(study))
        assert contents(small / "out/tiny") == undisturbed
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
