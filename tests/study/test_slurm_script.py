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
        (("--slurm", "--time", "3"), "--time 3 is 3 min 0 s: allowed: 5 minutes or more"),
        (("--slurm", "--time", "4:59"), "--time 4:59 is 4 min 59 s: allowed: 5 minutes or more"),
        (("--slurm", "--sbatch", "account=me"), "--sbatch account=me: allowed: an option"),
        (("--slurm", "--sbatch", "--comment='x"), "--comment='x: No closing quotation"),
        (("--slurm", "--sbatch", "--nodes=2"), "--sbatch --nodes=2: use --nodes"),
        (("--slurm", "--sbatch", "-N 2"), "--sbatch -N 2: use --nodes"),
        (("--slurm", "--time", "9", "--sbatch=--time=2"), "--sbatch --time=2: use --time"),
        (("--slurm", "--sbatch=-A me -t2"), "--sbatch -A me -t2: use --time"),
        (("--slurm", "--sbatch=-p gpu"), "--sbatch -p gpu: use --partition"),
        (("--slurm", "--sbatch=--signal=USR2@9"), "--signal=USR2@9: not allowed: the script is"),
        (("--slurm", "--sbatch=--no-requeue"), "--no-requeue: not allowed: the script queues"),
        (("--slurm", "--sbatch=--no-req"), "--no-req: not allowed: the script queues"),
        (("--slurm", "--sbatch=--requeue"), "--requeue: not allowed: the script queues"),
        (("--slurm", "--sbatch=--array=0-3"), "--array=0-3: not allowed: only one job"),
        (("--slurm", "--sbatch=--gres=gpu:a100:4"), "gres=gpu:a100:4: give --gpus-per-node too"),
        (("--slurm", "--address", "http://127.0.0.1:9"), "--address and --slurm: allowed: one of"),
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


def test_options_that_leave_the_script_what_it_needs_are_passed_on(tmp_path: Path) -> None:
    options = ["--nodelist=node1", "--time-min=60", "-A me", "--gres=gpu:a100:4", "--mem=8G"]
    options.append("--comment='a b'")
    arguments = [f"--sbatch={option}" for option in options]
    text = script(tmp_path, "--gpus-per-node", "4", "--time", "5", *arguments)
    assert re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)[-len(options) :] == options


def test_the_cluster_that_a_variable_names_is_not_the_one_of_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert "#SBATCH --requeue" in script(tmp_path)


def test_a_relative_path_means_the_same_from_any_folder(tmp_path: Path) -> None:
    """The storage of `TINY_STUDY` is `results/`; the job starts in another folder."""
    here = tmp_path / "my work"
    here.mkdir()
    lines = script(here).splitlines()
    enter = [line for line in lines if line.startswith("cd ")]
    done = subprocess.run(
        ["bash", "-c", f"{enter[0]}\npwd"], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(here)
    first_use = next(i for i, line in enumerate(lines) if "study.cli" in line)
    assert lines.index(enter[0]) < first_use
    here.rename(tmp_path / "gone")
    gone = subprocess.run(["bash", "-c", f"{enter[0]}\npwd"], capture_output=True, text=True)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert f"{here}: No such file or directory" in gone.stderr


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
