"""An object store that fails: every operation of a study folder, and whole studies.

moto's S3 server and `faulty_proxy.py` before it, each in a process of its own. The studies take
minutes; LOGIT_BIAS_ROUNDS sets the number of rounds. LOGIT_BIAS_S3_PORT names another S3 server on
this machine, with the bucket `studies`.
"""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rows_of_a_study import contents
from s3_processes import CREDENTIALS, ENVIRONMENT, faults_of, faulty_proxy, objects, s3_server, uri
from tests_support import TINY_STUDY

from study.execution.lease import Lease, LeaseHolder
from study.results import compaction, folder, object_store
from study.results.folder import ResultsError, StudyFolder
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS, Stage

pytestmark = pytest.mark.integration
ROUNDS = int(os.environ.get("LOGIT_BIAS_ROUNDS", "2"))


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with s3_server() as port:
            yield port


def write(study: StudyFolder, cohort: str, network: str) -> None:
    trial = dict.fromkeys(TRIALS.names) | {"network_id": network, "schema_version": SCHEMA_VERSION}
    epoch = dict.fromkeys(EPOCHS.names) | {"network_id": network, "epoch": 1}
    study.write_part("search", cohort, [trial], [epoch])


def networks(study: StudyFolder, table: folder.TableName = "trials") -> list[str]:
    return sorted(study.read(table).column("network_id").to_pylist())


def test_every_operation_succeeds_in_the_end(server: int) -> None:
    """A quarter of all requests fails, also by answers 502, which pyarrow does not repeat."""
    with faulty_proxy(server, seed=1, share=0.25, slow_s=0.1, stale_s=0) as proxy:
        study = StudyFolder(uri(proxy, "operations"))
        study.create()
        for i in range(2):
            write(study, f"c{i}", f"n{i:02}")
            study.write_bytes("plan.json", b"x" * i)
            assert study.read_bytes("plan.json") == b"x" * i
        assert study.read_bytes("absent") is None
        expected = [f"n{i:02}" for i in range(2)]
        assert networks(study) == networks(study, "epochs") == expected
        assert compaction.compact(study, Stage.SEARCH) == 2
        assert len(study.file_names("trials/search")) == 1
        assert networks(study) == networks(study, "epochs") == expected
        study.delete("plan.json")
        assert not study.exists()
        counts = faults_of(proxy)
    assert min(counts[name] for name in ("refused", "lost", "cut-request", "cut-answer")) > 0


def test_an_answer_may_take_longer_than_pyarrow_waits_by_default(server: int) -> None:
    StudyFolder(uri(server, "slow")).write_bytes("file", b"content")
    with faulty_proxy(server, seed=4, share=1, slow_s=3.6, stale_s=0, faults=["slow"]) as proxy:
        study = StudyFolder(uri(proxy, "slow"))
        started = time.monotonic()
        assert study.filesystem.get_file_info(study.file("file")).size == len(b"content")
        assert time.monotonic() - started > 3.2
        assert faults_of(proxy)["requests"] == 1  # not repeated


def test_rows_are_neither_lost_nor_doubled_by_stale_listings(server: int) -> None:
    with faulty_proxy(server, seed=1, share=0, stale_s=0.8) as proxy:
        study, current = (StudyFolder(uri(port, "stale")) for port in (proxy, server))
        expected: list[str] = []
        for i in range(4):
            write(study, f"c{i}", f"n{i}")
            expected.append(f"n{i}")
            if i % 2:
                compaction.compact(study, Stage.SEARCH)
            # What a driver does first.
            compaction.discard_uncommitted(study)
            assert networks(study) == networks(study, "epochs") == expected
            assert networks(current) == networks(current, "epochs") == expected
        assert faults_of(proxy)["stale"] > 0


