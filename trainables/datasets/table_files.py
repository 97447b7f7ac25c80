"""Reading a table from a file; every error names the file and the row.

CSV is read by Python's `csv` module: pandas silently fills a row that has too few values, and
neither pandas nor pyarrow reports the line of a row when cells contain line breaks.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.datasets.base import DatasetError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
OPTIONS = ("delimiter", "decimal", "encoding")
_DELIMITERS = (",", ";", "\t", "|")  # that are tried
_UNNAMED = re.compile(r"\s*|Unnamed: \d+")  # pandas' name for the index that it has written
_COMMA_NUMBER = re.compile(r"[-+]?\d*,\d+")


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    Attributes:
        delimiter: between the values of a row; None to find it.
        decimal: of numbers, `.` or `,`.
        encoding: of the characters; None for UTF-8.
    """

    delimiter: str | None = None
    decimal: str = "."
    encoding: str | None = None


_USUAL = Layout()


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and the place of each row in the file.

    Attributes:
        path: the file.
        columns: {name: values [N]}; every cell has a value.
        rows: number of each row in the file [N]: its line where `unit` is `line`, else counted
            from 0.
        unit: `line`, `row` or `entry`.
        notes: what the user should know about how the file was read, one line each.
    """

    path: Path
    columns: dict[str, list[Any]]
    rows: Sequence[int]
    unit: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        """The place of a row for a message: `file, line 17`."""
        return f"{self.path}, {self.unit} {self.rows[row]}"

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

    def without(self, names: Sequence[str]) -> Table:
        """The table without some columns.

        Raises:
            DatasetError: no column has one of the names.
        """
        for name in names:
            _ = self.column(name)
        kept = {name: values for name, values in self.columns.items() if name not in names}
        return replace(self, columns=kept)


def take_layout(name: str, options: dict[str, Any]) -> Layout:
    """Take `delimiter`, `decimal` and `encoding` out of the options and check them.

    Args:
        name: name of the data set, for messages.
        options: options of the study file; the settings are removed from it.

    Raises:
        DatasetError: one of them is not allowed.
    """
    delimiter, encoding = options.pop("delimiter", None), options.pop("encoding", None)
    decimal = options.pop("decimal", ".")
    delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
    if delimiter is not None and not (
        isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\n\r'
    ):
        raise DatasetError(
            f"data set {name!r}: delimiter = {delimiter!r}; allowed: one character, or tab"
        )
    if decimal not in (".", ","):
        raise DatasetError(f"data set {name!r}: decimal = {decimal!r}; allowed: '.' or ','")
    if encoding is not None:
        try:
            codecs.lookup(str(encoding))
        except LookupError as error:
            raise DatasetError(
                f"data set {name!r}: encoding = {encoding!r}; allowed: a name that Python knows, "
                "such as utf-8, latin-1, cp1252, utf-16"
            ) from error
    return Layout(delimiter, decimal, None if encoding is None else str(encoding))


def read_table(path: Path, layout: Layout = _USUAL, may_be_empty: Collection[str] = ()) -> Table:
    """Read a table.

    Args:
        path: a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file. `.json` is a list of [text,
            label] pairs or of objects, `.jsonl` one object per line.
        layout: how the file is written.
        may_be_empty: columns whose cells may be empty.

    Returns:
        the table. Values of `.csv` and `.tsv` are strings.

    Raises:
        DatasetError: the file is damaged, empty, or a row lacks a value.
    """
    suffix = path.suffix.lower()
    _check_layout(path, suffix, layout)
    encoding = layout.encoding or "utf-8-sig"
    try:
        if suffix == ".parquet":
            table = _read_parquet(path)
        elif suffix in (".json", ".jsonl"):
            table = _read_json(path, suffix, encoding)
        else:
            table = _read_csv(path, layout, "\t" if suffix == ".tsv" else ",", encoding)
    except UnicodeError as error:
        where = f": byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise DatasetError(
            f"{path} is not {(layout.encoding or 'utf-8').upper()}{where}; say how it is written, "
            f"such as `encoding: {_likely_encoding(path, layout.encoding)}`"
        ) from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    if not len(table):
        raise DatasetError(f"{path} has no rows")
    for name, values in table.columns.items():
        for row, value in enumerate(values):
            if name not in may_be_empty and is_empty(value):
                raise DatasetError(f"{table.place(row)}: column {name!r} is empty")
    return table


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: no value, only blanks, or NaN."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def _check_layout(path: Path, suffix: str, layout: Layout) -> None:
    """Refuse an option that has no meaning for the kind of file."""
    if suffix not in (".csv", ".tsv"):
        given = [] if layout.encoding is None or suffix != ".parquet" else ["encoding"]
        given += ["decimal"] if layout.decimal != "." else []
        given += ["delimiter"] if layout.delimiter is not None else []
        if given:
            raise DatasetError(f"{path}: a {suffix} file has no {given[0]}")


def _likely_encoding(path: Path, tried: str | None) -> str:
    """An encoding to suggest for a file that `tried` does not read."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "latin-1" if tried is None else "utf-8"


