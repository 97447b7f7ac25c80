import json
import os
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from trainables import datasets
from trainables.datasets import DatasetError

REAL = os.environ.get("LOGIT_BIAS_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="LOGIT_BIAS_DATA names no folder of real data")


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    datasets.clear_loaded()
    yield
    datasets.clear_loaded()


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def flowers(n=30):
    """Rows `width,colour,label` of two classes; the colour follows the label except in one row."""
    rows = [(k / 2, "red" if k % 2 else "blue", "rose" if k % 2 else "iris") for k in range(n)]
    rows[2] = (1.0, "red", "iris")
    return rows


def as_csv(rows, header="width,colour,label"):
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def pieces(data):
    return [getattr(data, f"{split}_{xy}") for split in ("train", "val", "test") for xy in "xy"]


def test_a_table_becomes_numbers_and_one_hot_words(tmp_path):
    data = datasets.load(write(tmp_path / "f.csv", as_csv(flowers(100))))
    assert data.class_names == ("iris", "rose")
    assert data.input_shape == (3,)  # width, blue, red
    assert data.train_x.dtype == np.float32
    assert [len(data.train_y), len(data.val_y), len(data.test_y)] == [72, 8, 20]
    for split in ("train", "val"):
        x, rows = getattr(data, f"{split}_x"), getattr(data, f"{split}_rows")
        np.testing.assert_array_equal(x[:, 0], rows / 2)  # the width identifies the row
        np.testing.assert_array_equal(getattr(data, f"{split}_y"), rows % 2)
        np.testing.assert_array_equal(x[:, 1] + x[:, 2], 1)
        red = (rows % 2 == 1) | (rows == 2)
        np.testing.assert_array_equal(x[:, 2], red)
    rows = [data.train_rows, data.val_rows, (data.test_x[:, 0] * 2).astype(int)]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(100))
    standardised = data.normalise(data.train_x)
    assert abs(standardised[:, 0].mean()) < 1e-5
    assert standardised[:, 0].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(standardised[:, 1:], data.train_x[:, 1:])