def test_a_listing_that_stays_stale_is_one_line(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PATIENCE_S", 1.0)
    with faulty_proxy(server, share=0, stale_s=10_000) as proxy:
        study = StudyFolder(uri(proxy, "old"))
        study.file_names("trials/search")  # from now on the listing stays as it is
        write(study, "c", "n")
        with pytest.raises(ResultsError, match="not up to date") as raised:
            compaction.discard_uncommitted(study)
    assert "\n" not in str(raised.value)
    assert networks(StudyFolder(uri(server, "old")), "epochs") == ["n"]


def test_refused_access_and_a_missing_bucket_are_not_waited_for(server: int) -> None:
    absent = StudyFolder(uri(server, "x").replace("studies", "no-such-bucket"))
    started = time.monotonic()
    with pytest.raises(OSError, match="no bucket 'no-such-bucket'"):
        absent.write_bytes("file", b"content")
    assert time.monotonic() - started < 5


def test_a_store_out_of_reach_fails_after_a_while(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PATIENCE_S", 1.0)
    with faulty_proxy(server, share=1, stale_s=0, faults=["refused"]) as proxy:
        study = StudyFolder(uri(proxy, "away"))
        started = time.monotonic()
        with pytest.raises(OSError, match="AWS Error"):
            study.write_bytes("file", b"content")
    assert 0.5 < time.monotonic() - started < 60


def test_a_file_that_grows_while_it_is_read_is_read_again(server: int) -> None:
    """The reader learns the length first; a lease that is renewed meanwhile must not seem lost."""
    with faulty_proxy(server, share=1, slow_s=0.05, stale_s=0, faults=["slow"]) as proxy:
        study, reader = StudyFolder(uri(server, "grows")), StudyFolder(uri(proxy, "grows"))
        held = Lease(study, renewed_every_s=0.003, dead_after_s=60)
        renewals = set()
        for _ in range(20):
            holder = LeaseHolder.read(reader)
            assert holder is not None
            assert holder.token == held.token
            renewals.add(holder.renewal)
        held.release()
    assert len(renewals) > 1


def write_study(at: Path, storage: str) -> Path:
    study = {
        **TINY_STUDY,
        "sweep": {"points": 3, "seeds": 1, "lr_points": 2},
        "recipe": {"epochs": 40, "batch_size": 128},
        # Many cohorts, and a checkpoint of most of them.
        "resources": {"networks_per_cohort": 2, "checkpoint_minutes": 0.01},
        "storage": storage,
    }
    path = at / "tiny.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def start(study: Path) -> subprocess.Popen[str]:
    folder = str(study.parent)  # of Ray's logs, too
    environment = {**os.environ, **ENVIRONMENT, **dict.fromkeys(("TMPDIR", "RAY_TMPDIR"), folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study)],
        cwd=study.parent,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets are below it."""
    path = Path(tempfile.mkdtemp(prefix="lb-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    at = tmp_path_factory.mktemp("undisturbed")
    study = write_study(at, str(at / "out"))
    command = [sys.executable, "-m", "study.cli", "run", str(study)]
    subprocess.run(command, cwd=at, check=True, capture_output=True)
    return contents(str(at / "out/tiny"))


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_study_on_a_failing_store_gives_the_rows_of_an_undisturbed_one(
    round_: int, server: int, undisturbed: dict[str, Any], short_path: Path
) -> None:
    draw = random.Random(round_)
    kills = [signal.SIGKILL] * draw.choice([1, 1, 2]) if round_ % 3 != 1 else []
    if round_ % 3 == 2:
        kills.append(signal.SIGTERM)
    shown, lost = "", 0
    with faulty_proxy(server, seed=round_, share=0.05, slow_s=4, stale_s=6) as proxy:
        study = write_study(short_path, uri(proxy, f"rounds/{round_}"))
        for number in kills:
            process = start(study)
            rows = len(parts(server, round_))
            while process.poll() is None and len(parts(server, round_)) <= rows:
                time.sleep(0.1)
            time.sleep(draw.uniform(0, 4))
            lost += process.poll() is None
            process.send_signal(number)
            shown += process.communicate(timeout=400)[0]
        process = start(study)
        shown += process.communicate(timeout=600)[0]
        counts = faults_of(proxy)
    print(f"round {round_}: {lost} of {len(kills)} drivers lost in training; {counts}")
    assert process.returncode == 0, shown
    assert min(counts[name] for name in ("refused", "lost", "cut-answer", "slow")) > 0
    stored = objects(server, f"rounds/{round_}/")
    tables = {key: pq.read_table(io.BytesIO(stored[key])) for key in stored if "parquet" in key}
    assert any("trials/" in key for key in tables)
    assert contents(uri(server, f"rounds/{round_}/tiny")) == undisturbed
    assert not [key for key in stored if key.endswith((".tmp", ".pt"))]
    logs = [path.read_bytes() for path in short_path.rglob("logs/**/*") if path.is_file()]
    assert len(logs) > 5
    rows = [repr(table.to_pylist()).encode() for table in tables.values()]
    for secret in CREDENTIALS.values():
        for content in (shown.encode(), *stored.values(), *rows, *logs):
            assert secret.encode() not in content


def parts(server: int, round_: int) -> list[str]:
    trials = StudyFolder(uri(server, f"rounds/{round_}/tiny"))
    return [name for stage in Stage for name in trials.file_names(f"trials/{stage}")]
