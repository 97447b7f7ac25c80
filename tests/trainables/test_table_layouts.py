"""Tables as spreadsheets and pandas write them."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables import datasets
from trainables.datasets import DatasetError, table_files
from trainables.datasets.table_files import Layout, read_table

pytestmark = pytest.mark.filterwarnings("ignore::trainables.datasets.DatasetWarning")
ROWS = [(k % 7 + 0.5, k % 11, f"kind{k % 3}") for k in range(60)]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.clear_loaded()


def written(path, delimiter=",", end="", header="a,b,label", rows=ROWS, encoding="utf-8"):
    lines = [header.replace(",", delimiter), *(delimiter.join(map(str, row)) for row in rows)]
    path.write_bytes("".join(line + end + "\n" for line in lines).encode(encoding))
    return str(path)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_delimiter_is_found_and_said(tmp_path, delimiter):
    plain = datasets.load(written(tmp_path / "plain.csv"))
    found = datasets.load(written(tmp_path / "other.csv", delimiter))
    np.testing.assert_array_equal(found.train_x, plain.train_x)
    assert found.notes[0].startswith("the delimiter of other.csv is ")
    assert plain.notes == ()
    said = datasets.load(
        str(tmp_path / "other.csv"), delimiter={"\t": "tab"}.get(delimiter, delimiter)
    )
    assert said.notes == ()
    wrong = written(tmp_path / "wrong.csv", delimiter, header="a, in cm,b,label")
    text = (tmp_path / "wrong.csv").read_text().replace(f"a{delimiter} in", "a, in")
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(DatasetError, match="line 2: 1 values, the header has 2; `delimiter: '"):
        datasets.load(wrong)
    shown = {"\t": "tab"}.get(delimiter, delimiter)
    np.testing.assert_array_equal(datasets.load(wrong, delimiter=shown).train_x, plain.train_x)


@pytest.mark.parametrize(
    ("end", "header"), [(",", "a,b,label"), (",,,", "a,b,label"), ("", "a,b,label,")]
)
def test_delimiters_at_the_ends_of_lines_are_no_columns(tmp_path, end, header):
    plain = datasets.load(written(tmp_path / "plain.csv"))
    other = datasets.load(written(tmp_path / "other.csv", end=end, header=header))
    np.testing.assert_array_equal(other.train_x, plain.train_x)
    rows_only = written(tmp_path / "rows.csv", end=",")
    text = (tmp_path / "rows.csv").read_text().replace("label,", "label").replace("59,", "59")
    (tmp_path / "rows.csv").write_text(text + ",,,\n")  # a spreadsheet's empty row
    np.testing.assert_array_equal(datasets.load(rows_only).train_x, plain.train_x)


def test_a_column_without_a_name_is_left_out_only_where_it_says_nothing(tmp_path):
    plain = datasets.load(written(tmp_path / "plain.csv"))
    for name, header, first in (
        ("index.csv", ",a,b,label", 0),
        ("again.csv", "Unnamed: 0,a,b,label", 0),
        ("from-one.csv", ",a,b,label", 1),
    ):
        numbered = [(k, *row) for k, row in enumerate(ROWS, first)]
        data = datasets.load(written(tmp_path / name, header=header, rows=numbered))
        np.testing.assert_array_equal(data.train_x, plain.train_x)
        assert "it numbers the rows" in data.notes[0]
    other = [(k % 5, *row) for k, row in enumerate(ROWS)]
    data = datasets.load(written(tmp_path / "kept.csv", header=",a,b,label", rows=other))
    assert data.input_shape == (3,)
    unfinished = [(*row, "x" if k == 9 else "") for k, row in enumerate(ROWS)]
    path = written(tmp_path / "value.csv", header="a,b,label,", rows=unfinished)
    with pytest.raises(DatasetError, match="line 2: column '' is empty"):
        datasets.load(path)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_another_encoding_can_be_said(tmp_path, encoding):
    rows = [(f"caf\xe9 {k % 5}", f"\xfcber{k % 2}") for k in range(40)]
    path = written(tmp_path / "f.csv", header="text,label", rows=rows, encoding=encoding)
    data = datasets.load(path, encoding=encoding)
    assert data.class_names == ("\xfcber0", "\xfcber1")
    if encoding == "utf-8-sig":
        assert datasets.load(path).class_names == data.class_names
    else:
        hint = "utf-16" if encoding == "utf-16" else "latin-1"
        with pytest.raises(DatasetError, match=f"is not UTF-8: byte .*`encoding: {hint}`"):
            datasets.load(path)


def test_numbers_with_a_comma(tmp_path):
    rows = [(str(a).replace(".", ","), b, label) for a, b, label in ROWS]
    path = written(tmp_path / "f.csv", ";", rows=rows)
    with pytest.raises(DatasetError, match=r"column 'a' holds '0,5'; .* say `decimal: ','`"):
        datasets.load(path)
    plain = datasets.load(written(tmp_path / "plain.csv"))
    np.testing.assert_array_equal(datasets.load(path, decimal=",").train_x, plain.train_x)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delimiter": ";;"}, "delimiter = ';;'; allowed: one character, or tab"),
        ({"encoding": "utf-9"}, "encoding = 'utf-9'; allowed: a name that Python knows"),
        ({"decimal": "_"}, "decimal = '_'; allowed: '.' or ','"),
        ({"ignore": "c"}, "no column 'c'; it has 'a', 'b', 'label'"),
        ({"ignore": "a, b"}, "no column beside the label"),
        ({"channels": "last"}, "no option 'channels'"),
    ],
)
def test_bad_options_of_a_table(tmp_path, options, says):
    with pytest.raises(DatasetError, match=says):
        datasets.load(written(tmp_path / "f.csv"), **options)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[k, k] for k in range(60)], "lists"),
        ([{"k": k} for k in range(60)], "records"),
        ([b"x"] * 60, "bytes"),
        ([datetime.date(2020, 1, 1 + k % 9) for k in range(60)], "dates"),
        ([datetime.datetime(2020, 1, 1 + k % 9) for k in range(60)], "dates"),
    ],
)
def test_columns_that_are_no_features_are_refused_by_name(tmp_path, values, kind):
    columns = {"a": [row[0] for row in ROWS], "tags": values, "label": [row[2] for row in ROWS]}
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    path = str(tmp_path / "f.parquet")
    with pytest.raises(DatasetError, match=f"column 'tags' holds {kind}; .*`ignore: tags`"):
        datasets.load(path)
    assert datasets.load(path, ignore="tags").input_shape == (1,)
    if kind in ("lists", "records", "bytes"):
        for option in ("label", "text"):
            with pytest.raises(DatasetError, match=f"column 'tags' holds {kind}"):
                datasets.load(path, **{option: "tags"})
    with pytest.raises(DatasetError, match=r"a \.parquet file has no encoding"):
        datasets.load(path, encoding="latin-1")
    texts = {"text": [f"word{k % 3}" for k in range(60)], **columns}
    pq.write_table(pa.table(texts), tmp_path / "t.parquet")
    assert datasets.load(str(tmp_path / "t.parquet"), features=8).input_shape == (8,)


_CELL = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=1).filter(
    lambda text: text.strip()
)


@given(
    st.lists(st.tuples(_CELL, _CELL, _CELL), min_size=1, max_size=8),
    st.sampled_from(table_files._DELIMITERS),
    st.sampled_from(["latin-1", "utf-8", "utf-16"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, rows, delimiter, encoding):
    import csv

    with (tmp_path / "f.csv").open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("a", "b", "c"), *rows])
    table = read_table(tmp_path / "f.csv", Layout(encoding=encoding))
    assert list(zip(*table.columns.values(), strict=True)) == rows