def test_every_table_format_gives_the_same(tmp_path):
    rows = flowers()
    columns = dict(zip(("width", "colour", "label"), zip(*rows, strict=True), strict=True))
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    pq.write_table(pa.table({k: list(v) for k, v in columns.items()}), tmp_path / "f.parquet")
    loaded = [
        pieces(datasets.load(path))
        for path in (
            write(tmp_path / "f.csv", as_csv(rows)),
            write(tmp_path / "f.tsv", as_csv(rows).replace(",", "\t")),
            write(tmp_path / "f.json", json.dumps(records)),
            write(tmp_path / "f.jsonl", "\n".join(map(json.dumps, records))),
            str(tmp_path / "f.parquet"),
        )
    ]
    for other in loaded[1:]:
        for one, two in zip(loaded[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_numbers_as_labels_keep_their_order(tmp_path):
    rows = [(k, k % 3 * 10) for k in range(60)]  # labels 0, 10, 20
    data = datasets.load(write(tmp_path / "n.csv", as_csv(rows, "x,y")), label="y")
    assert data.class_names == ("0", "10", "20")


def test_a_separate_test_file(tmp_path):
    path = write(tmp_path / "train.csv", as_csv(flowers()))
    write(tmp_path / "test.csv", as_csv([(99.0, "green", "rose"), (98.0, "red", "iris")]))
    data = datasets.load(path, test=str(tmp_path / "test.csv"))
    np.testing.assert_array_equal(data.test_y, [1, 0])
    np.testing.assert_array_equal(data.test_x, [[99, 0, 0], [98, 0, 1]])  # no green in training
    assert len(data.train_y) + len(data.val_y) == 30
    write(tmp_path / "test.csv", as_csv([(99.0, "red", "tulip")]))
    with pytest.raises(DatasetError, match=r"test.csv, line 2: label 'tulip'"):
        datasets.load(path, test=str(tmp_path / "test.csv"))


def test_text_is_learnt_from_training_texts_alone(tmp_path):
    texts = [("good day", "hello") if k % 2 else ("see you", "bye") for k in range(40)]
    train = write(tmp_path / "t.json", json.dumps(texts))
    test = write(tmp_path / "s.json", json.dumps([["good unseen word", "hello"]]))
    data = datasets.load(train, test=test, features=16)
    assert data.input_shape == (16,)
    assert data.class_names == ("bye", "hello")
    np.testing.assert_allclose(np.linalg.norm(data.train_x, axis=1), 1, rtol=1e-6)
    assert (data.test_x > 0).sum() == 1  # of three words, only `good` is known
    assert data.normalise(data.train_x).std() == pytest.approx(1, abs=0.2)
    hashed = datasets.load(train, features=16, vectoriser="hashed")
    assert hashed.input_shape == (16,)
    hello, bye = (hashed.train_x[hashed.train_y == k][0] for k in (1, 0))
    assert not np.array_equal(hello, bye)


def test_user_defined_arrays(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 5, 4), dtype=np.uint8), np.tile(np.arange(3), 20)
    np.savez(tmp_path / "a.npz", x=x, y=y, class_names=["a", "b", "c"])
    data = datasets.load(str(tmp_path / "a.npz"), test_fraction=0.25)
    assert data.class_names == ("a", "b", "c")
    assert data.input_shape == (1, 5, 4)
    assert len(data.test_y) == 15
    np.testing.assert_array_equal(data.train_x[:, 0], x[data.train_rows])
    np.testing.assert_array_equal(data.train_y, y[data.train_rows])

    np.savez(tmp_path / "b.npz", x=x.reshape(60, -1) / 1.0, y=y, x_val=x[:9].reshape(9, -1),
             y_val=y[:9], x_test=x[9:15].reshape(6, -1), y_test=y[9:15])  # fmt: skip
    data = datasets.load(str(tmp_path / "b.npz"))
    assert [len(data.train_y), len(data.val_y), len(data.test_y)] == [60, 9, 6]
    assert data.train_x.dtype == np.float32
    info = datasets.info(str(tmp_path / "b.npz"), classes=2)
    assert (info.classes, info.input_shape, info.train_size) == (2, (20,), 40)


def test_a_path_is_looked_for_below_root(tmp_path):
    write(tmp_path / "f.csv", as_csv(flowers()))
    assert datasets.load("f.csv", root=str(tmp_path)).classes == 2
    with pytest.raises(DatasetError, match=r"no file .*absent.csv"):
        datasets.load("absent.csv", root=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("width,label\n1,a\n2,\n3,b\n", {}, r"f.csv, line 3: column 'label' is empty"),
        ("width,label\n1,a\n ,b\n", {}, r"f.csv, line 3: column 'width' is empty"),
        ('width,label\n"1\n",a\n2\n', {}, r"f.csv, line 4: 1 values, the header has 2"),
        ("width,label\n1,a\n2,b\nx3,a\n4,b\n", {}, r"line 4: column 'width' holds 'x3', not a n"),
        ("width,label\n1,a\nnan,b\n2,b\n", {}, r"line 3: column 'width' holds 'nan', not a n"),
        ("width,label\n", {}, r"f.csv has no rows"),
        ("", {}, r"f.csv has no rows"),
        ("width,label\n1,a\n", {"label": "kind"}, r"no column 'kind'; it has 'width', 'label'"),
        ("label\na\nb\n" * 5, {}, r"no column beside the label"),
        ("x,x\n1,a\n", {"label": "x"}, r"names a column twice"),
        ("width,label\n" + "1,a\n" * 9 + "2,b\n", {}, r"f.csv: class 'b' has 1 examples, too few"),
        ("width,label\n" + "1,a\n" * 9, {}, r"has 1 class; at least 2"),
        ('width,label\n1,"a\n', {}, r"f.csv, line 2: unexpected end of data"),
        ("width,label\n" + "1,a\n2,b\n" * 9, {"test_fraction": 0.9}, r"test_fraction = 0.9"),
        ("width,label\n" + "1,a\n2,b\n" * 9, {"colour": 1}, r"no option 'colour'; allowed: val_f"),
        ("width,label\n" + "1,a\n2,b\n" * 9, {"classes": 3}, r"classes = 3; allowed: 2 to 2"),
        (
            "width,label\n" + "1,a\n2,b\n" * 9,
            {"label": ["x"]},
            r"label = .*; allowed: a word or a number",
        ),
    ],
)
def test_a_bad_table_names_file_and_row(tmp_path, text, options, says):
    path = write(tmp_path / "f.csv", text)
    with pytest.raises(DatasetError, match=says) as error:
        datasets.load(path, **options)
    assert "\n" not in str(error.value)


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"width,label\n1,caf\xe9\n")
    says = r"f.csv is not UTF-8: byte 17; say how it is written, such as `encoding: latin-1`"
    with pytest.raises(DatasetError, match=says):
        datasets.load(str(tmp_path / "f.csv"))
    for name in ("f.npz", "f.parquet"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 cut off")
        with pytest.raises(DatasetError, match=f"{name} is damaged"):
            datasets.load(str(tmp_path / name))
    with pytest.raises(DatasetError, match=r"f.json, line 2"):
        datasets.load(write(tmp_path / "f.json", '[["a", "b"],\n["a"'))
    with pytest.raises(DatasetError, match=r"f.json, entry 1: no"):
        datasets.load(write(tmp_path / "f.json", '[["a", "b"], ["a"]]'))
    with pytest.raises(DatasetError, match=r"f.jsonl, line 3"):
        datasets.load(write(tmp_path / "f.jsonl", '{"text": "a", "label": "b"}\n\n{"text"\n'))
    assert not list((tmp_path / "cache").glob("*/"))  # no incomplete entry is kept


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((4, 2))}, r"no array 'y'; it has x"),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, 0])}, r"x has 4 rows, y has 3"),
        ({"x": np.zeros((2, 2)), "y": np.array([0.0, 1.0])}, r"y must be whole numbers or words"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, -1])}, r"row 1 of y: label -1"),
        ({"x": np.array([[0.0], [np.nan]]), "y": np.array([0, 1])}, r"row 1 of x: not a finite"),
        ({"x": np.zeros((9, 1)), "y": np.array([0, 0, 0, 0, 0, 2, 2, 2, 2])}, r"class '1' has 0"),
        ({"x": np.zeros((2, 2, 2, 2, 2)), "y": np.array([0, 1])}, r"allowed: images \[N, C, H, W"),
        ({"x": np.zeros((2, 9, 9, 2)), "y": [0, 1]}, r"say `channels: first` or `channels: last`"),
        ({"x": np.zeros((2, 2)), "y": np.array(["a", {}])}, r"y holds Python objects; .*astype"),
        ({"x": np.zeros((2, 2)), "y": np.array([[1, 0], [1, 1]])}, r"y \(2, 2\) is not one-hot"),
        ({"x": np.zeros((2, 2)), "y": np.array(["a", " "])}, r"row 1 of y: the label is empty"),
        (
            {"x": np.zeros((2, 2)), "y": ["a", "b"], "x_val": np.zeros((1, 2)), "y_val": ["c"]},
            r"row 0 of y_val: label 'c'; allowed: the words of y",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array([0, 1]), "class_names": ["only"]},
            r"row 1 of y: label 1; allowed: 0 to 0",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.arange(2), "x_test": np.zeros((1, 3)), "y_test": [0]},
            r"x_test \(1, 3\) does not fit x \(2, 1\)",
        ),
    ],
)
def test_bad_arrays_name_file_and_row(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetError, match=says) as error:
        datasets.load(str(tmp_path / "a.npz"))
    assert "a.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_of_named_sets_are_named(tmp_path):
    for name, file in (
        ("clinc150", "data_full.json from github.com/clinc/oos-eval"),
        ("banking77", "train.csv, test.csv from github.com"),
        ("letter-recognition", "letter-recognition.data from archive.ics.uci.edu"),
    ):
        with pytest.raises(DatasetError, match=file) as error:
            datasets.load(name, root=str(tmp_path))
        assert str(tmp_path) in str(error.value)
        with pytest.raises(DatasetError, match="LOGIT_BIAS_DATA"):
            datasets.load(name)


