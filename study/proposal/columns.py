"""Which columns of a table are label, text and features."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.datasets.table_features import MOST_WORDS
from trainables.datasets.table_files import Table, is_empty
from trainables.errors import BadInputError

_LABEL_NAMES = (
    *("label", "labels", "class", "target", "category", "intent", "y", "classe", "class_label"),
    *("species", "topic", "tag", "lettr"),
)
_LEAST_PER_CLASS = 3  # rows per value of a column that may be the label
_AGREES = 0.3  # share of rows above which a column with the label's values is a second label
_TEXT_WORDS = 3.0  # mean number of words of a column of texts


@dataclass(frozen=True)
class Columns:
    """The parts of a table.

    Attributes:
        label: column of labels.
        clean_label: column of correct labels; None for none.
        text: column of texts; None where the inputs are the other columns.
        features: columns that are inputs; empty where the input is a text.
        left_out: {column: why it is no input}.
        remarks: what was decided without being asked, one sentence each.
        questions: what only the user knows, one sentence each.
    """

    label: str
    clean_label: str | None
    text: str | None
    features: tuple[str, ...]
    left_out: dict[str, str]
    remarks: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def find_columns(
    table: Table, label: str | None, text: str | None, clean_label: str | None
) -> Columns:
    """Find label, text and features of a table.

    Args:
        table: the table.
        label: the label column, where the user names it.
        text: the text column, likewise.
        clean_label: the column of correct labels, likewise.

    Raises:
        BadInputError: there is no such column, several columns may be the label, or a column looks
            like a second label, which would give the answer away as a feature.
    """
    for option, name in (("--label", label), ("--text", text), ("--clean-label", clean_label)):
        if name is not None and name not in table.columns:
            raise BadInputError(
                f"{option} {name}: {table.path} has the columns {', '.join(table.columns)}"
            )
    remarks: list[str] = []
    questions: list[str] = []
    if label is None:
        label, remark = _label_of(table, clean_label)
        remarks += remark
    rest = [name for name in table.columns if name not in (label, clean_label)]
    for name in rest:
        _refuse_second_label(table, label, name)
    if text is None:
        text, question = _text_of(table, rest)
        questions += question
    if text is not None:
        left_out = {name: "the input is the text" for name in rest if name != text}
        return Columns(label, clean_label, text, (), left_out, remarks, questions)
    left_out = {name: reason for name in rest if (reason := _no_feature(table, name))}
    features = tuple(name for name in rest if name not in left_out)
    if not features:
        raise BadInputError(f"{table.path}: no column beside the label {label!r} can be an input")
    for name in features:
        values = table.columns[name]
        if len(set(map(str, values))) == len(values) and name.lower().endswith("id"):
            questions.append(
                f"Column {name} is different in every row. Is it a number of the row? Then add it "
                "to ignore."
            )
    return Columns(label, clean_label, None, features, left_out, remarks, questions)


def _label_of(table: Table, clean_label: str | None) -> tuple[str, list[str]]:
    """The label column, and a remark where its name does not say so."""
    if "label" in table.columns:
        return "label", []
    by_lower = {name.lower(): name for name in table.columns if name != clean_label}
    named = [by_lower[name] for name in _LABEL_NAMES if name in by_lower]
    if len(named) == 1:
        return named[0], [f"Column {named[0]} is taken as the label, by its name."]
    possible = named or [
        name for name in table.columns if name != clean_label and _may_be_label(table.columns[name])
    ]
    if len(possible) == 1:
        name = possible[0]
        return name, [f"Column {name} is taken as the label: no other column can be one."]
    listed = ", ".join(possible or table.columns)
    raise BadInputError(f"{table.path}: which column is the label? --label with one of {listed}")


def _may_be_label(values: Sequence[Any]) -> bool:
    """Whether a column has few enough different values, none of them a fraction."""
    different = {str(value) for value in values if not is_empty(value)}
    if not 2 <= len(different) <= len(values) / _LEAST_PER_CLASS:
        return False
    return not any(_is_fraction(value) for value in different)


def _is_fraction(text: str) -> bool:
    return is_number(text) and not float(text).is_integer()


def _refuse_second_label(table: Table, label: str, name: str) -> None:
    """Refuse a column that holds labels, too: as a feature it would give the answer away."""
    pairs = [
        (str(one), str(other).removesuffix(".0"))
        for one, other in zip(table.columns[label], table.columns[name], strict=True)
        if not is_empty(other)
    ]
    if not pairs:
        raise BadInputError(f"{table.path}: column {name!r} is empty; remove it from the file")
    agree = sum(one == other for one, other in pairs) / len(pairs)
    classes = {str(value) for value in table.columns[label]}
    chance = max(1 / len(classes), _AGREES)
    if agree > chance and {other for _, other in pairs} <= classes and len(classes) > 2:
        raise BadInputError(
            f"{table.path}: column {name!r} agrees with the label {label!r} in {100 * agree:.0f} % "
            f"of its rows, so it is no input; if it holds correct labels, --clean-label {name}, "
            "else remove it from the file"
        )


def _text_of(table: Table, names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The column of texts, and a question where there are several."""
    if "text" in names:
        return "text", []
    words = {name: _mean_words(table.columns[name]) for name in names if _is_varied(table, name)}
    texts = sorted((name for name in words if words[name] >= _TEXT_WORDS), key=lambda n: -words[n])
    if len(texts) > 1:
        others = ", ".join(texts[1:])
        return texts[0], [
            f"Several columns hold texts. The longest one, {texts[0]}, is the input. If {others} "
            "is better: --text."
        ]
    return (texts[0] if texts else None), []


def _is_varied(table: Table, name: str) -> bool:
    """Whether a column holds words, more different ones than can be features."""
    values = table.columns[name]
    different = {str(value) for value in values}
    return len(different) > min(MOST_WORDS, len(values) / 4) and not _are_numbers(values)


def is_number(value: Any) -> bool:
    """Whether a value is a number or the text of one."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _are_numbers(values: Sequence[Any]) -> bool:
    return sum(map(is_number, values)) >= len(values) / 2


def _mean_words(values: Sequence[Any]) -> float:
    return sum(len(str(value).split()) for value in values) / len(values)


def _no_feature(table: Table, name: str) -> str:
    """Why a column cannot be an input; empty where it can."""
    values = table.columns[name]
    if _are_numbers(values):
        return "it counts the rows" if _counts_rows(values) else ""
    different = len({str(value) for value in values})
    if different > MOST_WORDS:
        return f"it holds {different:,} different words, more than {MOST_WORDS}"
    return ""


def _counts_rows(values: Sequence[Any]) -> bool:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return False
    return len(numbers) > 2 and all(b - a == 1 for a, b in itertools.pairwise(numbers))
