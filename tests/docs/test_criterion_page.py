"""The examples of docs/criterion.md train: the plain loop, Lightning, Trainer and Keras."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "criterion.md").read_text()
EXAMPLES = {
    match[1]: match[0]
    for match in re.finditer(
        r"(?<=^```python\n)# (\w+\.py)\n.*?(?=^```$)", PAGE, flags=re.MULTILINE | re.DOTALL
    )
}
PACKAGES = {"Lightning": "lightning", "transformers": "transformers[torch]", "Keras": "keras"}


def run(example: str, folder: Path, python: str = sys.executable) -> str:
    """Run an example of the page in `folder`; returns what it prints."""
    (folder / example).write_text(EXAMPLES[example])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [python, example], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_plain_loop(tmp_path):
    output = run("plain_loop.py", tmp_path)
    accuracies = [float(value) for value in re.findall(r"accuracy (\S+)$", output, re.MULTILINE)]
    ce, ce_at_the_same_rate, without_bias, with_bias = accuracies
    # Two learning rates of CE and MAE with a bias as the page says, rounding of processors apart.
    assert ce == pytest.approx(0.83, abs=0.02)
    assert ce_at_the_same_rate == pytest.approx(0.75, abs=0.02)
    assert without_bias < 0.3
    assert with_bias == pytest.approx(0.83, abs=0.02)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with the present packages and those of the page."""
    folder = tmp_path_factory.mktemp("packages") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    executable = str(folder / "bin" / "python")
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wanted = [
        f"{package}=={re.search(rf'{name} ([0-9.]+[0-9])', PAGE)[1]}"
        for name, package in PACKAGES.items()
    ]
    pip = [executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *wanted], check=True)
    return executable


def accuracy(output: str) -> float:
    match = re.search(r"^accuracy: (\S+)$", output, re.MULTILINE)
    assert match is not None, output
    return float(match[1])


@pytest.mark.slow
@pytest.mark.integration
def test_lightning(tmp_path, python):
    assert accuracy(run("with_lightning.py", tmp_path, python)) > 0.78
    (checkpoint,) = tmp_path.glob("lightning/**/*.ckpt")
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert state["criterion.schedule._extra_state"] == 720


@pytest.mark.slow
@pytest.mark.integration
def test_trainer(tmp_path, python):
    assert accuracy(run("with_trainer.py", tmp_path, python)) > 0.85


@pytest.mark.slow
@pytest.mark.integration
def test_keras(tmp_path, python):
    assert accuracy(run("with_keras.py", tmp_path, python)) > 0.7
