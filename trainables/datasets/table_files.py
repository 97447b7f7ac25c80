"""Tables in files: read whole, and every complaint names the file and the row."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import DatasetError, Labels

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_MOST_WORDS = 256  # different words of a column that become one-hot features


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where each row stands in its file.

    Parameters
    ----------
    path: the file.
    columns: {name: values [N]}; every cell has a value.
    rows: number of each row in its file [N]: a line where `unit` is `line`, else counted from 0.
    unit: `line`, `row` or `entry`.
    """

    path: Path
    columns: dict[str, list[Any]]
    rows: Sequence[int]
    unit: str

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        """Where a row stands, for a message: `file, line 17`."""
        return f"{self.path}, {self.unit} {self.rows[row]}"

    def column(self, name: str) -> list[Any]:
        """A column's values.

        Raises
        ------
        DatasetError: no column of that name.
        """
        if name not in self.columns:
            has = ", ".join(map(repr, self.columns))
            raise DatasetError(f"{self.path} has no column {name!r}; it has {has}")
        return self.columns[name]


def read(path: Path) -> Table:
    """A table from a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file.

    `.json` is a list of [text, label] pairs or of objects, `.jsonl` an object a line.

    Raises
    ------
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
            if value is None or (isinstance(value, str) and not value.strip()):
                raise DatasetError(f"{table.place(row)}: column {name!r} is empty")
    return table


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
                f"{path}, {unit} {row}: no [text, label] pair, or other keys than 0's"
            )
        names = names or list(record)
    return Table(path, {name: [r[name] for r in records] for name in names}, rows, unit)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from error
    columns = {name: found.column(name).to_pylist() for name in found.column_names}
    return Table(path, columns, range(found.num_rows), "row")


def class_names(table: Table, label: str) -> tuple[str, ...]:
    """The different labels: whole numbers in their order, anything else in alphabetical order."""
    values = {str(value) for value in table.column(label)}
    numbers = all(value.removeprefix("-").isdecimal() for value in values)
    return tuple(sorted(values, key=int if numbers else str))


def encode_labels(table: Table, label: str, classes: Sequence[str]) -> Labels:
    """Labels [N] as positions in `classes`.

    Raises
    ------
    DatasetError: naming the first row whose label is not one of them.
    """
    position = {name: k for k, name in enumerate(classes)}
    encoded = [position.get(str(value), -1) for value in table.column(label)]
    if -1 in encoded:
        row = encoded.index(-1)
        raise DatasetError(
            f"{table.place(row)}: label {table.column(label)[row]!r} is not in the training file"
        )
    return np.array(encoded, dtype=np.int64)


def numbers(table: Table, name: str) -> NDArray[np.float64] | None:
    """A column as finite numbers [N]; None where it holds words.

    Raises
    ------
    DatasetError: naming the row of a column of numbers that holds none.
    """
    values = table.column(name)
    parsed = np.full(len(values), np.nan)
    words = []
    for row, value in enumerate(values):
        try:
            parsed[row] = float(value)
        except (TypeError, ValueError):
            words.append(row)
    if len(words) > len(values) / 2:
        return None
    bad = words or np.flatnonzero(~np.isfinite(parsed)).tolist()
    if bad:
        raise DatasetError(
            f"{table.place(bad[0])}: column {name!r} holds {values[bad[0]]!r}, not a number"
        )
    return parsed


@dataclass(frozen=True)
class Encoder:
    """How columns become features; learnt from the training file.

    Parameters
    ----------
    numeric: columns that are one feature each.
    words: {column: its words}; one feature a word, 1 where the row has it. A word that the
        training file does not have is no feature.
    """

    numeric: tuple[str, ...]
    words: dict[str, tuple[str, ...]]

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.numeric) + sum(map(len, self.words.values()))

    def encode(self, table: Table) -> NDArray[np.float32]:
        """Features [N, F] of a table's rows.

        Raises
        ------
        DatasetError: a column of numbers that holds words here.
        """
        out = np.zeros((len(table), self.features), dtype=np.float32)
        for k, name in enumerate(self.numeric):
            values = numbers(table, name)
            if values is None:
                raise DatasetError(f"{table.path}: column {name!r} holds words, not numbers")
            out[:, k] = values
        start = len(self.numeric)
        for name, words in self.words.items():
            position = {word: start + k for k, word in enumerate(words)}
            for row, value in enumerate(table.column(name)):
                if str(value) in position:
                    out[row, position[str(value)]] = 1
            start += len(words)
        return out


def learn_encoder(table: Table, label: str) -> Encoder:
    """The encoder of a table's columns but the label.

    Raises
    ------
    DatasetError: no column is left, or one holds too many different words.
    """
    numeric, words = [], {}
    for name in table.columns:
        if name == label:
            continue
        if numbers(table, name) is not None:
            numeric.append(name)
            continue
        found = sorted({str(value) for value in table.column(name)})
        if len(found) > _MOST_WORDS:
            raise DatasetError(
                f"{table.path}: column {name!r} holds {len(found):,} different words; "
                f"one-hot features take up to {_MOST_WORDS}"
            )
        words[name] = tuple(found)
    if not numeric and not words:
        raise DatasetError(f"{table.path} has no column beside the label {label!r}")
    return Encoder(tuple(numeric), words)
