"""The study folder: atomic writing and reading of the tables in `study.results.schema`.

Parquet is a study's only truth, so everything that makes a row believable is decided here: in which
order files appear, and which of them count. A cohort's `epochs` part is written before its
`trials` part; the `trials` part is the commit mark. An `epochs` part without its `trials` part
belongs to a cohort that was killed, and is not read.

    <storage>/<name>/
      study.yaml
      noise.parquet                           transition matrices, as drawn
      trials/<stage>/part-<cohort>.parquet    one row a network
      epochs/<stage>/part-<cohort>.parquet    one row a network and epoch
      <table>/<stage>/compact-<hash>.parquet  many parts in one file, which names them

This module needs pyarrow alone, so that `analysis` can import it without Ray or torch.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from study.results.schema import EPOCHS, SCHEMA_VERSION, STAGES, TRANSITIONS, TRIALS
from trainables.errors import BadInputError

_TABLES = {"trials": TRIALS, "epochs": EPOCHS}
_TRANSITIONS_FILE = "noise.parquet"
_PART, _COMPACT = "part-", "compact-"
_REPLACES = b"logit_bias_cohorts"  # in a compacted file's metadata: JSON, cohorts whose rows it has


class ResultsError(BadInputError):
    """A study folder that cannot be read; the message is one line for the user."""


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder on any pyarrow filesystem.

    Parameters
    ----------
    uri: a local path or a pyarrow filesystem URI (`s3://bucket/prefix/name`).
    """

    uri: str

    @classmethod
    def at(cls, uri: str) -> StudyFolder:
        """The folder at a path or URI; a path is made absolute, since workers run elsewhere."""
        return cls(uri if "://" in uri else str(Path(uri).resolve()))

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The filesystem that holds the folder."""
        return (
            pafs.FileSystem.from_uri(self.uri)[0] if "://" in self.uri else pafs.LocalFileSystem()
        )

    @property
    def path(self) -> str:
        """The folder's path inside its filesystem."""
        return pafs.FileSystem.from_uri(self.uri)[1] if "://" in self.uri else self.uri

    def file(self, *parts: str) -> str:
        """Path of a file below the folder, inside its filesystem."""
        return "/".join((self.path.rstrip("/"), *parts))

    def exists(self) -> bool:
        """Whether the folder holds a study."""
        return self.read_bytes("study.yaml") is not None

    def read_bytes(self, name: str) -> bytes | None:
        """The content of a file below the folder, or None where there is none."""
        try:
            with self.filesystem.open_input_stream(self.file(name)) as stream:
                return bytes(stream.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a whole file, or leave what was there."""
        with _WholeFile(self, name) as stream:
            stream.write(content)

    def names(self, room: str) -> list[str]:
        """Names of the files directly in a folder below this one; none where there is no folder."""
        selector = pafs.FileSelector(self.file(room), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in infos if info.is_file)

    def delete(self, name: str) -> None:
        """Remove a file, which need not be there."""
        try:
            self.filesystem.delete_file(self.file(name))
        except FileNotFoundError:
            return

    def parts(self, table: str, stage: str) -> dict[str, str]:
        """Part files of a table and stage: {cohort_id: path}."""
        return self._listing(table, stage).parts

    def write_part(
        self,
        stage: str,
        cohort_id: str,
        trials: Sequence[Mapping[str, Any]],
        epochs: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a cohort's rows: `epochs` first, then `trials`, which commits both.

        Raises
        ------
        pyarrow.ArrowInvalid, KeyError: a row does not fit the schema.
        """
        for table, rows in (("epochs", epochs), ("trials", trials)):
            schema = _TABLES[table]
            columns = {name: [row[name] for row in rows] for name in schema.names}
            with _WholeFile(self, f"{table}/{stage}/part-{cohort_id}.parquet") as stream:
                pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")

    def read_part(self, table: str, stage: str, cohort_id: str) -> pa.Table:
        """The rows of one cohort, before `compact` has taken them elsewhere.

        Raises
        ------
        FileNotFoundError: there is no such part.
        """
        path = self.file(table, stage, f"{_PART}{cohort_id}.parquet")
        return pq.read_table(path, filesystem=self.filesystem, schema=_TABLES[table])

    def write_transitions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `noise.parquet`: rows of `TRANSITIONS`."""
        table = pa.Table.from_pylist(list(rows), schema=TRANSITIONS)
        with _WholeFile(self, _TRANSITIONS_FILE) as stream:
            pq.write_table(table, stream, compression="zstd")

    def read_transitions(self) -> pa.Table | None:
        """The rows of `noise.parquet`, or None where the study has none."""
        content = self.read_bytes(_TRANSITIONS_FILE)
        if content is None:
            return None
        try:
            return pq.read_table(pa.BufferReader(content), schema=TRANSITIONS)
        except (pa.ArrowInvalid, OSError) as error:
            raise ResultsError(f"{self.uri}: {_TRANSITIONS_FILE}: {error}") from error

    def discard_uncommitted(self) -> None:
        """Remove what a killed cohort left: epochs without trials, files not yet renamed.

        And what a killed `compact` left: parts that a compacted file has replaced.
        """
        for stage in STAGES:
            listed = {table: self._listing(table, stage) for table in _TABLES}
            committed = listed["trials"].parts.keys() - listed["trials"].replaced
            for table, listing in listed.items():
                for cohort_id, path in listing.parts.items():
                    if cohort_id in listing.replaced or cohort_id not in committed:
                        self.filesystem.delete_file(path)
                selector = pafs.FileSelector(self.file(table, stage), allow_not_found=True)
                for info in self.filesystem.get_file_info(selector):
                    if info.base_name.startswith(".") and info.base_name.endswith(".tmp"):
                        self.filesystem.delete_file(info.path)

    def compact(self, stage: str, at_least: int = 2) -> int:
        """Replace a stage's part files by one file a table; only the study's driver may.

        A compacted file names the cohorts that it replaces, and readers pass over their parts, so
        it may be interrupted anywhere: no row is read twice or lost. `trials` parts go only when
        both compacted files are there.

        Returns
        -------
        Parts replaced; 0 where there were fewer than `at_least`.
        """
        listed = {table: self._listing(table, stage) for table in _TABLES}
        trials, epochs = listed["trials"], listed["epochs"]
        cohorts = sorted(trials.parts.keys() - trials.replaced)
        if len(cohorts) < at_least:
            return 0
        for table, listing in (("epochs", epochs), ("trials", trials)):
            mine = [c for c in cohorts if c in listing.parts and c not in listing.replaced]
            if not mine:
                continue  # an interrupted call got this far
            content = self._load(table, [listing.parts[c] for c in mine], _TABLES[table])
            metadata = {_REPLACES: json.dumps(mine).encode()}
            name = hashlib.sha256("".join(mine).encode()).hexdigest()[:16]
            with _WholeFile(self, f"{table}/{stage}/{_COMPACT}{name}.parquet") as stream:
                pq.write_table(
                    content.replace_schema_metadata(metadata), stream, compression="zstd"
                )
        for listing in (trials, epochs):
            for cohort_id in cohorts:
                if cohort_id in listing.parts:
                    self.filesystem.delete_file(listing.parts[cohort_id])
        return len(cohorts)

    def read(
        self, table: str, stages: Iterable[str] = STAGES, columns: list[str] | None = None
    ) -> pa.Table:
        """Rows of `trials` or `epochs`, one a network (and epoch), in a stable order of files.

        Raises
        ------
        ResultsError: a part that is damaged or has another schema version.
        """
        schema = _TABLES[table]
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        for again in (True, True, False):
            try:
                found = self._load(table, self._paths(table, stages), wanted)
                break
            except FileNotFoundError as error:
                # A driver has compacted between listing and reading; the next listing is whole.
                if not again:
                    raise ResultsError(f"{self.uri}: cannot read {table}: {error}") from error
            except (pa.ArrowInvalid, OSError) as error:
                raise ResultsError(f"{self.uri}: cannot read {table}: {error}") from error
        if "schema_version" in found.column_names:
            versions = set(found.column("schema_version").to_pylist())
            if versions - {SCHEMA_VERSION}:
                raise ResultsError(
                    f"{self.uri}: schema_version {sorted(versions, key=str)} found, "
                    f"this program reads {SCHEMA_VERSION}"
                )
        return found

    def _paths(self, table: str, stages: Iterable[str]) -> list[str]:
        """Files whose rows count: compacted ones, and parts that are committed and not in them."""
        paths = []
        for stage in stages:
            # `table` is listed first: what is compacted meanwhile is then missing as a file, which
            # `read` notices, and not as a row.
            listing = self._listing(table, stage)
            committed = listing if table == "trials" else self._listing("trials", stage)
            there = committed.parts.keys() | committed.replaced
            paths += listing.compacted
            paths += [
                path
                for cohort_id, path in listing.parts.items()
                if cohort_id in there and cohort_id not in listing.replaced
            ]
        return paths

    def _listing(self, table: str, stage: str) -> _Listing:
        selector = pafs.FileSelector(self.file(table, stage), allow_not_found=True)
        infos = sorted(self.filesystem.get_file_info(selector), key=lambda info: info.base_name)
        names = [(i.base_name, i.path) for i in infos if i.base_name.endswith(".parquet")]
        compacted = [path for name, path in names if name.startswith(_COMPACT)]
        replaced: set[str] = set()
        for path in compacted:
            try:
                metadata = pq.read_schema(path, filesystem=self.filesystem).metadata or {}
                replaced |= set(json.loads(metadata[_REPLACES]))
            except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
                raise ResultsError(f"{self.uri}: cannot read {table}: {path}: {error}") from error
        parts = {
            name.removeprefix(_PART).removesuffix(".parquet"): path
            for name, path in names
            if name.startswith(_PART)
        }
        return _Listing(parts, compacted, replaced)

    def _load(self, table: str, paths: list[str], wanted: pa.Schema) -> pa.Table:
        if not paths:
            return wanted.empty_table()
        dataset = pads.dataset(
            paths, schema=_TABLES[table], format="parquet", filesystem=self.filesystem
        )
        return dataset.to_table(columns=wanted.names)


@dataclass(frozen=True)
class _Listing:
    """The files of a table and stage."""

    parts: dict[str, str]  # {cohort_id: path}
    compacted: list[str]  # paths
    replaced: set[str]  # cohorts in the compacted files


class _WholeFile:
    """An output stream whose file appears whole under its name, or not at all.

    On a local or network disk: write beside, then rename. On an object store a put is atomic by
    itself, and a rename would be a copy, so the file is made in memory and put under its name.
    """

    def __init__(self, folder: StudyFolder, name: str) -> None:
        self._fs = folder.filesystem
        self._path = folder.file(name)
        self._rename = isinstance(self._fs, pafs.LocalFileSystem)
        folder_path, _, base = self._path.rpartition("/")
        # A leading dot: readers of whole folders (pyarrow, pandas) pass over such files.
        self._beside = f"{folder_path}/.{base}.{uuid.uuid4().hex}.tmp"

    def __enter__(self) -> Any:
        if self._rename:
            self._fs.create_dir(self._path.rpartition("/")[0], recursive=True)
            self._stream = self._fs.open_output_stream(self._beside)
        else:
            self._stream = pa.BufferOutputStream()
        return self._stream

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._rename:
            self._stream.close()
            if kind is None:
                self._fs.move(self._beside, self._path)
            else:
                self._fs.delete_file(self._beside)
        elif kind is None:
            with self._fs.open_output_stream(self._path) as stream:
                stream.write(self._stream.getvalue())