@needs_real
@pytest.mark.parametrize(
    "options", [{}, {"classes": 12, "imbalance": "step", "imbalance_factor": 2}]
)
@pytest.mark.parametrize("name", ["clinc150", "banking77", "letter-recognition"])
def test_info_equals_what_is_loaded(name, options):
    info, loaded = datasets.info(name, **options), datasets.load(name, root=REAL, **options)
    assert (info.classes, info.input_shape) == (loaded.classes, loaded.input_shape)
    sizes = (info.train_size, info.val_size, info.test_size)
    assert sizes == (len(loaded.train_y), len(loaded.val_y), len(loaded.test_y))
    assert np.isfinite(loaded.normalise(loaded.train_x)).all()


@needs_real
@pytest.mark.parametrize(
    ("name", "least"), [("clinc150", 0.8), ("banking77", 0.7), ("letter-recognition", 0.7)]
)
def test_a_linear_model_learns_the_real_sets(name, least):
    data = datasets.load(name, root=REAL)
    every_third = np.arange(0, len(data.train_y), 3)
    model = LogisticRegression(max_iter=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 20 iterations are enough for the bound, not to converge
        model.fit(data.normalise(data.train_x[every_third]), data.train_y[every_third])
    assert model.score(data.normalise(data.test_x), data.test_y) > least


@needs_real
def test_a_damaged_letter_file_names_the_line(tmp_path):
    folder = tmp_path / "root" / "letter-recognition"
    folder.mkdir(parents=True)
    with open(f"{REAL}/letter-recognition/letter-recognition.data") as stream:
        lines = stream.readlines()
    for bad in ("T,2,8,3\n", "t" + lines[6][1:], lines[6].replace(",", ";")):
        (folder / "letter-recognition.data").write_text("".join([*lines[:6], bad, *lines[7:]]))
        with pytest.raises(DatasetError, match=r"letter-recognition.data, line 7"):
            datasets.load("letter-recognition", root=str(tmp_path / "root"))
    (folder / "letter-recognition.data").write_text("".join(lines[:-1]))
    with pytest.raises(DatasetError, match="the test set is not that of 'letter-recognition'"):
        datasets.load("letter-recognition", root=str(tmp_path / "root"))
