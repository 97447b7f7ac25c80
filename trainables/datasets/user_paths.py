"""Paths of a user's files and folders, absolute or below a root folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainables.datasets.base import DatasetError


def find_path(name: str, root: Path | None, kind: str, exists: Callable[[Path], bool]) -> Path:
    """The path of a user's file or folder, below the root folder or the current one.

    Args:
        name: the path as in a study file.
        root: folder of data sets.
        kind: `file` or `folder`, for the message.
        exists: whether a path is one of that kind.

    Returns:
        the first path that exists.

    Raises:
        DatasetError: none exists; the message names the candidates.
    """
    candidates = [folder / Path(name).expanduser() for folder in (root or Path(), Path())]
    for path in candidates:
        if exists(path):
            return path
    listed = dict.fromkeys(str(path.absolute()) for path in candidates)
    raise DatasetError(f"no {kind} {' or '.join(listed)}")
