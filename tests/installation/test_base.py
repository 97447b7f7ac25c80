"""The base installation, without torch and Ray: which commands run, what the others say."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from planted import default_cells, write_study

ABSENT = ("torch", "torchvision", "ray", "optuna", "sklearn", "tensorboardX")
# As if not installed. (`sys.modules[name] = None` would not do: SciPy looks there for torch.)
HIDE = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name}}", name=name)

sys.meta_path.insert(0, Hide())
"""
BASE = [
    ["epsilon", "--classes", "100"],
    ["epsilon", "--classes", "100", "--loss", "gce", "--parameter", "q"],
    ["losses", "--json"],
    ["power", "--sd", "0.01"],
    ["status", "STUDY"],
    ["analyse", "STUDY", "--json"],
    ["report", "STUDY"],
    ["recommend", "STUDY"],
    ["compare", "STUDY", "--json"],
    ["export", "STUDY", "--to", "csv", "--output", "NEW"],
    ["export", "STUDY", "--to", "bundle", "--output", "NEW.zip"],
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept study: rows, study file and plan."""
    folder = tmp_path_factory.mktemp("kept") / "planted"
    write_study(folder, default_cells())
    (folder / "plan.json").write_text(
        json.dumps(
            {
                "study": "planted",
                "value_column": "val_acc_noisy",
                "networks": {"search": 1, "sweep": 1, "confirm": 1},
                "cells": [],
            }
        )
    )
    return folder


def run(python: str, arguments: list[str], absent: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = HIDE.format(absent=absent) + f"sys.argv = {['logit-bias', *arguments]!r}\n"
    code += "from study.cli.main import main\nmain()"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd="/")
    return done.returncode, done.stdout, done.stderr


def with_study(arguments: list[str], study: Path) -> list[str]:
    new = f"{study.parent}/{uuid.uuid4().hex}"
    return [word.replace("STUDY", str(study)).replace("NEW", new) for word in arguments]


@pytest.mark.parametrize("arguments", BASE, ids=" ".join)
def test_base_commands_run_without_the_extras(arguments: list[str], study: Path) -> None:
    code, output, errors = run(sys.executable, with_study(arguments, study), ABSENT)
    assert code == 0, errors
    assert output


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["init", "digits"], "study"),
        (["plan", "quickstart"], "study"),
        (["run", "quickstart"], "study"),
        (["trial", "STUDY", "x"], "study"),
        (["export-optuna", "STUDY", "journal.log"], "study"),
        (["export", "STUDY", "--to", "optuna"], "study"),
        (["merge", "STUDY", "other", "--output", "NEW"], "study"),
        (["noise", "--dataset", "digits", "--rate", "0.1", "--seed", "0"], "train"),
        (["epsilon", "--dataset", "digits", "--model", "mlp"], "train"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_other_commands_name_the_extra_they_need(
    arguments: list[str], extra: str, study: Path
) -> None:
    code, _, errors = run(sys.executable, with_study(arguments, study), ABSENT)
    assert code == 2
    assert errors.count("\n") == 1
    assert f"logit-bias {arguments[0]} needs" in errors
    assert errors.endswith(f"pip install 'logit-bias-study[{extra}]'\n")


def test_a_folder_without_a_study_is_no_question_of_what_is_installed(tmp_path: Path) -> None:
    code, _, errors = run(sys.executable, ["status", str(tmp_path)], ABSENT)
    assert (code, errors) == (2, f"logit-bias: {tmp_path}: no study here (study.yaml is missing)\n")


@pytest.mark.slow
@pytest.mark.integration
def test_a_wheel_in_a_fresh_environment(study: Path, tmp_path: Path) -> None:
    """Built from the tree and installed with its own dependencies alone."""
    root = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(root)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    constraints = ["-c", str(root / "constraints.txt")]
    install = [python, *pip[1:], "install", *constraints, str(wheel)]
    subprocess.run(install, check=True)
    for module in ABSENT[:5]:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr, module
    for arguments in BASE:
        code, _, errors = run(python, with_study(arguments, study))
        assert code == 0, errors
    assert (study / "analysis/report.html").stat().st_size > 10_000
    code, _, errors = run(python, ["run", "quickstart"])
    assert code == 2
    assert "logit-bias-study[study]" in errors
