"""The core trains with torch and NumPy (and SciPy) alone: no Ray, no Optuna, no pydantic."""

import json
import subprocess
import sys
from pathlib import Path

BLOCKED = """
import sys
for name in ("ray", "optuna", "pydantic", "pyarrow", "pandas", "sklearn", "matplotlib", "typer"):
    sys.modules[name] = None  # an import of it now fails
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_gpu_benchmark_runs_without_them(tmp_path: Path) -> None:
    """On a CPU here; a GPU machine need have torch, torchvision and NumPy alone."""
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    run(
        f"sys.path.insert(0, {str(benchmarks)!r})\n"
        "import pathlib, measure, gpu\n"
        f"measure.RESULTS = pathlib.Path({str(tmp_path)!r})\n"
        "sys.argv = 'gpu.py --device cpu --precision float32 --model resnet20 --images 300 "
        "--members 1 2 --pairs 1 --epochs 2 --packed 0'.split()\n"
        "gpu.main()"
    )
    (written,) = tmp_path.glob("gpu-resnet20-*.json")
    results = json.loads(written.read_text())["results"]
    assert set(results) == {"one network", "K = 1", "K = 2"}
    assert all(row["networks_epochs_per_s"]["median"] > 0 for row in results.values())


def test_training_needs_neither_ray_nor_optuna_nor_pydantic(tmp_path: Path) -> None:
    code = f"""
import numpy as np
rng = np.random.default_rng(0)
np.savez({str(tmp_path / "own.npz")!r}, x=rng.random((200, 5), dtype=np.float32),
         y=np.arange(200) % 4)
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train
spec = CohortSpec(DataSpec({str(tmp_path / "own.npz")!r}), ModelSpec("mlp", {{"width": 8}}),
                  Recipe(1, 50), [Member("a", "mae", 0.1, epsilon=1.0), Member("b", "ce", 0.1)])
assert [r.metrics.status for r in train(spec)] == ["complete"] * 2
"""
    run(code)
