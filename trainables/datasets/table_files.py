"""Reading a table from a file; every error names the file and the row.

CSV is read by Python's `csv` module: pandas silently fills a row that has too few values, and
neither pandas nor pyarrow reports the line of a row when cells contain line breaks.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.datasets.base import DatasetError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and the place of each row in the file.

    Attributes:
        path: the file.
        columns: {name: values [N]}; every cell has a value, except in a column that may be empty.
        rows: number of each row in the file [N]: its line where `unit` is `line`, else counted
            from 0.
        unit: `line`, `row` or `entry`.
    """

    path: Path
    columns: dict[str, list[Any]]
    rows: Sequence[int]
    unit: str

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        """The place of a row for a message: `file, line 17`."""
        return f"{self.path}, {self.unit} {self.rows[row]}"

    def without(self, name: str) -> Table:
        """The table without a column; itself where there is no such column."""
        return replace(self, columns={k: v for k, v in self.columns.items() if k != name})

    def column(self, name: str) -> list[Any]:
        """The values of a column.

        Args:
            name: name of the column.

        Returns:
            N values.

        Raises:
            DatasetError: no column of that name.
        """
        if name not in self.columns:
            existing = ", ".join(map(repr, self.columns))
            raise DatasetError(f"{self.path} has no column {name!r}; it has {existing}")
        return self.columns[name]


def read_table(path: Path, may_be_empty: str | None = None) -> Table:
    """Read a table.

    Args:
        path: a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file. `.json` is a list of [text,
            label] pairs or of objects, `.jsonl` one object per line.
        may_be_empty: a column whose cells may be empty.

    Returns:
        the table. Values of `.csv` and `.tsv` are strings.

    Raises:
        DatasetError: the file is damaged, empty, or a row lacks a value.
    """
    try:
        if path.suffix == ".parquet":
            table = _read_parquet(path)
        elif path.suffix in (".json", ".jsonl"):
            table = _read_json(path)
        else:
            table = _read_csv(path, "\t" if path.suffix == ".tsv" else ",")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8: byte {error.start:,}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    if not len(table):
        raise DatasetError(f"{path} has no rows")
    for name, values in table.columns.items():
        for row, value in enumerate(values):
            if name != may_be_empty and is_empty(value):
                raise DatasetError(f"{table.place(row)}: column {name!r} is empty")
    return table


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: no value, only blanks, or NaN."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def _read_csv(path: Path, delimiter: str) -> Table:
    cells, lines = [], []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            for record in reader:
                if not record:
                    continue  # a blank line
                if len(record) != len(header):
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: {len(record)} values, "
                        f"the header has {len(header)}"
                    )
                cells.append(record)
                lines.append(reader.line_num)
        except csv.Error as error:
            raise DatasetError(f"{path}, line {reader.line_num}: {error}") from error
    if len(set(header)) != len(header):
        raise DatasetError(f"{path}: the header names a column twice")
    columns = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in header]
    return Table(path, dict(zip(header, columns, strict=True)), lines, "line")


def _read_json(path: Path) -> Table:
    rows: Sequence[int]
    with path.open(encoding="utf-8") as stream:
        try:
            if path.suffix == ".json":
                records, unit = json.load(stream), "entry"
                rows = range(len(records)) if isinstance(records, list) else range(0)
            else:
                numbered = [(n, line) for n, line in enumerate(stream, 1) if line.strip()]
                rows, unit = [n for n, _ in numbered], "line"
                records = []
                for n, line in numbered:
                    try:
                        records.append(json.loads(line))
                    except json.JSONDecodeError as error:
                        raise DatasetError(f"{path}, line {n}: {error.msg}") from error
        except json.JSONDecodeError as error:
            raise DatasetError(f"{path}, line {error.lineno}: {error.msg}") from error
    if not isinstance(records, list):
        raise DatasetError(f"{path}: a list of [text, label] pairs or of objects is expected")
    names: list[str] = []
    for row, record in zip(rows, records, strict=True):
        if isinstance(record, list) and len(record) == 2:
            record = {"text": record[0], "label": record[1]}
            records[row] = record
        if not isinstance(record, dict) or (names and set(record) != set(names)):
            raise DatasetError(
                f"{path}, {unit} {row}: no [text, label] pair, or other keys than entry 0"
            )
        names = names or list(record)
    return Table(path, {name: [r[name] for r in records] for name in names}, rows, unit)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from error
    columns = {name: content.column(name).to_pylist() for name in content.column_names}
    return Table(path, columns, range(content.num_rows), "row")
