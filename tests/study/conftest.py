"""A finished study that several test files look at: Ray is started for it once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from tests_support import TINY_STUDY


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with tiny.yaml, the finished study out/tiny and TensorBoard's logs/.

    All tests share it, those of other pytest workers too: copy it before you change it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "tiny.yaml").exists():
            folder.mkdir(exist_ok=True)
            _run_study(folder)
    return folder


def _run_study(folder: Path) -> None:
    content = yaml.safe_dump({**TINY_STUDY, "storage": str(folder / "out")})
    (folder / "unfinished.yaml").write_text(content)
    command = [sys.executable, "-m", "study.cli", "run", "unfinished.yaml", "--tensorboard", "logs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder / "unfinished.yaml").rename(folder / "tiny.yaml")
