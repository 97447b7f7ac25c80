"""A study in a real MLflow: a local database, and a server."""

import json
import os
import site
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

READ = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name("tiny").experiment_id
runs, token = [], None
while True:
    page = client.search_runs([experiment], max_results=10, page_token=token)
    runs += page
    token = page.token
    if not token:
        break
networks = [r for r in runs if "logit_bias.network_id" in r.data.tags]
(verdict,) = [r for r in runs if "logit_bias.verdict" in r.data.tags]
one = max(networks, key=lambda r: r.data.params["stage"] == "confirm")
print(json.dumps({
    "networks": {r.data.tags["logit_bias.network_id"]: r.data.params for r in networks},
    "status": sorted({r.info.status for r in runs}),
    "one": one.data.tags["logit_bias.network_id"],
    "metrics": one.data.metrics,
    "start": one.info.start_time,
    "curve": [(m.step, m.value) for m in client.get_metric_history(one.info.run_id, "train_loss")],
    "artifacts": sorted(a.path for a in client.list_artifacts(verdict.info.run_id)),
    "verdict": verdict.data.tags["logit_bias.verdict"],
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with MLflow beside the packages of this one."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [str(Path(__file__).parents[2]), *site.getsitepackages()]
    (packages / "this.pth").write_text("\n".join(here) + "\n")
    python = str(folder / "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    installed = subprocess.run([*pip, "install", "mlflow>=3"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"MLflow cannot be installed: {installed.stderr[-200:]}")
    return python


@pytest.fixture(params=["database", "server"])
def tracking_uri(
    request: pytest.FixtureRequest, python: str, tmp_path: Path
) -> Iterator[tuple[str, Path]]:
    """Where MLflow is, and the folder to work in."""
    database = f"sqlite:///{tmp_path}/mlflow.db"
    if request.param == "database":
        yield database, tmp_path
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(python, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"),
            *("--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port)),
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=2)
                break
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                assert server.poll() is None
                time.sleep(0.5)
        yield uri, tmp_path
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def test_every_network_is_a_run_with_its_settings_and_curve(
    python: str, tracking_uri: tuple[str, Path], finished_study: Path
) -> None:
    uri, folder = tracking_uri
    study = str(finished_study / "out/tiny")
    command = [python, "-m", "study.cli", "export", study, "--to", "mlflow", "--output", uri]

    def run(*words: str) -> Any:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout[done.stdout.index("{") :])

    assert run(*command, "--json")["new"] == 36
    assert run(*command, "--json") == {
        "experiment": "tiny",
        "tracking_uri": uri,
        "new": 0,
        "present": 36,
    }
    seen = run(python, "-c", READ, uri)
    rows = {r["network_id"]: r for r in pq.read_table(f"{study}/trials").to_pylist()}
    assert seen["networks"].keys() == rows.keys()
    for network_id, params in seen["networks"].items():
        row = rows[network_id]
        assert float(params["lr"]) == row["lr"]
        assert float(params["epsilon"]) == row["epsilon"]
        assert (params["stage"], params.get("arm")) == (row["stage"], row["arm"])
    assert seen["status"] == ["FINISHED"]
    one = rows[seen["one"]]
    epochs = pq.read_table(f"{study}/epochs").to_pylist()
    own = sorted((e["epoch"], e["train_loss"]) for e in epochs if e["network_id"] == seen["one"])
    assert [tuple(point) for point in seen["curve"]] == own
    assert seen["metrics"]["test_acc"] == one["test_acc"]
    assert seen["start"] == int(1000 * one["started_utc"].timestamp())
    assert seen["artifacts"] == ["report.html", "study.yaml", "verdict.json"]
    assert seen["verdict"] == "undecided"  # a study without the arm best
