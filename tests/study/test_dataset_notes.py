"""What a data set leaves out is said by the commands and counted in the rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from study.config.loader import read_study
from study.planning.cells import Network
from study.planning.cohort_specs import identity_columns
from study.planning.plan import make_plan
from study.results.schema import Stage

STUDY = """
name: tiny
grid:
  dataset: [{name: images/, size: 4, bad_files: skip}]
  noise: [{kind: symmetric, rate: 0.2}]
  model: [{name: mlp, width: 4}]
  loss: [mae]
recipe: {epochs: 1, batch_size: 8}
search: {networks_per_cell: 1, epsilon: {low: 0, high: 6}, lr: {low: 0.01, high: 1}}
"""


def test_skipped_files_are_said_once_and_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    for name in ("left", "right"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            image = Image.fromarray(np.full((5, 5, 3), 20 * i, np.uint8))
            image.save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "images/left/zz.jpg").touch()
    (tmp_path / "tiny.yaml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-m", "study.cli", "plan", "tiny.yaml"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    line = "images/: 1 of 21 image files are left out: left/zz.jpg (empty)\n"
    assert done.stderr == line

    config, _ = read_study("tiny.yaml")
    (cell, *_) = make_plan(config).cells
    network = Network(Stage.SEARCH, cell, cell.losses[0], epsilon=1.0, lr=0.1, seed=0)
    assert identity_columns(config, network)["skipped_files"] == 1
