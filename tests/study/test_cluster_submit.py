"""A study submitted as a job to a running Ray cluster, from outside it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.cluster_utils import Cluster
from tests_support import TINY_STUDY

from study.results.folder import StudyFolder


def logit_bias(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "study.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # As in a node's shell, `python` is the one that has the package.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": True,
            "dashboard_port": 0,
            "object_store_memory": 100 * 2**20,
        },
    )
    yield f"http://{cluster.webui_url}"
    cluster.shutdown()


def write(folder: Path, **changes: object) -> str:
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY_STUDY, "sweep": None, **changes}))
    return "tiny.yaml"


def test_storage_that_the_cluster_would_lose_is_refused(tmp_path: Path) -> None:
    found = logit_bias("submit", write(tmp_path), "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert found.returncode == 2
    assert "storage = 'results/'" in found.stderr


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    study = write(tmp_path, storage=str(tmp_path / "out"))
    found = logit_bias("submit", study, "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert found.returncode == 1
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr


@pytest.mark.slow
def test_a_submitted_study_runs_there_and_its_log_comes_here(
    dashboard: str, tmp_path: Path
) -> None:
    study = write(tmp_path, storage=str(tmp_path / "out"))
    found = logit_bias("submit", study, "--address", dashboard, "--stage", "search", cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "12 of 20 networks" in found.stdout or "12 of 12 networks" in found.stdout
    assert "done; next: logit-bias report" in found.stdout
    rows = StudyFolder(str(tmp_path / "out/tiny")).read("trials").to_pylist()
    assert len(rows) == 12
    if os.path.isdir(Path(__file__).parents[2] / ".git"):
        assert len(rows[0]["git_commit"]) == 40
