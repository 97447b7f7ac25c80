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
"""Environment variable with `<commit> <dirty>`, for code sent to a cluster without its checkout."""


@dataclass(frozen=True)
class Provenance:
    """The origin of a run's rows.

    Attributes:
        git_commit: full hash; None outside a git checkout.
        git_dirty: whether the checkout has uncommitted changes; None outside one.
        versions: JSON object {library: version}.
    """

    git_commit: str | None
    git_dirty: bool | None
    versions: str


def collect() -> Provenance:
    """Provenance of the running code."""
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
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


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
