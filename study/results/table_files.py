"""The files of one table and stage, and which cohorts are in them.

A cohort's rows are in `part-<cohort>.parquet`, until `study.results.compaction` copies many parts
into one `compact-<hash>.parquet`. Such a file lists its cohorts in its metadata, so a reader knows
which parts to ignore even while the parts are being deleted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from study.results.object_store import repeated

_PART, _COMPACT, _SUFFIX = "part-", "compact-", ".parquet"
_COHORTS = b"logit_bias_cohorts"  # metadata of a compacted file: JSON list of cohort ids


@dataclass(frozen=True)
class TableFiles:
    """The files of one table and stage.

    Attributes:
        parts: {cohort id: path} of the part files.
        compacted: paths of the compacted files.
        replaced: ids of the cohorts in the compacted files.
    """

    parts: dict[str, str]
    compacted: list[str]
    replaced: set[str]

    @property
    def live_parts(self) -> dict[str, str]:
        """The parts that no compacted file replaces."""
        return {c: path for c, path in self.parts.items() if c not in self.replaced}

    @property
    def cohorts(self) -> set[str]:
        """Ids of all cohorts with rows in these files."""
        return self.parts.keys() | self.replaced


def part_name(cohort_id: str) -> str:
    """Name of the file with one cohort's rows."""
    return f"{_PART}{cohort_id}{_SUFFIX}"


def compacted_name(key: str) -> str:
    """Name of a compacted file; `key` distinguishes it from the others in the folder."""
    return f"{_COMPACT}{key}{_SUFFIX}"


def compacted_metadata(cohort_ids: Iterable[str]) -> dict[bytes, bytes]:
    """Parquet metadata that lists the cohorts of a compacted file."""
    return {_COHORTS: json.dumps(list(cohort_ids)).encode()}


def list_table_files(filesystem: pafs.FileSystem, path: str) -> TableFiles:
    """The table files in a folder.

    Args:
        filesystem: the filesystem with the study folder.
        path: path of `<table>/<stage>` inside it; it need not exist.

    Returns:
        The files, in the order of their names.

    Raises:
        ValueError: a compacted file cannot be read; the message starts with its path.
    """
    selector = pafs.FileSelector(path, allow_not_found=True)
    infos = repeated(filesystem, lambda: filesystem.get_file_info(selector))
    files = sorted((i.base_name, i.path) for i in infos if i.base_name.endswith(_SUFFIX))
    compacted = [file for name, file in files if name.startswith(_COMPACT)]
    replaced: set[str] = set()
    for file in compacted:
        try:
            replaced |= repeated(filesystem, functools.partial(_replaced, file, filesystem))
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error
    parts = {
        name.removeprefix(_PART).removesuffix(_SUFFIX): file
        for name, file in files
        if name.startswith(_PART)
    }
    return TableFiles(parts, compacted, replaced)


def _replaced(compacted: str, filesystem: pafs.FileSystem) -> set[str]:
    """Ids of the cohorts in a compacted file."""
    metadata = pq.read_schema(compacted, filesystem=filesystem).metadata or {}
    return set(json.loads(metadata[_COHORTS]))
