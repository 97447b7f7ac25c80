"""Workers stay while they wait for the next cohort."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests_support import TINY_STUDY

WORKERS = 4

DRIVER = """
import os, sys, time
from pathlib import Path

from study.config.loader import read_study
from study.execution.run import RunOptions, run_study

folder = Path(sys.argv[1])


def train_and_note(config, *, write_rows, checkpointer):
    from trainables.tune import train_cohort

    if config["stage"] == "search" and config["identity"][0]["arm"] == "tuned":
        time.sleep(2)  # confirm needs this search; the other workers wait
    if config["stage"] == "confirm":
        time.sleep(8)  # as long as new workers would need to start
    train_cohort(config, write_rows=write_rows, checkpointer=checkpointer)
    with (folder / "workers").open("a") as noted:
        noted.write(f"{config['stage']} {os.getpid()}\\n")


run_study(*read_study(str(folder / "tiny.yaml")), RunOptions(trainable=train_and_note))
"""


@pytest.mark.slow
@pytest.mark.integration
def test_workers_stay_while_they_wait(tmp_path: Path) -> None:
    study = {
        **TINY_STUDY,
        "sweep": None,
        "resources": {
            "workers": WORKERS,
            "cpus_per_cohort": 1 / WORKERS,
            "networks_per_cohort": 1,
        },
        "storage": str(tmp_path),
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    lines = (tmp_path / "workers").read_text().splitlines()
    assert {line.split()[0] for line in lines} == {"search", "confirm"}
    assert len({line.split()[1] for line in lines}) <= WORKERS
