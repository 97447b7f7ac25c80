"""The studies that ship with the package. Listing them needs no validation of a study file."""

from __future__ import annotations

import itertools
from importlib import resources


def presets() -> list[str]:
    """Names of the studies that ship with the package."""
    folder = resources.files("study.config") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name[-5:] == ".yaml")


def preset_question(name: str) -> str:
    """The question that a preset asks: the comment at its beginning, up to the question mark."""
    lines = preset_bytes(name).decode().splitlines()
    first = itertools.takewhile(lambda line: line.startswith("#"), lines)
    comment = " ".join(line.removeprefix("#").strip() for line in first)
    return comment[: comment.rindex("?") + 1]


def preset_bytes(name: str) -> bytes:
    """The study file of a preset.

    Args:
        name: one of `presets()`.
    """
    return (resources.files("study.config") / "presets" / f"{name}.yaml").read_bytes()
