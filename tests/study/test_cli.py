"""What a person types, and what comes back."""

import json
import subprocess
import sys

import pytest
from tests_support import logit_bias


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "study.cli", "epsilon", "--classes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_epsilon_of_100_classes() -> None:
    typed = "epsilon --classes 100 --target 0.15 --sigma 1 --json"
    outcome = logit_bias(*typed.split(" "))
    assert outcome.returncode == 0
    assert json.loads(outcome.stdout)["epsilon"] == pytest.approx(3.03, abs=0.01)


def test_epsilon_imports_neither_ray_nor_torch() -> None:
    code = (
        "import sys; sys.argv = ['logit-bias', 'epsilon', '--classes', '100']\n"
        "from study.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["epsilon", "--classes", "1"], "classes"),
        (["analyse", "nowhere"], "nowhere: no finished network found"),
        (["report", "here", "there"], "here: no finished network found"),
        (["compare", "here", "here"], "compare: here is given twice"),
        (["analyse", "nowhere", "--margin", "5"], "--margin 5: allowed is 0 < margin < 1"),
        (["power", "--sd", "0.01", "--margin", "2"], "--margin 2: allowed is 0 < margin < 1"),
        (["power", "--sd", "0.01", "--margin", "nan"], "--margin nan: allowed is 0 < margin < 1"),
        (["power", "--sd", "0.01", "--regret", "nan"], "--regret nan: allowed is a fraction"),
        (
            ["power", "--sd", "0.01", "--half-width", "0.01", "--networks-per-search", "-4"],
            "--networks-per-search -4: allowed is 1 or more",
        ),
        (["epsilon", "--classes", "abc"], "--classes"),
        (["epsilon", "--clases", "3"], "--clases"),
        (["noise", "--dataset", "digits", "--rate", "0.1", "--option", "a=["], "not a YAML value"),
        (["epsilon", "--classes", "10", "--target", "1.5"], "target"),
        (["epsilon", "--classes", "10", "--sigma", "0"], "sigma"),
        (["run", "no-such-study"], "neither a study file nor a preset"),
        (["run", "quickstart", "--stage", "serach"], "allowed: search, sweep, confirm"),
        (["status", "no-such-folder"], "no study here"),
        (["trial", "folder", "id", "--device", "tpu"], "device tpu: allowed on this machine: cpu"),
        (["report", "no-such-folder"], "no-such-folder"),
        (["recommend", "no-such-folder"], "no finished network found"),
        (["recommend", "here", "--noise-rate", "20"], "--noise-rate 20: allowed is 0 ≤ rate < 1"),
        (["init", "no-such-data"], "no file, no folder and no data set of that name"),
        (["init", "digits", "--minutes", "0"], "--minutes 0: allowed is 1 or more"),
        (["init", "digits", "--networks", "3"], "--networks 3: allowed is"),
        (["init", "digits", "--label", "x"], "--label: a named data set has no columns"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], expected: str) -> None:
    outcome = logit_bias(*arguments)
    assert outcome.returncode == 2
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
