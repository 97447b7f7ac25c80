"""Where rows come from: code version, libraries, machine."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("logit-bias-study", "torch", "torchvision", "numpy", "ray", "optuna", "pyarrow")


@dataclass(frozen=True)
class Provenance:
    """The same for every row of a run."""

    git_commit: str | None
    git_dirty: bool | None
    versions: str  # JSON


def collect() -> Provenance:
    """Provenance of the code that is running; git's part is None outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain")
    return Provenance(
        git_commit=commit,
        git_dirty=None if changes is None else bool(changes),
        versions=json.dumps({"python": platform.python_version(), **_versions()}),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
