"""The batch script that `submit --slurm` writes; tests/cluster/test_slurm.py runs it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests_support import TINY_STUDY, logit_bias


def script(tmp_path: Path, *options: str) -> str:
    (tmp_path / "my study.yaml").write_text(yaml.safe_dump(TINY_STUDY))
    command = ("submit", "my study.yaml", "--slurm", "--dry-run", *options)
    done = logit_bias(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_is_bash_and_asks_for_what_was_said(tmp_path: Path) -> None:
    text = script(
        tmp_path,
        *("--nodes", "4", "--gpus-per-node", "8", "--time", "8:00:00", "--partition", "gpu"),
        *("--sbatch=--account=me", "--stage", "search"),
    )
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    asked = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    wanted = ["--nodes=4", "--gpus-per-node=8", "--cpus-per-task=32", "--time=8:00:00"]
    assert {*wanted, "--partition=gpu", "--account=me", "--requeue"} <= set(asked)
    assert asked[-1] == "--account=me"  # the last one counts: a user's option wins
    assert asked.index("--requeue") < text.index("\nset -u")  # sbatch reads no further
    assert f"run '{tmp_path}/my study.yaml' --stage search --address" in text
    assert "--num-gpus=8" in text
    assert "$$" not in text.replace("$${", "")
    assert [path.name for path in tmp_path.iterdir()] == ["my study.yaml"]  # nothing is written


def test_whole_nodes_where_no_core_was_asked_for(tmp_path: Path) -> None:
    assert "#SBATCH --exclusive" in script(tmp_path)
    assert "#SBATCH --exclusive" not in script(tmp_path, "--cpus-per-node", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--slurm", "--nodes", "0"), "--nodes 0: allowed: 1 or more"),
        (("--slurm", "--gpus-per-node", "-1"), "--gpus-per-node -1: allowed: 0 or more"),
        (("--slurm", "--time", "8h"), "--time 8h: allowed: H:MM:SS"),
        (("--slurm", "--sbatch", "account=me"), "--sbatch account=me: allowed: an option"),
        (("--slurm", "--partition", "a\n#SBATCH -x"), "an option of sbatch is one line"),
        (("--slurm", "--stage", "serch"), "--stage serch: allowed"),
        (("--address", "http://127.0.0.1:9", "--nodes", "2"), "only with --slurm"),
        ((), "give --address http://HEAD:8265 (a Ray cluster) or --slurm"),
    ],
)
def test_a_bad_option_is_one_line(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY_STUDY))
    done = logit_bias("submit", "tiny.yaml", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_machine_without_slurm_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY_STUDY))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    done = logit_bias("submit", "tiny.yaml", "--slurm", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "logit-bias: sbatch is not installed here; --dry-run prints the script\n"
    )


def test_the_reason_of_sbatch_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY_STUDY))
    fake = tmp_path / "bin/sbatch"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    done = logit_bias("submit", "tiny.yaml", "--slurm", "--partition", "x", cwd=tmp_path)
    assert done.returncode == 1
    assert "logit-bias-tiny.sbatch: sbatch: error: invalid partition specified: x" in done.stderr
