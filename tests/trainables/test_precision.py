"""bf16 only where the device computes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
name: tiny
grid:
  dataset: [digits]
  noise: [{kind: symmetric, rate: 0.2}]
  model: [{name: mlp, width: 4}]
  loss: [mae]
recipe: {epochs: 1, batch_size: 64, precision: bf16}
search: {networks_per_cell: 1, epsilon: {low: 0, high: 6}, lr: {low: 0.01, high: 1}}
"""


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_processor_without_bf16_refuses_the_study_before_anything_is_written(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    # oneDNN then behaves as on a processor that ends at AVX2.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "study.cli", command, "tiny.yaml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    line = "recipe.precision = bf16: this machine's processor does not compute bf16"
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == (2 if command == "run" else 0)
    assert not (tmp_path / "results").exists()
