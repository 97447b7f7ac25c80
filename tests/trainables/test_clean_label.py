"""Tables whose labels may be wrong, with a column of correct labels for some rows."""

import csv

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables import datasets
from trainables.datasets import DatasetError

NAMES = ("ape", "bee", "cat")


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.clear_loaded()


def written(path, rows):
    """Rows of (label, correct label or None); the feature is the number of the row."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["number", "label", "truth"])
        table.writerows([(k, label, truth or "") for k, (label, truth) in enumerate(rows)])
    return str(path)


def numbers(data, x):
    """The rows of the file that inputs come from."""
    return np.rint(np.asarray(x)[:, 0]).astype(int)


def rows_of(rng, n, verified):
    labels = np.arange(n) % 3
    truth = np.where(rng.random(n) < 0.3, (labels + 1) % 3, labels)
    known = rng.permutation(n) < verified
    return [
        (NAMES[label], NAMES[t] if k else None)
        for label, t, k in zip(labels, truth, known, strict=True)
    ]


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6), verified=st.integers(9, 60), fraction=st.sampled_from([0.2, 0.5])
)
def test_the_test_set_is_rows_of_known_label_and_nothing_else_changes(
    tmp_path, seed, verified, fraction
):
    rows = rows_of(np.random.default_rng(seed), 120, verified)
    path = written(tmp_path / f"{seed}-{verified}-{fraction}.csv", rows)
    data = datasets.load(path, clean_label="truth", test_fraction=fraction)
    test, train, val = (numbers(data, x) for x in (data.test_x, data.train_x, data.val_x))
    assert sorted([*test, *train, *val]) == list(range(120))
    assert [rows[k][1] for k in test] == [NAMES[y] for y in data.test_y]
    assert [rows[k][0] for k in test] == [NAMES[y] for y in data.test_given]
    for found, y in ((train, data.train_y), (val, data.val_y)):
        assert [rows[k][0] for k in found] == [NAMES[label] for label in y]
    np.testing.assert_array_equal(train, data.train_rows)
    np.testing.assert_array_equal(val, data.val_rows)
    # At most the requested share becomes the test set; verified rows beyond it train.
    assert len(test) == verified if verified <= fraction * 120 else len(test) < verified
    assert abs(len(test) - min(verified, fraction * 120)) <= 3


def test_of_two_files_the_second_has_the_correct_labels(tmp_path):
    rng = np.random.default_rng(0)
    train = written(tmp_path / "train.csv", rows_of(rng, 60, 0))
    rows = rows_of(rng, 30, 12)
    test = written(tmp_path / "test.csv", rows)
    data = datasets.load(train, clean_label="truth", test=test)
    known = [k for k, row in enumerate(rows) if row[1]]
    assert numbers(data, data.test_x).tolist() == known
    assert [NAMES[y] for y in data.test_y] == [rows[k][1] for k in known]
    assert [NAMES[y] for y in data.test_given] == [rows[k][0] for k in known]
    assert len(data.train_y) + len(data.val_y) == 60
    plain = datasets.load(train, ignore="truth")
    assert plain.test_given is None


@pytest.mark.parametrize(
    ("verified", "rows", "options", "says"),
    [
        (0, [], {"clean_label": "label"}, "label and clean_label are both 'label'"),
        (60, [], {"clean_label": "other"}, "no column 'other'; it has 'number', 'label', 'truth'"),
        (0, [], {}, r"column 'truth' holds no label"),
        (0, [("ape", "dog")], {}, r"line 62: truth 'dog' is not a label of the training file"),
    ],
)
def test_bad_columns_of_correct_labels_are_named(tmp_path, verified, rows, options, says):
    path = written(tmp_path / "f.csv", rows_of(np.random.default_rng(0), 60, verified) + rows)
    with pytest.raises(DatasetError, match=says) as error:
        datasets.load(path, **{"clean_label": "truth", **options})
    assert "\n" not in str(error.value)


def test_whole_numbers_beside_gaps_are_the_same_labels(tmp_path):
    """pandas writes them as 1.0."""
    with (tmp_path / "f.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["number", "label", "truth"])
        table.writerows([(k, k % 2, f"{k % 2}.0" if k % 4 < 2 else "") for k in range(60)])
    data = datasets.load(str(tmp_path / "f.csv"), clean_label="truth", test_fraction=0.5)
    np.testing.assert_array_equal(data.test_y, data.test_given)
    assert len(data.test_y) == 30
