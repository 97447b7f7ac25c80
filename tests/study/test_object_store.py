"""A study folder in an S3-compatible object store (moto's server, on this machine)."""

import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from planted import default_cells, write_study
from tests_support import TINY_STUDY
from tests_support import logit_bias as in_process

from study.execution import lease
from study.execution.checkpoints import CheckpointStore
from study.results import object_store
from study.results.compaction import discard_uncommitted
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS

pytestmark = pytest.mark.integration
FAST = {"renewed_every_s": 0.2, "dead_after_s": 1.5}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A URI prefix inside a fresh bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="studies")
        yield f"s3://studies/{{}}?endpoint_override={host}:{port}&scheme=http"
        server.stop()


def folder_in(bucket: str, name: str) -> StudyFolder:
    return StudyFolder(bucket.format(name))


def write(folder: StudyFolder, cohort: str, network: str) -> None:
    trial = dict.fromkeys(TRIALS.names) | {"network_id": network, "schema_version": SCHEMA_VERSION}
    epoch = dict.fromkeys(EPOCHS.names) | {"network_id": network, "epoch": 1}
    folder.write_part("search", cohort, [trial], [epoch])


def test_rows_come_back(bucket: str) -> None:
    folder = folder_in(bucket, "rows")
    assert folder.read("trials").num_rows == 0
    write(folder, "c1", "a")
    write(folder, "c2", "b")
    write(folder, "c2", "b")
    assert folder.read("trials").column("network_id").to_pylist() == ["a", "b"]
    assert folder.read("epochs").num_rows == 2


