"""Studies as jobs of a real SLURM on simulated machines: warned, requeued, killed, side by side.

Minutes long; skipped without root, or without Debian's packages slurm-wlm and munge.
"""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from onprem import STUDY
from rows_of_a_study import contents
from simulated_slurm import Slurm

from study.results.folder import StudyFolder

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


def wait_for_line(slurm: Slurm, job: str, text: str) -> None:
    end = time.monotonic() + 200
    while text not in slurm.run(f"cat /shared/home/logit-bias-tiny-{job}.out || true"):
        assert time.monotonic() < end, log(slurm, job)
        time.sleep(0.3)


def start_again_now(slurm: Slurm, job: str, *changes: str) -> None:
    """SLURM lets a requeued job wait two minutes."""
    assert slurm.wait(job, "PENDING", "COMPLETED", "FAILED", "TIMEOUT") == "PENDING"
    time.sleep(1)
    new = " ".join(("StartTime=now", *changes))
    slurm.control.run(f"scontrol update JobId={job} {new}", user="root")
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


def test_slurm_warns_before_the_time_limit(slurm: Slurm, expected: dict[str, Any]) -> None:
    """SLURM looks at the limits every 30 s; the two networks train for about a minute."""
    rows = StudyFolder(str(folder(slurm, "here"))).read("trials").to_pylist()
    epochs = int(90 * STUDY["recipe"]["epochs"] / min(row["wall_s"] for row in rows))
    changes = {
        "recipe": {**STUDY["recipe"], "epochs": epochs},
        "search": {**STUDY["search"], "networks_per_cell": 2},
        "sweep": None,
        "confirm": None,
        "resources": {"networks_per_cohort": 1, "checkpoint_minutes": None},
    }
    for name in ("unlimited", "limited"):
        write(slurm, name, **changes)
    slurm.run("cd /shared/home && logit-bias run unlimited.yaml")
    job = submit(slurm, "limited", "--cpus-per-node 2 --time 0:05:00")  # the shortest allowed
    wait_for_line(slurm, job, "1 in flight")
    # Now less than the three minutes of the warning are left.
    slurm.run(f"scontrol update JobId={job} TimeLimit=3")
    start_again_now(slurm, job, "TimeLimit=30")
    shown = log(slurm, job)
    assert "the time is nearly over: saving" in shown
    assert re.search(r"[12] unfinished cohorts saved; run the same command to go on", shown), shown
    assert slurm.wait(job, "COMPLETED", "FAILED", "TIMEOUT") == "COMPLETED"
    assert f"job {job}, start 2" in log(slurm, job)
    assert contents(folder(slurm, "limited")) == contents(folder(slurm, "unlimited"))


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
