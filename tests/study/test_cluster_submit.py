"""A study submitted as a job to a running Ray cluster, from outside it."""

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import yaml
from aiohttp import web
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


class _TakesAJob:
    """A dashboard that takes a job and sends the first line of its log, on a port of its own."""

    def __init__(self, breaks: bool) -> None:
        self.port: queue.Queue[int] = queue.Queue()
        self._breaks = breaks
        self._end, self._loop = asyncio.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _run(self) -> None:
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/packages/{name:.*}", self._has_package)
        app.router.add_post("/api/jobs/", self._take)
        app.router.add_get("/api/jobs/job7/logs/tail", self._log)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port.put(runner.addresses[0][1])
        await self._end.wait()
        await runner.cleanup()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": "x"}
        )

    async def _has_package(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _take(self, _: web.Request) -> web.Response:
        return web.json_response({"job_id": "job7", "submission_id": "job7"})

    async def _log(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_str("the first line\n")
        if self._breaks:
            assert request.transport is not None
            request.transport.abort()
        await self._end.wait()
        return answer


@pytest.mark.parametrize("ends_by", [signal.SIGINT, signal.SIGTERM, None])
def test_a_study_that_goes_on_is_not_called_interrupted(
    ends_by: signal.Signals | None, tmp_path: Path
) -> None:
    """By a signal to `submit`, or by a connection that breaks."""
    out = tmp_path / "my out"
    study = write(tmp_path, storage=str(out))
    dashboard = _TakesAJob(breaks=ends_by is None)
    address = f"http://127.0.0.1:{dashboard.port.get(timeout=30)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli", "submit", study, "--address", address],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Python ignores SIGINT if its parent does, as shells do for background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"job job7: {out}/tiny\n"
        assert process.stdout.readline() == "the first line\n"
        if ends_by is not None:
            process.send_signal(ends_by)
        shown, said = process.communicate(timeout=60)
    finally:
        process.kill()
        dashboard.close()
    assert process.returncode == (1 if ends_by is None else 130), said
    # On a busy machine aiohttp sometimes says that its session was not closed.
    (line,) = [line for line in said.splitlines() if line.startswith("logit-bias")]
    lost = f"--address {address}: the connection is lost; if the head still runs, "
    assert line == (
        f"logit-bias: {lost if ends_by is None else ''}the study goes on as job job7; "
        f"progress: `logit-bias status '{out}/tiny'`; "
        f"follow it: `ray job logs -f --address {address} job7`; "
        f"end it: `ray job stop --address {address} job7`"
    )
    assert not shown


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
