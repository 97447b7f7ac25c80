"""The study folder: atomic writing and reading of the tables in `study.results.schema`.

Parquet is the only record of a study. This module decides in which order files appear and which of
them count. A cohort's `epochs` part is written before its `trials` part; the `trials` part commits
both. An `epochs` part without its `trials` part belongs to a cohort that was killed, and is not
read.

    <storage>/<name>/
      study.yaml
      noise.parquet                           transition matrices, as drawn
      trials/<stage>/part-<cohort>.parquet    one row per network
      epochs/<stage>/part-<cohort>.parquet    one row per network and epoch
      <table>/<stage>/compact-<hash>.parquet  the rows of many parts, see `study.results.compaction`

The module needs only pyarrow, so `analysis` can import it without Ray and torch.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from study.results.atomic_write import TEMPORARY_SUFFIX, AtomicFile
from study.results.bundle import bundle_filesystem, is_bundle, results_uri
from study.results.credentials import REFUSED, has_credentials, without_credentials
from study.results.object_store import (
    PATIENCE_S,
    check_bucket,
    is_object_store,
    open_filesystem,
    pauses,
    repeated,
)
from study.results.schema import EPOCHS, SCHEMA_VERSION, STAGES, TRANSITIONS, TRIALS, Stage
from study.results.table_files import (
    TableFiles,
    compacted_metadata,
    compacted_name,
    list_table_files,
    part_name,
)
from trainables.errors import BadInputError

TableName = Literal["trials", "epochs"]
SCHEMAS: Mapping[TableName, pa.Schema] = {"trials": TRIALS, "epochs": EPOCHS}

STUDY_FILE = "study.yaml"
TRANSITIONS_FILE = "noise.parquet"
CHECKPOINTS = "checkpoints"
_READ_ATTEMPTS = 3


class ResultsError(BadInputError):
    """A study folder that cannot be read; the message is one line for the user."""


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder on any pyarrow filesystem.

    Attributes:
        uri: a local path or a pyarrow filesystem URI (`s3://bucket/prefix/name`); or that of a
            bundle, `study.results.bundle`, which can be read only.

    Raises:
        BadInputError: the URI contains credentials.
    """

    uri: str

    def __post_init__(self) -> None:
        if has_credentials(self.uri):
            raise BadInputError(f"{without_credentials(self.uri)}: {REFUSED}")

    @classmethod
    def at(cls, uri: str) -> StudyFolder:
        """The folder at a path or URI.

        Args:
            uri: a URI, or a path; a relative path is made absolute, because workers have another
                working directory.
        """
        return cls(uri if "://" in uri else str(Path(uri).resolve()))

    @property
    def name(self) -> str:
        """The last part of the path or URI: of a study's own folder, the study's name."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> StudyFolder:
        """The folder that holds this one."""
        place, mark, query = self.uri.partition("?")
        return StudyFolder(f"{place.rstrip('/').rpartition('/')[0]}{mark}{query}")

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The filesystem that holds the folder."""
        filesystem, path = self._place
        return bundle_filesystem(filesystem, path) if is_bundle(self.uri) else filesystem

    @property
    def path(self) -> str:
        """The folder's path inside its filesystem."""
        return "" if is_bundle(self.uri) else self._place[1]

    @property
    def for_results(self) -> StudyFolder:
        """The folder that results of the analysis are written to: beside a bundle, else itself."""
        return StudyFolder(results_uri(self.uri)) if is_bundle(self.uri) else self

    @property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        """Filesystem and path of the folder or the bundle."""
        if "://" not in self.uri:
            return pafs.LocalFileSystem(), self.uri
        return open_filesystem(self.uri)

    def file(self, *names: str) -> str:
        """Path of a file or folder below this one, inside its filesystem."""
        return "/".join((self.path.rstrip("/"), *names))

    def uri_of(self, *names: str) -> str:
        """Path or URI of a file or folder below this one, as a user would type it.

        Example:
            >>> StudyFolder("s3://bucket/study?scheme=http").uri_of("analysis", "report.html")
            's3://bucket/study/analysis/report.html?scheme=http'
        """
        is_uri = "://" in self.uri
        place, mark, query = self.uri.partition("?") if is_uri else (self.uri, "", "")
        return "/".join((place.rstrip("/"), *names)) + mark + query

    def check_storage(self) -> None:
        """Check that the bucket that is to hold the folder exists; no effect on a disk.

        Raises:
            study.results.object_store.StorageError: it does not, or the store does not answer.
        """
        check_bucket(self.filesystem, self.path)

    def create(self) -> None:
        """Create the folder, unless it exists."""
        filesystem, path = self.filesystem, self.path
        repeated(filesystem, lambda: filesystem.create_dir(path, recursive=True))

    def exists(self) -> bool:
        """Whether the folder holds a study."""
        return self.read_bytes(STUDY_FILE) is not None

    def study_file(self) -> bytes:
        """The content of the study file in the folder.

        Raises:
            ResultsError: there is no study in the folder.
        """
        content = self.read_bytes(STUDY_FILE)
        if content is None:
            self.check_storage()
            raise ResultsError(f"{self.uri}: no study here (study.yaml is missing)")
        return content

    def read_bytes(self, name: str) -> bytes | None:
        """The content of a file below the folder, or None if it does not exist."""
        try:
            return repeated(self.filesystem, lambda: self._read_once(self.file(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _read_once(self, path: str) -> bytes:
        filesystem = self.filesystem
        with filesystem.open_input_stream(path) as stream:
            content = bytes(stream.read())
        # An object store gives the length first and then as many bytes, of a new file perhaps.
        if is_object_store(filesystem) and filesystem.get_file_info(path).size != len(content):
            raise OSError(f"{path}: replaced while it was read")
        return content

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file atomically, in place of an earlier one."""
        with AtomicFile(self.filesystem, self.file(name)) as stream:
            stream.write(content)

    def file_names(self, subfolder: str) -> list[str]:
        """Sorted names of the files directly in a subfolder; empty if it does not exist."""
        selector = pafs.FileSelector(self.file(subfolder), allow_not_found=True)
        infos = repeated(self.filesystem, lambda: self.filesystem.get_file_info(selector))
        return sorted(info.base_name for info in infos if info.is_file)

    def has_file(self, name: str) -> bool:
        """Whether there is a file of this name below the folder."""
        filesystem, path = self.filesystem, self.file(name)
        info = repeated(filesystem, lambda: filesystem.get_file_info(path))
        return bool(info.type != pafs.FileType.NotFound)

    def wait_for_listing(self, subfolders: Sequence[str]) -> None:
        """Wait until listings of subfolders show every file that is in them now.

        Some object stores list a file only a while after it was written. A driver that read such a
        listing would train networks again that have rows. No effect on a disk.

        Raises:
            ResultsError: a listing lacks a file that was written `PATIENCE_S` ago.
        """
        if not is_object_store(self.filesystem):
            return
        written = f".listing.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
        for subfolder in subfolders:
            self.write_bytes(f"{subfolder}/{written}", b"")
        end = time.monotonic() + PATIENCE_S
        for subfolder in subfolders:
            for pause in pauses():
                if written in self.file_names(subfolder):
                    break
                if time.monotonic() + pause > end:
                    raise ResultsError(
                        f"{self.uri}: the list of files in {subfolder} is not up to date: it lacks "
                        f"one written {PATIENCE_S:.0f} s ago; run the same command again later"
                    )
                time.sleep(pause)
            self.delete(f"{subfolder}/{written}")

    def delete(self, name: str) -> None:
        """Delete a file below the folder, if it exists."""
        self.delete_path(self.file(name))

    def delete_path(self, path: str) -> None:
        """Delete a file at a path inside the filesystem, if it exists."""
        try:
            repeated(self.filesystem, lambda: self.filesystem.delete_file(path))
        except FileNotFoundError:
            return

    def write_part(
        self,
        stage: Stage,
        cohort_id: str,
        trials: Sequence[Mapping[str, Any]],
        epochs: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a cohort's rows: `epochs` first, then `trials`, which commits both.

        Args:
            stage: the stage of all rows.
            cohort_id: names the files; an earlier part of this cohort is replaced.
            trials: rows of `TRIALS`.
            epochs: rows of `EPOCHS`.

        Raises:
            KeyError: a row lacks a column.
            pyarrow.ArrowInvalid: a value does not fit its column.
        """
        rows_of: dict[TableName, Sequence[Mapping[str, Any]]] = {"epochs": epochs, "trials": trials}
        for table, rows in rows_of.items():
            schema = SCHEMAS[table]
            columns = {name: [row[name] for row in rows] for name in schema.names}
            self.write_table(pa.table(columns, schema=schema), table, stage, part_name(cohort_id))

    def write_table(self, content: pa.Table, *names: str) -> None:
        """Write a parquet file atomically at `names`, as in `file`."""
        with AtomicFile(self.filesystem, self.file(*names)) as stream:
            pq.write_table(content, stream, compression="zstd")

    def write_compacted(
        self, rows: pa.Table, table: TableName, stage: Stage, cohort_ids: Sequence[str]
    ) -> None:
        """Write the rows of several cohorts as one file, which names the cohorts.

        Args:
            rows: rows of `TRIALS` or `EPOCHS`.
            table: the table that they belong to.
            stage: the stage of all rows.
            cohort_ids: the cohorts; readers skip their part files.
        """
        key = hashlib.sha256("".join(cohort_ids).encode()).hexdigest()[:16]
        content = rows.replace_schema_metadata(compacted_metadata(cohort_ids))
        self.write_table(content, table, stage, compacted_name(key))

    def read_part(self, table: TableName, stage: Stage, cohort_id: str) -> pa.Table:
        """The rows of one cohort, as long as its part file is not compacted.

        Raises:
            FileNotFoundError: there is no such part.
        """
        path = self.file(table, stage, part_name(cohort_id))
        filesystem, schema = self.filesystem, SCHEMAS[table]
        return repeated(
            filesystem, lambda: pq.read_table(path, filesystem=filesystem, schema=schema)
        )

    def write_transitions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `noise.parquet`: rows of `TRANSITIONS`."""
        self.write_table(pa.Table.from_pylist(list(rows), schema=TRANSITIONS), TRANSITIONS_FILE)

    def read_transitions(self) -> pa.Table | None:
        """The rows of `noise.parquet`, or None if the study has none.

        Raises:
            ResultsError: the file is damaged.
        """
        content = self.read_bytes(TRANSITIONS_FILE)
        if content is None:
            return None
        try:
            return pq.read_table(pa.BufferReader(content), schema=TRANSITIONS)
        except (pa.ArrowInvalid, OSError) as error:
            raise ResultsError(f"{self.uri}: {TRANSITIONS_FILE}: {error}") from error

    def read(
        self, table: TableName, stages: Iterable[str] = STAGES, columns: list[str] | None = None
    ) -> pa.Table:
        """Rows of `trials` (one per network) or `epochs` (one per network and epoch).

        Args:
            table: `trials` or `epochs`.
            stages: names of the stages to read.
            columns: the columns to read; None for all of them.

        Returns:
            The rows, in the order of stages and file names.

        Raises:
            ResultsError: a file is damaged or has another schema version.
        """
        schema = SCHEMAS[table]
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        rows = self._read_listed(table, [Stage(stage) for stage in stages], schema)
        if "schema_version" in rows.column_names:
            versions = set(rows.column("schema_version").to_pylist())
            if versions - {SCHEMA_VERSION}:
                raise ResultsError(
                    f"{self.uri}: schema_version {sorted(versions, key=str)} found, "
                    f"this program reads {SCHEMA_VERSION}"
                )
        return rows

    def table_files(self, table: TableName, stage: Stage) -> TableFiles:
        """The files of a table and stage.

        Raises:
            ResultsError: a compacted file is damaged.
        """
        try:
            return list_table_files(self.filesystem, self.file(table, stage))
        except ValueError as error:
            raise ResultsError(f"{self.uri}: cannot read {table}: {error}") from error

    def load(self, table: TableName, paths: list[str], schema: pa.Schema) -> pa.Table:
        """The rows of some parquet files of a table, with the columns of `schema`."""
        if not paths:
            return schema.empty_table()
        import pyarrow.dataset as pads  # imports pandas

        dataset = pads.dataset(
            paths, schema=SCHEMAS[table], format="parquet", filesystem=self.filesystem
        )
        return repeated(self.filesystem, lambda: dataset.to_table(columns=schema.names))

    def _read_listed(self, table: TableName, stages: list[Stage], schema: pa.Schema) -> pa.Table:
        """Read all committed files; list them again if one disappears before it is read.

        A file disappears when the study's driver compacts between the listing and the reading. Some
        object stores list a deleted file for a while.
        """
        end = time.monotonic() + (PATIENCE_S if is_object_store(self.filesystem) else 0.0)
        for attempt, pause in enumerate(pauses(), 1):
            try:
                return self.load(table, self._committed_paths(table, stages), schema)
            except FileNotFoundError as error:
                if attempt >= _READ_ATTEMPTS and time.monotonic() + pause > end:
                    raise ResultsError(f"{self.uri}: cannot read {table}: {error}") from error
                time.sleep(pause if attempt >= _READ_ATTEMPTS else 0)
            except (pa.ArrowInvalid, OSError) as error:
                raise ResultsError(f"{self.uri}: cannot read {table}: {error}") from error
        raise AssertionError  # `pauses` has no end

    def _committed_paths(self, table: TableName, stages: list[Stage]) -> list[str]:
        """Compacted files, then the parts of committed cohorts that are not in them."""
        paths: list[str] = []
        for stage in stages:
            # List `table` first. A cohort that is compacted after that is missing as a file, which
            # `_read_listed` notices; in the other order it would be missing as a row.
            files = self.table_files(table, stage)
            committed = files if table == "trials" else self.table_files("trials", stage)
            paths += files.compacted
            paths += [p for c, p in files.live_parts.items() if c in committed.cohorts]
        return paths
