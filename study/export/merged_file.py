"""One study file for several folders of a study: everything that one of them has grown to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from study.config.grid import LISTS
from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.planning.growth import differences

_STORAGE = re.compile(rb"^storage:.*$", re.MULTILINE)


def merged_study_file(files: Sequence[tuple[StudyConfig, bytes]], storage: str) -> bytes:
    """A study file that plans what any of the files plans.

    It is one of them, with another storage, where that one covers the others. In a setting that may
    not differ it follows the first file.

    Args:
        files: each study file, parsed and as bytes; at least one.
        storage: the new file's `storage`.

    Raises:
        StudyFileError: the files together make no valid study.
    """
    (first, _), *others = files
    merged = first.model_dump(mode="json", exclude_unset=True)
    for config, _ in others:
        _unite(merged, first, config)
        first = _parsed(merged)
    for config, content in files:
        if not differences(config, first):
            named = _with_storage(content, storage)
            if parse_study(named, "the merged study file").folder_uri == _moved(first, storage):
                return named
    merged["storage"] = storage
    return yaml.safe_dump(merged, sort_keys=False, allow_unicode=True).encode()


def _parsed(data: dict[str, Any]) -> StudyConfig:
    return parse_study(yaml.safe_dump(data).encode(), "the merged study file")


def _with_storage(content: bytes, storage: str) -> bytes:
    line = yaml.safe_dump({"storage": storage}).strip().encode()
    if _STORAGE.search(content):
        return _STORAGE.sub(lambda _: line, content, count=1)
    return content.rstrip() + b"\n" + line + b"\n"


def _moved(config: StudyConfig, storage: str) -> str:
    return config.model_copy(update={"storage": storage}).folder_uri


def _unite(data: dict[str, Any], first: StudyConfig, other: StudyConfig) -> None:
    """Add to `data`, the content of `first`, what `other` has more."""
    more = other.model_dump(mode="json", exclude_unset=True)
    for name in LISTS:
        mine, theirs = getattr(first.grid, name), getattr(other.grid, name)
        if isinstance(mine, str) or isinstance(theirs, str):
            continue
        labels = {choice.label for choice in mine}
        given = zip(theirs, more["grid"][name], strict=True)
        data["grid"][name] += [value for choice, value in given if choice.label not in labels]
    _largest(data["search"], more["search"], ("networks_per_cell", "replicates"))
    hours = [config.search.worker_hours for config in (first, other)]
    data["search"].pop("worker_hours", None)
    if None not in hours:
        data["search"]["worker_hours"] = max(h for h in hours if h is not None)
    for stage, keys in (
        ("sweep", ("points", "seeds", "lr_points", "most_seeds")),
        ("confirm", ("seeds", "replicate_seeds")),
    ):
        if data.get(stage) is None:
            data[stage] = more.get(stage)
        elif more.get(stage) is not None:
            _largest(data[stage], more[stage], keys)
    if first.sweep is not None and other.sweep is not None:
        widths = [s.until_interval for s in (first.sweep, other.sweep) if s.until_interval]
        if widths:
            data["sweep"]["until_interval"] = min(widths)
    if first.confirm is not None and other.confirm is not None:
        data["confirm"]["arms"] = list(dict.fromkeys([*first.confirm.arms, *other.confirm.arms]))


def _largest(data: dict[str, Any], more: dict[str, Any], keys: Sequence[str]) -> None:
    """Give `data` the larger value of each key."""
    for key in keys:
        values = [x[key] for x in (data, more) if x.get(key) is not None]
        if values:
            data[key] = max(values)
