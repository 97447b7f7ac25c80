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

from study.execution import signals
from study.execution.submit import runtime_environment
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


def test_storage_inside_the_cluster_is_refused(tmp_path: Path) -> None:
    result = logit_bias("submit", write(tmp_path), "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert result.returncode == 2
    assert "storage = 'results/'" in result.stderr


def test_a_cluster_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    study = write(tmp_path, storage=str(tmp_path / "out"))
    result = logit_bias("submit", study, "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_the_job_takes_the_code_of_all_packages(tmp_path: Path) -> None:
    modules = runtime_environment(str(tmp_path))["py_modules"]
    assert [Path(module).name for module in modules] == ["study", "trainables", "analysis"]
    assert all(Path(module, "__init__.py").is_file() for module in modules)


def test_a_job_that_is_stopped_has_the_time_to_save(tmp_path: Path) -> None:
    """`ray job stop` reads this variable; a driver saves for at most `_LONGEST_WAIT_S`."""
    wait = runtime_environment(str(tmp_path))["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    assert int(wait) > signals._LONGEST_WAIT_S


@pytest.mark.slow
@pytest.mark.integration
def test_a_submitted_study_runs_on_the_cluster_and_its_log_is_printed_here(
    dashboard: str, tmp_path: Path
) -> None:
    study = write(tmp_path, storage=str(tmp_path / "out"))
    result = logit_bias("submit", study, "--address", dashboard, "--stage", "search", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "12 of 20 networks" in result.stdout or "12 of 12 networks" in result.stdout
    assert "done; next: logit-bias report" in result.stdout
    rows = StudyFolder(str(tmp_path / "out/tiny")).read("trials").to_pylist()
    assert len(rows) == 12
    if os.path.isdir(Path(__file__).parents[2] / ".git"):
        assert len(rows[0]["git_commit"]) == 40
