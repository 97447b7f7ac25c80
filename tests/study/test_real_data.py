"""The paper's data sets and noises in whole runs: networks learn, and the noise rate is right."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from study.results.folder import StudyFolder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        "LOGIT_BIAS_DATA" not in os.environ, reason="LOGIT_BIAS_DATA names no folder of data sets"
    ),
]
MLP = {"name": "mlp", "width": 64, "depth": 1}


@pytest.mark.parametrize(
    ("dataset", "noises", "model", "wrong", "least"),
    [
        (
            "fashion-mnist",
            [{"kind": "symmetric", "rate": 0.4}, {"kind": "asymmetric", "rate": 0.4}],
            MLP,
            [0.4, 0.2],
            0.6,
        ),
        ("cifar10", [{"kind": "human-worst"}, {"kind": "pdn", "rate": 0.4}], MLP, [0.4, 0.4], 0.2),
        (
            "cifar100",
            [{"kind": "human-fine"}, {"kind": "superclass", "rate": 0.3}],
            MLP,
            [0.4, 0.3],
            0.04,
        ),
        (
            {"name": "cifar10", "classes": 3, "imbalance": "long-tail", "imbalance_factor": 5},
            [{"kind": "symmetric", "rate": 0.2}],
            {"name": "resnet20"},
            [0.2],
            0.5,
        ),
        ("clinc150", [{"kind": "symmetric", "rate": 0.2}], MLP, [0.2], 0.1),
        ("banking77", [{"kind": "pair", "rate": 0.2}], MLP, [0.2], 0.1),
        ("letter-recognition", [{"kind": "symmetric-inclusive", "rate": 0.26}], MLP, [0.25], 0.4),
    ],
)
def test_a_real_data_set_runs_and_learns(
    dataset: str | dict,
    noises: list[dict],
    model: dict,
    wrong: list[float],
    least: float,
    tmp_path: Path,
) -> None:
    study = {
        "name": "real",
        "grid": {"dataset": [dataset], "noise": noises, "model": [model], "loss": ["gce"]},
        "recipe": {"epochs": 3, "batch_size": 128},
        "search": {
            "networks_per_cell": 1,
            "epsilon": {"low": 0, "high": 4},
            "lr": {"low": 0.05, "high": 0.1, "log": True},
        },
        "storage": str(tmp_path),
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "study.cli", "run", str(tmp_path / "real.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = StudyFolder(str(tmp_path / "real"))
    rows = folder.read("trials").to_pylist()
    by_noise = {r["noise_kind"]: r["noise_rate_real"] for r in rows}
    for noise, rate in zip(noises, wrong, strict=True):
        assert by_noise[noise["kind"]] == pytest.approx(rate, abs=0.02)
    curves = defaultdict(list)
    for epoch in sorted(folder.read("epochs").to_pylist(), key=lambda e: e["epoch"]):
        curves[epoch["network_id"]].append(epoch["val_acc_clean"])
    for curve in curves.values():
        assert len(curve) == 3
        assert curve[-1] > least
        assert curve[-1] > curve[0] - 0.02
    assert json.loads(rows[0]["versions"])["torchvision"]
