"""Arrays that people have: channels last, floating-point images, labels as words."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables import datasets
from trainables.datasets import DatasetError, npz_files
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

Y = np.arange(60) % 3


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.clear_loaded()


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def random_images(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_is_seen_and_said(tmp_path, channels, dtype):
    first = random_images((60, channels, 7, 6), dtype)
    last = first.transpose(0, 2, 3, 1)
    a = datasets.load(saved(tmp_path / "first.npz", x=first, y=Y))
    path = saved(tmp_path / "last.npz", x=last, y=Y, x_test=last[:5], y_test=Y[:5])
    with pytest.warns(
        datasets.DatasetWarning, match=rf"\(60, 7, 6, {channels}\) is read as \[N, H"
    ):
        b = datasets.load(path)
    assert a.notes == ()
    assert b.input_shape == a.input_shape == (channels, 7, 6)
    np.testing.assert_array_equal(b.train_x, first[b.train_rows])
    np.testing.assert_array_equal(b.test_x, first[:5])
    assert datasets.info(path, channels="first").input_shape == (7, 6, channels)


def test_a_shape_that_shows_nothing_is_kept_or_asked_about(tmp_path):
    many = saved(tmp_path / "many.npz", x=random_images((60, 5, 8, 8)), y=Y)
    assert datasets.info(many).input_shape == (5, 8, 8)  # more rows and columns than channels
    both = saved(tmp_path / "both.npz", x=random_images((60, 3, 8, 3)), y=Y)
    assert datasets.info(both).input_shape == (3, 8, 3)
    two = saved(tmp_path / "two.npz", x=random_images((60, 8, 8, 2)), y=Y)
    with pytest.raises(DatasetError, match=r"say `channels: first` or `channels: last`"):
        datasets.info(two)
    assert datasets.info(two, channels="last").input_shape == (2, 8, 8)
    with pytest.raises(DatasetError, match="channels = 'middle'; allowed: first, last"):
        datasets.info(two, channels="middle")
    flat = saved(tmp_path / "flat.npz", x=random_images((60, 8)), y=Y)
    with pytest.raises(DatasetError, match="no images with channels"):
        datasets.info(flat, channels="last")


def test_images_from_0_to_1_are_normalised_by_their_own_mean_and_spread(tmp_path):
    x = np.random.default_rng(0).random((60, 3, 6, 6), dtype=np.float32) * [[[[1]], [[0.5]], [[0]]]]
    x[:, 2] = 0.25  # a constant channel
    path = saved(tmp_path / "x.npz", x=x.astype(np.float32), y=Y)
    data = datasets.load(path)
    assert (data.train_x.dtype, data.input_shape, data.notes) == (np.float32, (3, 6, 6), ())
    inside = data.normalise(data.train_x).astype(np.float64)
    np.testing.assert_allclose(inside.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(inside.std((0, 2, 3)), [1, 1, 0], atol=1e-5)
    spec = CohortSpec(
        DataSpec(path),
        ModelSpec("resnet20"),
        Recipe(epochs=1, batch_size=16, augment={"crop": 1, "flip": True}),
        [Member("n", "mae", lr=0.1, epsilon=1.0)],
    )
    (result,) = train(spec)
    assert np.isfinite(result.epochs[0].train_loss)
    bad = x.copy()
    bad[7, 0, 0, 0] = np.nan
    with pytest.raises(DatasetError, match="row 7 of x: not a finite number"):
        datasets.load(saved(tmp_path / "bad.npz", x=bad, y=Y))


LABELS = {
    "column": (Y[:, None], ("0", "1", "2")),
    "one-hot": (np.eye(3)[Y], ("0", "1", "2")),
    "words": (np.array(["cat", "ape", "dog"])[Y], ("ape", "cat", "dog")),
    "bytes": (np.array([b"cat", b"ape", b"dog"])[Y], ("ape", "cat", "dog")),
    "numbers as words": (np.array(["10", "9", "100"])[Y], ("9", "10", "100")),
    "a column of words": (np.array(["cat", "ape", "dog"])[Y][:, None], ("ape", "cat", "dog")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_in_every_form(tmp_path, kind):
    y, names = LABELS[kind]
    x = np.arange(120.0).reshape(60, 2)
    data = datasets.load(saved(tmp_path / "a.npz", x=x, y=y, x_val=x[:6], y_val=y[:6]))
    assert data.class_names == names
    values = {"column": Y, "one-hot": Y}.get(kind)
    if values is None:
        values = np.array([names.index(w.decode() if kind == "bytes" else w) for w in np.ravel(y)])
    np.testing.assert_array_equal(data.val_y, values[:6])


def test_class_names_give_the_order_of_words(tmp_path):
    words, x = np.array(["cat", "ape"])[np.arange(40) % 2], np.zeros((40, 2))
    path = saved(tmp_path / "a.npz", x=x, y=words, class_names=["cat", "ape"])
    assert datasets.load(path).class_names == ("cat", "ape")
    path = saved(tmp_path / "b.npz", x=x, y=words, class_names=["cat", "dog"])
    with pytest.raises(DatasetError, match=r"row 1 of y: label 'ape'; allowed: class_names"):
        datasets.load(path)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_form_of_a_label_says_the_same(tmp_path, labels, as_column):
    y = np.array([*labels, 5])
    x = np.zeros((len(y), 2))
    forms = [y, np.eye(6, dtype=np.int8)[y], y.astype(str), y.astype("S")]
    read = [npz_files.read_npz(tmp_path / saved(tmp_path / "f.npz", x=x, y=f)) for f in forms]
    numbers = [[int(s.class_names[k]) for k in s.train.y] for s in read]
    assert numbers == [y.tolist()] * 4
