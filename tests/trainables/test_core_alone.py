"""The core trains with torch and NumPy (and SciPy) alone: no Ray, no Optuna, no pydantic."""

import subprocess
import sys
from pathlib import Path


def test_training_needs_neither_ray_nor_optuna_nor_pydantic(tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("ray", "optuna", "pydantic", "pyarrow", "pandas", "sklearn", "matplotlib", "typer"):
    sys.modules[name] = None  # an import of it now fails
import numpy as np
rng = np.random.default_rng(0)
np.savez({str(tmp_path / "own.npz")!r}, x=rng.random((200, 5), dtype=np.float32),
         y=np.arange(200) % 4)
from trainables.cohort import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train
spec = CohortSpec(DataSpec({str(tmp_path / "own.npz")!r}), ModelSpec("mlp", {{"width": 8}}),
                  Recipe(1, 50), [Member("a", "mae", 0.1, epsilon=1.0), Member("b", "ce", 0.1)])
assert [r.metrics["status"] for r in train(spec)] == ["complete"] * 2
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_rooms_import_downwards_only() -> None:
    """study → trainables; analysis → the schema and pure theory; nothing runs against that."""
    root = Path(__file__).parents[2]
    forbidden = {
        "trainables": ["study", "analysis", "optuna", "pydantic"],
        "analysis": ["torch", "ray", "optuna", "pydantic", "trainables.cohort", "study.run"],
    }
    for room, names in forbidden.items():
        for file in (root / room).rglob("*.py"):
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] in (["import"], ["from"]) and len(words) > 1:
                    for name in names:
                        assert words[1] != name, f"{file}: {line}"
                        assert not words[1].startswith(f"{name}."), f"{file}: {line}"