def _read_csv(path: Path, layout: Layout, usual: str, encoding: str) -> Table:
    notes = []
    delimiter = layout.delimiter or _find_delimiter(path, usual, encoding)
    if layout.delimiter is None and delimiter != usual:
        shown = "tab" if delimiter == "\t" else repr(delimiter)
        notes.append(f"the delimiter of {path.name} is {shown}; `delimiter:` says another one")
    header, cells, lines = [""], [], []
    for k, (line, record) in enumerate(_records(path, delimiter, encoding)):
        if k == 0:
            header = record
        elif any(cell.strip() for cell in record):  # else a blank line, or delimiters alone
            cells.append(record)
            lines.append(line)
    header, cells = _without_empty_end(header, cells)
    for line, record in zip(lines, cells, strict=True):
        if len(record) != len(header):
            raise DatasetError(
                f"{path}, line {line}: {len(record)} values, the header has {len(header)}"
                f"{_other_delimiter(header, delimiter)}"
            )
    if len(set(header)) != len(header):
        raise DatasetError(f"{path}: the header names a column twice")
    columns = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in header]
    table = dict(zip(header, columns, strict=True))
    for name in [name for name in table if _UNNAMED.fullmatch(name)]:
        if _are_row_numbers(table[name]):
            del table[name]
            notes.append(f"column {name!r} of {path.name} is left out: it numbers the rows")
    if layout.decimal == ",":
        table = {name: _with_points(column) for name, column in table.items()}
    return Table(path, table, lines, "line", tuple(notes))


def _records(path: Path, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Line and values of each row; the header first."""
    with path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                yield reader.line_num, record
        except csv.Error as error:
            raise DatasetError(f"{path}, line {reader.line_num}: {error}") from error


def _find_delimiter(path: Path, usual: str, encoding: str) -> str:
    """The usual delimiter, or another one where that finds a single column in the header."""
    widths = {}
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        try:
            _, header = next(_records(path, delimiter, encoding), (0, []))
        except DatasetError:
            header = []
        widths[delimiter] = len(header)
    return usual if widths[usual] > 1 else max(widths, key=lambda delimiter: widths[delimiter])


def _other_delimiter(header: Sequence[str], delimiter: str) -> str:
    """The end of a message where the header contains a delimiter that is not used."""
    found = [d for d in _DELIMITERS if d != delimiter and any(d in name for name in header)]
    return f"; `delimiter: '{found[0]}'` reads it with another one" if found else ""


def _without_empty_end(
    header: list[str], cells: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Without what delimiters at the ends of lines add: columns with neither name nor value."""
    while len(header) > 1 and not header[-1].strip():
        width = len(header)
        if any(len(record) >= width and record[width - 1].strip() for record in cells):
            break
        header = header[:-1]
        cells = [r[:-1] if len(r) == width else r for r in cells]
    width = len(header)
    if cells and all(len(record) == width + 1 and not record[-1].strip() for record in cells):
        cells = [record[:-1] for record in cells]
    return header, cells


def _are_row_numbers(column: Sequence[str]) -> bool:
    """Whether a column holds 0, 1, 2, … or 1, 2, 3, …, as pandas writes its index."""
    return any(
        all(value == str(row + first) for row, value in enumerate(column)) for first in (0, 1)
    )


def _with_points(column: list[str]) -> list[str]:
    """Numbers with a decimal point in place of a comma; other values as they are."""
    return [v.replace(",", ".") if _COMMA_NUMBER.fullmatch(v.strip()) else v for v in column]


def _read_json(path: Path, suffix: str, encoding: str) -> Table:
    rows: Sequence[int]
    with path.open(encoding=encoding) as stream:
        try:
            if suffix == ".json":
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
