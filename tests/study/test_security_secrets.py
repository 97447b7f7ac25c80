"""Tokens and cloud keys are in nothing that a study writes or prints (docs/security.md)."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
import yaml
from moto.server import ThreadedMotoServer
from tests_support import TINY_STUDY, logit_bias

from study.execution.submit import runtime_environment
from study.results.credentials import has_credentials, without_credentials

SECRETS = {
    name: f"fake{name.replace('_', '').lower()}0123456789"
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN"),
        *("AZURE_STORAGE_KEY", "HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"),
        *("GITHUB_TOKEN", "SLURM_JWT"),
    )
}


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, with what is compressed in it, and its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        yield str(path), str(path).encode() + path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield str(path), str((table.schema.metadata, table.to_pylist())).encode()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder / f"{path.name}-content")
            yield from texts(folder / f"{path.name}-content")


def leaks(folder: Path, printed: str) -> set[tuple[str, str]]:
    found = [("printed", printed.encode()), *texts(folder)]
    return {
        (where, name)
        for where, content in found
        for name, secret in SECRETS.items()
        if secret in content.decode(errors="replace")
    }


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("place", ["disk", "object-store"])
def test_secrets_of_the_environment_are_in_no_file_and_no_log(scratch: Path, place: str) -> None:
    """Neither in the study folder, nor in what is made of it, nor in the logs of Ray."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = [SECRETS[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )
    client.create_bucket(Bucket="studies")
    storage = f"s3://studies/out?endpoint_override={host}:{port}&scheme=http"
    storage = storage if place == "object-store" else "out"
    study = {**TINY_STUDY, "sweep": None, "storage": storage}
    (scratch / "tiny.yaml").write_text(yaml.safe_dump(study))
    uri = storage.replace("out", "out/tiny", 1)
    environment = {
        **os.environ,
        **SECRETS,
        "TMPDIR": str(scratch),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    environment |= {"AWS_EC2_METADATA_DISABLED": "true"}
    printed = ""
    for command in (
        ["run", "tiny.yaml", "--tensorboard", "curves"],
        ["status", uri, "--json"],
        ["report", uri],
        ["export", uri, "--to", "bundle", "--output", "tiny.zip"],
        ["export", uri, "--to", "csv", "--output", "csv"],
        ["submit", "tiny.yaml", "--slurm", "--dry-run"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "study.cli", *command],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout + done.stderr
    for item in client.list_objects_v2(Bucket="studies").get("Contents", []):
        path = scratch / "bucket" / item["Key"]
        if item["Key"].endswith("/"):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("studies", item["Key"], str(path))
    server.stop()
    seen = [name for name, _ in texts(scratch)]
    for part in (
        "study.yaml",
        "plan.json",
        "trials/search",
        "report.html",
        "bundle.json",
        "/logs/",
    ):
        assert any(part in name for name in seen), part
    assert leaks(scratch, printed) == set()
    (scratch / "planted").write_text(SECRETS["HF_TOKEN"])
    assert leaks(scratch, SECRETS["SLURM_JWT"]) == {
        (f"{scratch}/planted", "HF_TOKEN"),
        ("printed", "SLURM_JWT"),
    }


def test_a_submitted_job_carries_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    sent = runtime_environment(str(tmp_path))
    named = {"LOGIT_BIAS_DATA", "LOGIT_BIAS_GIT", "RAY_JOB_STOP_WAIT_TIME_S"}
    assert "LOGIT_BIAS_GIT" in sent["env_vars"]
    assert sent["env_vars"].keys() <= named
    assert "fake" not in json.dumps(sent)


SECRET_URIS = [
    "s3://FAKEKEY:FAKE+se/cret=@bucket/studies",
    "s3://FAKEKEY:FAKEsecret@bucket/studies?scheme=http",
    "s3://FAKEKEY@bucket/studies",
    "s3://bucket/studies?secret_key=FAKE&scheme=http",
    "hdfs://user:FAKE@host:8020/studies",
    "abfs://:FAKE@account/studies",
]


@pytest.mark.parametrize("uri", SECRET_URIS)
def test_a_uri_with_credentials_is_refused_in_a_line_that_lacks_them(
    uri: str, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY_STUDY, "storage": uri}))
    for command in (
        *(["run", "tiny.yaml"], ["plan", "tiny.yaml"], ["submit", "tiny.yaml", "--slurm"]),
        *(["status", uri], ["analyse", uri], ["report", uri], ["compare", uri]),
        *(["recommend", uri], ["trial", uri, "x"], ["export", uri, "--to", "csv"]),
        *(["merge", uri, "other", "--output", uri], ["analyse", uri, "--into", uri]),
    ):
        done = logit_bias(*command, cwd=tmp_path)
        assert done.returncode == 2, (command, done)
        assert len(done.stderr.strip().splitlines()) == 1
        assert "credentials in the environment" in done.stderr
        assert "FAKE" not in done.stderr + done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b/studies?endpoint_override=localhost:9000&scheme=http",
        *("hdfs://user@host:8020/studies", "gs://anonymous@bucket/x", "file:///tmp/a@b:c"),
        *("abfs://files@account.dfs.core.windows.net/x", "results/a@b:c", "s3://bucket:9000/a@b"),
    ],
)
def test_other_uris_are_left_alone(uri: str) -> None:
    assert not has_credentials(uri)


def test_no_error_message_shows_the_password_of_a_uri() -> None:
    """Such as the tracking URI of MLflow, where a password is usual."""
    message = without_credentials("postgresql://me:FAKE@db/x and http://h/?api_token=FAKE&y=1")
    assert message == "postgresql://***@db/x and http://h/?api_token=***&y=1"
    done = logit_bias("submit", "quickstart", "--address", "http://me:FAKE@127.0.0.1:9")
    assert done.returncode != 0
    assert "FAKE" not in done.stderr
