"""A submitted study is a job of the cluster: it outlives `submit`, and `ray job stop` saves it.

On simulated machines; minutes long, and skipped without root.
"""

import json
import re
import subprocess
import time
from typing import Any

import pytest
import torch
from by_hand import LONG, PAGE, ByHand
from onprem import undisturbed
from rows_of_a_study import contents

from study.results.folder import StudyFolder

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def expected(made_by_hand: ByHand) -> dict[str, Any]:
    return undisturbed(made_by_hand, LONG)


def submit(cluster: ByHand, storage: str) -> tuple[subprocess.Popen[str], str]:
    """Submit the study, and wait for its first rows; the process of `submit` and the job."""
    cluster.tunnel()
    process = cluster.submit(storage, LONG)
    assert process.stdout is not None
    named = re.fullmatch(rf"job (raysubmit_\w+): {storage}/tiny\n", process.stdout.readline())
    assert named is not None
    cluster.wait_for_rows(process, storage)
    return process, named[1]


def status(cluster: ByHand, storage: str) -> dict[str, Any]:
    """`logit-bias status` on the user's machine."""
    shown = cluster.laptop.run(f"logit-bias status {storage}/tiny --json").stdout
    found: dict[str, Any] = json.loads(shown)
    return found


def trained(found: dict[str, Any]) -> int:
    return sum(stage["done"] for stage in found["networks"].values())


def wait_for_the_end(cluster: ByHand, storage: str, timeout: float = 400) -> None:
    """Wait until `status` says that a study which is not done is done."""
    found = [status(cluster, storage)]
    assert not found[0]["done"]
    end = time.monotonic() + timeout
    while not found[-1]["done"]:
        assert time.monotonic() < end, found[-1]
        time.sleep(2)
        found.append(status(cluster, storage))
        assert trained(found[-1]) >= trained(found[-2])


def test_a_study_goes_on_after_ctrl_c_of_submit(
    made_by_hand: ByHand, expected: dict[str, Any]
) -> None:
    cluster, storage = made_by_hand, "/shared/interrupted"
    process, job = submit(cluster, storage)
    cluster.interrupt(cluster.laptop)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    wait_for_the_end(cluster, storage)
    # The command of the message prints the log up to the end of the job.
    follow = re.search(r"follow it: `(ray job logs -f .*?)`", shown)
    assert follow is not None, shown
    assert job in follow[1]
    assert "done; next: logit-bias report" in cluster.shell(cluster.laptop, follow[1])
    assert contents(cluster.folder(storage)) == expected


def test_a_study_goes_on_after_the_connection_breaks(
    made_by_hand: ByHand, expected: dict[str, Any]
) -> None:
    cluster, storage = made_by_hand, "/shared/unconnected"
    process, job = submit(cluster, storage)
    cluster.close_tunnel()
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 1, shown
    assert f"connection is lost; if the head still runs, the study goes on as job {job}" in shown
    wait_for_the_end(cluster, storage)
    assert contents(cluster.folder(storage)) == expected


def test_a_study_goes_on_when_the_machine_that_submitted_it_loses_power(
    made_by_hand: ByHand, expected: dict[str, Any]
) -> None:
    cluster, storage = made_by_hand, "/shared/off"
    process, _ = submit(cluster, storage)
    cluster.laptop.kill()
    process.communicate(timeout=60)
    cluster.laptop.boot()
    wait_for_the_end(cluster, storage)
    assert contents(cluster.folder(storage)) == expected


def test_ray_job_stop_saves_the_cohorts_and_submitting_again_goes_on(
    made_by_hand: ByHand, expected: dict[str, Any]
) -> None:
    cluster, storage = made_by_hand, "/shared/stopped"
    process, job = submit(cluster, storage)
    stop = re.search(r"^(ray job stop .*?) +#", PAGE, flags=re.MULTILINE)
    assert stop is not None
    cluster.shell(cluster.laptop, stop[1].replace("HEAD", "127.0.0.1").replace("JOB", job))
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"job {job}: stopped; submit again to resume" in shown
    found = status(cluster, storage)
    assert not found["done"]
    assert found["saved_cohorts"]
    folder = cluster.folder(storage)
    finished = {row["network_id"]: row["finished_utc"] for row in cluster.rows(storage)}
    # Seconds of each epoch; training an epoch again would take another time.
    saved = {
        (row["network_id"], row["epoch"]): row["wall_s"]
        for file in folder.glob("checkpoints/*.pt")
        for history in torch.load(file, weights_only=True)["running"]["history"]
        for row in history
    }
    assert finished
    assert saved

    process, _ = submit(cluster, storage)
    shown, _ = process.communicate(timeout=400)
    assert process.returncode == 0, shown
    rows = {row["network_id"]: row["finished_utc"] for row in cluster.rows(storage)}
    assert finished.items() <= rows.items()
    epochs = StudyFolder(str(folder)).read("epochs").to_pylist()
    assert saved.items() <= {(e["network_id"], e["epoch"]): e["wall_s"] for e in epochs}.items()
    assert contents(folder) == expected
