"""From the columns of a table to labels and features."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import DatasetError, Labels, sorted_class_names
from trainables.datasets.table_files import Table, is_empty

_NESTED: Mapping[type, str] = {list: "lists", tuple: "lists", dict: "records", bytes: "bytes"}
_NO_FEATURES: Mapping[type, str] = {
    **_NESTED,
    datetime.date: "dates",
    datetime.time: "times of day",
    datetime.timedelta: "durations",
}
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?")
MOST_WORDS = 256  # different words of a column that become one-hot features


def class_names(table: Table, label: str) -> tuple[str, ...]:
    """The different labels of a table.

    Args:
        table: the training table.
        label: name of the label column.

    Returns:
        the labels in ascending order if all are whole numbers, else in alphabetical order.

    Raises:
        DatasetError: no column `label`, or it holds lists.
    """
    _check_values(table, label, "a label", _NESTED)
    return sorted_class_names(str(value) for value in table.column(label))


def encode_labels(table: Table, label: str, classes: Sequence[str]) -> Labels:
    """Labels as positions in `classes`.

    Args:
        table: a table.
        label: name of the label column.
        classes: names of the classes.

    Returns:
        int64 [N].

    Raises:
        DatasetError: a label is not one of them; the message names the first such row.
    """
    position = {name: k for k, name in enumerate(classes)}
    encoded = [position.get(str(value), -1) for value in table.column(label)]
    if -1 in encoded:
        row = encoded.index(-1)
        raise DatasetError(
            f"{table.place(row)}: label {table.column(label)[row]!r} is not in the training file"
        )
    return np.array(encoded, dtype=np.int64)


def encode_known_labels(table: Table, label: str, classes: Sequence[str]) -> Labels:
    """Labels of a column in which cells may be empty.

    Args:
        table: a table.
        label: name of the column; without it, no label is known.
        classes: names of the classes.

    Returns:
        int64 [N]; −1 where the cell is empty.

    Raises:
        DatasetError: a label is not one of the classes; the message names the first such row.
    """
    encoded = np.full(len(table), -1, dtype=np.int64)
    position = {name: k for k, name in enumerate(classes)}
    for row, value in enumerate(table.columns.get(label, ())):
        if is_empty(value):
            continue
        name = str(value)
        if name not in position:
            name = name.removesuffix(".0")  # pandas writes whole numbers like this beside gaps
        if name not in position:
            raise DatasetError(
                f"{table.place(row)}: {label} {value!r} is not a label of the training file"
            )
        encoded[row] = position[name]
    return encoded


def texts(table: Table, name: str) -> list[str]:
    """A column of texts.

    Args:
        table: a table.
        name: name of the column.

    Returns:
        N texts.

    Raises:
        DatasetError: no such column, or it holds lists.
    """
    _check_values(table, name, "a text", _NESTED)
    return [str(value) for value in table.column(name)]


def _check_values(
    table: Table, name: str, what: str, refused: Mapping[type, str], advice: str = ""
) -> None:
    """Refuse a column with a value of one of the types `refused`."""
    for kind in dict.fromkeys(map(type, table.column(name))):
        word = next((word for base, word in refused.items() if issubclass(kind, base)), None)
        if word is not None:
            raise DatasetError(
                f"{table.path}: column {name!r} holds {word}; {what} is a number or a word{advice}"
            )


def as_numbers(table: Table, name: str) -> NDArray[np.float64] | None:
    """A column as finite numbers.

    Args:
        table: a table.
        name: name of the column.

    Returns:
        float64 [N]; None where more than half of the values are words.

    Raises:
        DatasetError: a column of numbers has another value; the message names the first such row.
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
    """How columns become features; learnt from the training table.

    Attributes:
        numeric: columns that are one feature each.
        words: {column: its words}; one feature per word, 1 where the row has it. A word that does
            not occur in the training table has no feature.
    """

    numeric: tuple[str, ...]
    words: dict[str, tuple[str, ...]]

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.numeric) + sum(map(len, self.words.values()))

    def encode(self, table: Table) -> NDArray[np.float32]:
        """Features of the rows of a table.

        Args:
            table: a table with the same columns.

        Returns:
            float32 [N, F].

        Raises:
            DatasetError: a column is missing, or a column of numbers holds words here.
        """
        out = np.zeros((len(table), self.features), dtype=np.float32)
        for k, name in enumerate(self.numeric):
            values = as_numbers(table, name)
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
    """The encoder of all columns except the label.

    Args:
        table: the training table.
        label: name of the label column.

    Returns:
        the encoder.

    Raises:
        DatasetError: there is no other column, or one holds too many different words, or lists,
            dates or bytes.
    """
    numeric, words = [], {}
    for name in table.columns:
        if name == label:
            continue
        advice = f": leave it out with `ignore: {name}`"
        _check_values(table, name, "a feature", _NO_FEATURES, advice)
        if as_numbers(table, name) is not None:
            numeric.append(name)
            continue
        different = sorted({str(value) for value in table.column(name)})
        if all(_DECIMAL_COMMA.fullmatch(word.strip()) for word in different):
            comma = next(word for word in different if "," in word)
            raise DatasetError(
                f"{table.path}: column {name!r} holds {comma!r}; for numbers with a comma, say "
                "`decimal: ','`"
            )
        if len(different) > MOST_WORDS:
            raise DatasetError(
                f"{table.path}: column {name!r} holds {len(different):,} different words; "
                f"one-hot features allow up to {MOST_WORDS}; leave it out with `ignore: {name}`, "
                f"or read it as text with `text: {name}`"
            )
        words[name] = tuple(different)
    if not numeric and not words:
        raise DatasetError(f"{table.path} has no column beside the label {label!r}")
    return Encoder(tuple(numeric), words)
