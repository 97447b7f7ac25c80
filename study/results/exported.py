"""A study folder in other forms that the base installation writes: a bundle, and CSV files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from importlib import metadata

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from study.results import provenance
from study.results.atomic_write import AtomicFile
from study.results.bundle import BUNDLE_SUFFIX, is_bundle, write_bundle
from study.results.folder import SCHEMAS, STUDY_FILE, TRANSITIONS_FILE, StudyFolder, TableName
from study.results.plan_summary import PLAN_FILE
from study.results.schema import SCHEMA_VERSION, STAGES, Stage
from study.results.study_files import FOLDER_OF_EARLIER
from study.results.table_files import compacted_metadata, compacted_name
from trainables.errors import BadInputError

_CSV_ROWS = 100_000  # rows of a table that are text at a time


def export_bundle(folder: StudyFolder, path: str, analysis: Mapping[str, bytes]) -> dict[str, int]:
    """Write a study as one file.

    Args:
        folder: the study folder.
        path: the file to write, a path or URI; its name ends in `.zip`.
        analysis: {name: content} of further files, such as `analysis/verdict.json`.

    Returns:
        {table: number of rows}

    Raises:
        BadInputError: the file exists, or has another ending.
        ResultsError: there is no study in the folder.
    """
    target = StudyFolder.at(path)
    if not is_bundle(path):
        raise BadInputError(f"{path}: a bundle's name ends in {BUNDLE_SUFFIX}")
    if target.parent.has_file(target.name):
        raise BadInputError(f"{path}: this file exists; choose another name")
    folder.study_file()
    rows = {table: folder.read(table, columns=["network_id"]).num_rows for table in SCHEMAS}
    about = {
        "schema_version": SCHEMA_VERSION,
        "made_by": {"logit-bias-study": _version(), **json.loads(provenance.collect().versions)},
        "rows": rows,
    }
    parent = target.parent
    with AtomicFile(parent.filesystem, parent.file(target.name)) as stream:
        write_bundle(stream, _files(folder, analysis), about)
    return {str(table): n for table, n in rows.items()}


def _files(folder: StudyFolder, analysis: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    names = [STUDY_FILE, PLAN_FILE, TRANSITIONS_FILE]
    names += [f"{FOLDER_OF_EARLIER}/{name}" for name in folder.file_names(FOLDER_OF_EARLIER)]
    for name in names:
        content = folder.read_bytes(name)
        if content is not None:
            yield name, content
    yield from analysis.items()
    for stage in STAGES:
        cohorts: list[str] = []
        for table in ("trials", "epochs"):
            rows = folder.read(table, [stage])
            if table == "trials":
                cohorts = pc.unique(rows["cohort_id"]).to_pylist()
            if rows.num_rows:
                yield _parquet(rows, table, stage, cohorts)


def _parquet(
    rows: pa.Table, table: TableName, stage: Stage, cohorts: list[str]
) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    content = rows.replace_schema_metadata(compacted_metadata(cohorts))
    pq.write_table(content, buffer, compression="zstd")
    return f"{table}/{stage}/{compacted_name('all')}", buffer.getvalue()


def export_csv(folder: StudyFolder, path: str) -> dict[str, int]:
    """Write `trials.csv` and `epochs.csv`, with the columns of `study.results.schema`.

    Lists are JSON, and what a network gets right on each test example (`test_correct`) is
    hexadecimal. A missing value is an empty field.

    Args:
        folder: the study folder.
        path: the folder to write to, a path or URI.

    Returns:
        {file: number of rows}

    Raises:
        BadInputError: one of the files exists.
        ResultsError: there is no study in the folder.
    """
    folder.study_file()
    target = StudyFolder.at(path)
    files: dict[TableName, str] = {name: f"{name}.csv" for name in SCHEMAS}
    for file in files.values():
        if target.has_file(file):
            raise BadInputError(f"{path}/{file}: this file exists; choose another folder")
    written = {}
    for name, file in files.items():
        rows = folder.read(name)
        with AtomicFile(target.filesystem, target.file(file)) as stream:
            as_text = [_as_text(batch) for batch in rows.to_batches(max_chunksize=_CSV_ROWS)]
            schema = as_text[0].schema if as_text else rows.schema
            with pacsv.CSVWriter(stream, schema) as writer:
                for batch in as_text:
                    writer.write_batch(batch)
        written[f"{path}/{file}"] = rows.num_rows
    return written


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose lists and bytes are text."""
    columns = []
    for column in batch.columns:
        if pa.types.is_list(column.type):
            lists = [None if v is None else json.dumps(v) for v in column.to_pylist()]
            column = pa.array(lists, pa.string())
        elif pa.types.is_binary(column.type):
            texts = [None if v is None else v.hex() for v in column.to_pylist()]
            column = pa.array(texts, pa.string())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _version() -> str | None:
    try:
        return metadata.version("logit-bias-study")
    except metadata.PackageNotFoundError:
        return None
