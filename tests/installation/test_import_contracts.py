"""The import contracts of pyproject.toml fail where an import goes against the layers."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
VIOLATIONS = {
    "study/results/status.py": "study.cli.main",
    "study/config/sections.py": "study.planning.plan",
    "study/planning/estimate.py": "study.execution.run",
    "trainables/seeds.py": "study.results.schema",
    "analysis/data/load.py": "study.planning.scheduler",
    "study/execution/lease.py": "analysis.verdict",
    "analysis/response/curves.py": "torch",
    "trainables/engine/step.py": "ray",
    "trainables/losses/schedules.py": "trainables.engine.spec",
}


def lint_imports(folder: Path) -> str:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_every_contract_is_broken_by_an_import_against_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("study", "trainables", "analysis"):
        shutil.copytree(ROOT / package, tmp_path / package)
    for file, module in VIOLATIONS.items():
        with (tmp_path / file).open("a") as stream:
            stream.write(f"\nimport {module}\n")
    report = lint_imports(tmp_path)
    assert "0 kept" in report, report
    for file, module in VIOLATIONS.items():
        importer = file.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {module}" in report, report
