"""What a study starts listens on loopback, or asks for a token (docs/security.md)."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from listening import Listener, listeners
from tests_support import TINY_STUDY, logit_bias

from study.execution.ray_resources import NotPrivateError, private_folder

ROOT = Path(__file__).parents[2]
TOKEN = "recognisable-token-" + "0" * 13
STARTS_S = 60.0


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("options", [[], ["--dashboard"]], ids=["plain", "dashboard"])
def test_a_run_listens_on_loopback_alone_and_there_with_a_token(
    scratch: Path, options: list[str]
) -> None:
    """Whatever the user's environment says; other users of a machine reach loopback, too."""
    (scratch / "tiny.yaml").write_text(yaml.safe_dump({**TINY_STUDY, "sweep": None}))
    environment = {**os.environ, "TMPDIR": str(scratch), "HOME": str(scratch)}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    command = [sys.executable, "-m", "study.cli", "run", "tiny.yaml", *options]
    run = subprocess.Popen(command, cwd=scratch, env=environment, stderr=subprocess.PIPE)
    found: set[Listener] = set()
    answers: dict[Listener, str] = {}
    while run.poll() is None:
        found |= listeners(run.pid)
        driver = [x for x in found if "study.cli run" in x.process]
        if driver and not answers:  # Ray is complete
            answers = {x: x.answer() for x in found if x in driver or "gcs_server" in x.process}
        time.sleep(0.3)
    assert run.returncode == 0, run.stderr and run.stderr.read().decode()
    assert {x for x in found if not x.is_on_loopback} == set()
    assert len(answers) == 2
    assert set(answers.values()) == {"refused"}
    token = scratch / ".ray/auth_token"
    assert (token.stat().st_mode & 0o777, len(token.read_text())) == (0o600, 64)
    folder = scratch / f"lb-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.glob("ray/session_*/logs"))


def cluster_commands(name: str, scratch: Path) -> tuple[str, str]:
    """What the launcher runs on the head and on a worker, with ports that are free here."""
    file = yaml.safe_load((ROOT / name).read_text())
    port, common = free_port(), f"--temp-dir={scratch}/ray --num-cpus=1 --block"
    common += " --dashboard-agent-listen-port=0 --object-store-memory=100000000"
    head = file["head_start_ray_commands"][-1].replace("--num-cpus=0", "")
    head = re.sub("--autoscaling-config=[^ ]*", common, head).replace("6379", str(port))
    head += f" --ray-client-server-port={free_port()} --dashboard-port={free_port()}"
    worker = file["worker_start_ray_commands"][-1].replace("6379", str(port))
    return head, f"{worker} {common}"


def assert_refused(pid: int, least: int) -> None:
    """Wait until there are so many ports, and ask each of them."""
    end, found = time.monotonic() + STARTS_S, set[Listener]()
    while len(found) < least:
        assert time.monotonic() < end, found
        time.sleep(1)
        found = listeners(pid)
    time.sleep(2)
    answers = {x: x.answer() for x in listeners(pid)}
    assert len(answers) >= least
    dashboard = {x for x in answers if "dashboard" in x.process and x.is_on_loopback}
    # The dashboard's page, without data, is open; the page asks for the token.
    assert {x: a for x, a in answers.items() if a != "refused" and x not in dashboard} == {}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-onprem.yaml"])
def test_the_cluster_files_start_nothing_that_answers_without_a_token(
    name: str, scratch: Path
) -> None:
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "RAY_AUTH_TOKEN": TOKEN, "RAY_HEAD_IP": ""}
    environment.pop("RAY_AUTH_MODE", None)
    head_command, worker_command = cluster_commands(name, scratch)
    environment["RAY_HEAD_IP"] = socket.gethostbyname(socket.gethostname())
    nodes = []
    try:
        for command, ports in ((head_command, 9), (worker_command, 5)):
            process = subprocess.Popen(
                ["bash", "-c", command],
                env=environment,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            nodes.append(process)
            assert_refused(process.pid, ports)
    finally:
        for process in reversed(nodes):
            os.killpg(process.pid, 15)
            process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.integration
def test_the_slurm_script_starts_nothing_that_answers_without_a_token(scratch: Path) -> None:
    """The script itself, with the variables of a job on one node."""
    study = {**TINY_STUDY, "recipe": {**TINY_STUDY["recipe"], "epochs": 100_000}}
    (scratch / "tiny.yaml").write_text(yaml.safe_dump(study))
    written = logit_bias("submit", "tiny.yaml", "--slurm", "--dry-run", cwd=scratch)
    job = {"JOB_ID": f"t{os.getpid()}", "JOB_NUM_NODES": "1", "CPUS_ON_NODE": "1"}
    job |= {"JOB_NODELIST": "here", "JOBID": "0"}
    environment = {**os.environ, **{f"SLURM_{key}": value for key, value in job.items()}}
    (scratch / "job.sh").write_text(written.stdout)
    process = subprocess.Popen(["bash", "job.sh"], cwd=scratch, env=environment)
    try:
        assert_refused(process.pid, 10)
    finally:
        process.send_signal(15)
        for child in subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
        ).stdout.split():
            os.kill(int(child), 15)
        process.wait(timeout=90)


def test_rays_folder_is_closed_to_others_and_has_a_short_name(scratch: Path) -> None:
    """A name in /tmp that somebody else has made is refused; long names are not used."""
    assert private_folder(str(scratch)) == f"{scratch}/lb-{os.getuid()}/ray"
    assert (scratch / f"lb-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    assert len(private_folder("/scratch/slurm/job-1234567/user/tmp-of-this-job")) < 43
    (scratch / f"lb-{os.getuid()}").chmod(0o755)
    with pytest.raises(NotPrivateError, match="closed to others"):
        private_folder(str(scratch))
    (scratch / f"lb-{os.getuid()}").rmdir()
    (scratch / f"lb-{os.getuid()}").symlink_to(scratch)
    with pytest.raises(NotPrivateError):
        private_folder(str(scratch))


def test_kuberay_pods_ask_for_a_token_and_have_no_port_for_metrics() -> None:
    spec = yaml.safe_load((ROOT / "kuberay.yaml").read_text())["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    for pod in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = pod["template"]["spec"]["containers"]
        assert {"name": "RAY_enable_metrics_collection", "value": "0"} in container["env"]