def test_a_bundle_is_written_to_an_object_store_and_read_there(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results go beside it."""
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "planted", default_cells()[:1])
    uri = bucket.format("kept/planted.bundle.zip")
    export = ("export", "planted", "--to", "bundle", "--output", uri)
    made = in_process(*export)
    assert made.returncode == 0, made.stderr
    read = in_process("analyse", uri)
    assert read.returncode == 0, read.stderr
    content = folder_in(bucket, "kept").read_bytes("planted.bundle.zip")
    assert content is not None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        expected = archive.read("analysis/verdict.json")
    reported = in_process("report", uri)
    assert (
        f"Report: {bucket.format('kept/planted.bundle/analysis/report.html')}\n" in reported.stdout
    )
    results = folder_in(bucket, "kept/planted.bundle")
    assert results.read_bytes("analysis/verdict.json") == expected
    again = in_process(*export)
    assert (again.returncode, "this file exists" in again.stderr) == (2, True)
    csv = ("export", "planted", "--to", "csv", "--output", bucket.format("kept/csv"))
    assert in_process(*csv).returncode == 0
    assert folder_in(bucket, "kept/csv").read_bytes("trials.csv")
    again = in_process(*csv)
    assert (again.returncode, "this file exists" in again.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["planted"]  # nothing local is written


def write_file(at: Path, storage: str) -> None:
    (at / "tiny.yaml").write_text(yaml.safe_dump({**TINY_STUDY, "storage": storage}))


def assert_refused(arguments: tuple[str, ...], at: Path, *words: str) -> None:
    """At once, in one line with these words."""
    started = time.monotonic()
    outcome = in_process(*arguments, cwd=at)
    assert outcome.returncode == 2, outcome
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert [word for word in words if word not in outcome.stderr] == [], outcome.stderr
    assert time.monotonic() - started < 20


def test_a_missing_bucket_is_refused_at_once_and_named(bucket: str, tmp_path: Path) -> None:
    storage = bucket.format("run").replace("s3://studies", "s3://absent")
    write_file(tmp_path, storage)
    words = (f"tiny.yaml: storage = '{storage}': ", "no bucket 'absent'")
    assert_refused(("plan", "tiny.yaml"), tmp_path, *words)
    assert_refused(("run", "tiny.yaml"), tmp_path, *words)
    for command in ("status", "report"):
        assert_refused((command, storage), tmp_path, "no bucket 'absent'")


class _Forbidden(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_refused_credentials_are_one_line_that_names_the_storage(
    bucket: str, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Forbidden) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        storage = f"s3://mine/x?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"
        write_file(tmp_path, storage)
        words = (f"tiny.yaml: storage = '{storage}': access is refused", "AWS_ACCESS_KEY_ID")
        assert_refused(("run", "tiny.yaml"), tmp_path, *words)
        server.shutdown()


def test_who_may_not_look_at_the_whole_bucket_may_use_a_part(bucket: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Forbidden) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http"
        object_store.check_bucket(*object_store.open_filesystem(f"s3://mine/part?{place}"))
        server.shutdown()


def test_a_server_that_does_not_answer_is_one_line_that_names_the_storage(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PATIENCE_S", 0.1)
    storage = "s3://mine/x?endpoint_override=127.0.0.1:9&scheme=http"
    write_file(tmp_path, storage)
    outcome = in_process("run", "tiny.yaml", cwd=tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith(f"logit-bias: tiny.yaml: storage = '{storage}': ")
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_checkpoints_and_the_request_to_stop(bucket: str) -> None:
    folder = folder_in(bucket, "checkpoints")
    folder.write_bytes(".driver", b'{"token": "current"}')
    store = CheckpointStore(folder, "current", 60.0)
    assert store.cohorts() == {}
    assert store.load("c1") is None
    store.save("c1", ["a", "b"], b"state")
    store.save("c2", ["c"], b"other")
    assert store.load("c1") == b"state"
    assert store.cohorts() == {"c1": ["a", "b"], "c2": ["c"]}
    store.discard("c2")
    store.discard("c2")
    assert store.cohorts() == {"c1": ["a", "b"]}
    store.discard_all_but(())
    assert store.cohorts() == {}
    assert not store.stop_requested()
    folder.write_bytes(".stop", b"current")
    assert store.stop_requested()


def test_epochs_without_trials_are_not_read_and_then_removed(bucket: str) -> None:
    folder = folder_in(bucket, "uncommitted")
    write(folder, "kept", "a")
    write(folder, "killed", "b")
    folder.filesystem.delete_file(folder.table_files("trials", "search").parts["killed"])
    assert folder.read("epochs").column("network_id").to_pylist() == ["a"]
    discard_uncommitted(folder)
    assert list(folder.table_files("epochs", "search").parts) == ["kept"]


def test_a_second_driver_refuses_while_the_first_renews(bucket: str) -> None:
    folder = folder_in(bucket, "busy")
    folder.write_bytes("study.yaml", b"")
    first = lease.Lease(folder, **FAST)
    with pytest.raises(lease.StudyBusyError, match="being run by process"):
        lease.Lease(folder, **FAST)
    lease.check(folder, first.token)
    first.release()
    started = time.monotonic()
    lease.Lease(folder, renewed_every_s=0.2, dead_after_s=60).release()
    assert time.monotonic() - started < 5  # nobody waits for a driver that has released its lease


def test_a_dead_driver_is_replaced_and_its_workers_may_not_write(bucket: str) -> None:
    folder = folder_in(bucket, "dead")
    hold_and_die = (
        "import os\n"
        "from study.execution.lease import Lease\n"
        "from study.results.folder import StudyFolder\n"
        f"held = Lease(StudyFolder({folder.uri!r}), 0.2, 1.0); print(held.token, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", hold_and_die], capture_output=True, text=True)
    assert dead.returncode == -9
    token = dead.stdout.strip()
    lease.check(folder, token)
    held = lease.Lease(folder, **FAST)
    with pytest.raises(lease.LostLeaseError):
        lease.check(folder, token)
    held.release()


def test_a_study_runs_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    plain = {**TINY_STUDY, "sweep": None, "storage": bucket.format("run/")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))

    def logit_bias(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "study.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    result = logit_bias("run", "tiny.yaml", "--stage", "search")
    assert result.returncode == 0, result.stderr
    uri = result.stdout.partition(": done")[0]
    state = json.loads(logit_bias("status", uri, "--json").stdout)
    assert state["networks"]["search"] == {"done": 12, "planned": 12}
    networks = StudyFolder(uri).read("trials").column("network_id").to_pylist()
    assert len(networks) == len(set(networks)) == 12
