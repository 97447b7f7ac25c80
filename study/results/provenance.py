"""Where rows come from: code version, libraries, machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("logit-bias-study", "torch", "torchvision", "numpy", "ray", "optuna", "pyarrow")

COMMIT_VARIABLE = "LOGIT_BIAS_GIT"
"""`<commit> <dirty>` of code that was sent to a cluster without its repository."""


@dataclass(frozen=True)
class Provenance:
    """The same for every row of a run."""

    git_commit: str | None
    git_dirty: bool | None
    versions: str  # JSON


def collect() -> Provenance:
    """Provenance of the code that is running; git's part is None outside a checkout."""
    if COMMIT_VARIABLE in os.environ:
        commit, _, dirty = os.environ[COMMIT_VARIABLE].partition(" ")
    else:
        commit = _git("rev-parse", "HEAD") or ""
        dirty = str(bool(_git("status", "--porcelain")))
    return Provenance(
        git_commit=commit or None,
        git_dirty=dirty == "True" if commit else None,
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
