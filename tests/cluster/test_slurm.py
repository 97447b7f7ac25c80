"""Studies as jobs of a real SLURM on simulated machines: warned, requeued, killed, side by side.

Minutes long; skipped without root, or without Debian's packages slurm-wlm and munge.
"""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from onprem import STUDY
from rows_of_a_study import contents
from simulated_slurm import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.integration]
ONE_CORE = "--cpus-per-node 1 --time 0:30:00 --sbatch=--nodelist=node1"


def write(slurm: Slurm, name: str, **changes: Any) -> None:
    resources = {"networks_per_cohort": 2, "checkpoint_minutes": 0}
    study = {**STUDY, "resources": resources, "storage": f"out/{name}", **changes}
    slurm.run(f"cd /shared/home && cat > {name}.yaml <<'END'\n{yaml.safe_dump(study)}\nEND")


def submit(slurm: Slurm, name: str, options: str) -> str:
    shown = slurm.run(f"cd /shared/home && logit-bias submit {name}.yaml --slurm {options}")
    return shown.split()[1].rstrip(";")


def folder(slurm: Slurm, name: str) -> Path:
    return slurm.hosts.shared / f"home/out/{name}/tiny"


def log(slurm: Slurm, job: str) -> str:
    return (slurm.hosts.shared / f"home/logit-bias-tiny-{job}.out").read_text()


def wait_for_more_rows(slurm: Slurm, name: str, job: str) -> None:
    def rows() -> int:
        return len(list(folder(slurm, name).glob("trials/*/*.parquet")))

    before, end = rows(), time.monotonic() + 200
    while rows() == before:
        assert time.monotonic() < end, log(slurm, job)
        time.sleep(0.05)


def start_again_now(slurm: Slurm, job: str) -> None:
    """SLURM lets a requeued job wait two minutes."""
    slurm.wait(job, "PENDING")
    time.sleep(1)
    slurm.control.run(f"scontrol update JobId={job} StartTime=now", user="root")
    slurm.wait(job, "RUNNING")


@pytest.fixture(scope="module")
def expected(slurm: Slurm) -> dict[str, Any]:
    write(slurm, "here")
    slurm.run("cd /shared/home && logit-bias run here.yaml")
    return contents(folder(slurm, "here"))


def test_warned_requeued_and_a_node_lost(slurm: Slurm, expected: dict[str, Any]) -> None:
    write(slurm, "disturbed")
    job = submit(slurm, "disturbed", "--nodes 2 --cpus-per-node 2 --time 0:30:00")
    wait_for_more_rows(slurm, "disturbed", job)
    slurm.run(f"scancel --batch --signal=USR1 {job}")  # what SLURM sends before the time limit
    start_again_now(slurm, job)
    assert "saved; run the same command to go on" in log(slurm, job)
    wait_for_more_rows(slurm, "disturbed", job)
    slurm.run(f"scontrol requeue {job}")  # as when a job of a higher priority takes the nodes
    start_again_now(slurm, job)
    wait_for_more_rows(slurm, "disturbed", job)
    slurm.hosts["node2"].kill()  # the script runs on node1
    try:
        assert slurm.wait(job, "COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL") == "COMPLETED"
    finally:
        slurm.hosts["node2"].boot()
        slurm.start_daemons(slurm.hosts["node2"])
    assert f"job {job}, start 3" in log(slurm, job)
    assert contents(folder(slurm, "disturbed")) == expected


def test_jobs_of_two_studies_share_a_node(slurm: Slurm, expected: dict[str, Any]) -> None:
    jobs = {}
    for name in ("left", "right"):
        write(slurm, name)
        # Jobs of one name wait for each other; these two are not to.
        jobs[name] = submit(slurm, name, f"{ONE_CORE} --sbatch=--job-name={name}")
    for job in jobs.values():
        slurm.wait(job, "RUNNING")
    private = slurm.hosts["node1"].run("stat -c '%a %n' /tmp/logit-bias-*").stdout.split("\n")
    assert {line.split()[0] for line in private if line} == {"700"}
    for name, job in jobs.items():
        assert slurm.wait(job, "COMPLETED", "FAILED") == "COMPLETED", name
        assert contents(folder(slurm, name)) == expected
    slurm.wait_for_no_files()


def test_jobs_on_one_study_run_one_after_the_other(slurm: Slurm, expected: dict[str, Any]) -> None:
    write(slurm, "twice")
    first, second = (submit(slurm, "twice", ONE_CORE) for _ in range(2))
    slurm.wait(first, "RUNNING")
    assert slurm.state(second) == "PENDING"
    wait_for_more_rows(slurm, "twice", first)
    slurm.run(f"scancel {first}")
    assert slurm.wait(second, "COMPLETED", "FAILED") == "COMPLETED"
    assert slurm.state(first) == "CANCELLED"
    assert contents(folder(slurm, "twice")) == expected
