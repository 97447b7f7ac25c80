import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import datasets
from trainables.datasets import DatasetError, cache, splits
from trainables.datasets.named.images import MNIST_TEST, MNIST_TRAIN, TorchvisionImages

REAL = os.environ.get("LOGIT_BIAS_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="LOGIT_BIAS_DATA names no folder of real data")

IMAGES = [
    source
    for source in map(datasets.get, datasets.names())
    if isinstance(source, TorchvisionImages)
]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    datasets.clear_loaded()
    yield tmp_path / "cache"
    datasets.clear_loaded()


def write_idx(path, array):
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">u4")
    path.write_bytes(header.tobytes() + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """A root with files of MNIST's sizes: random pixels, but the first four are the row number."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, counts in (("train", MNIST_TRAIN), ("t10k", MNIST_TEST)):
        y = rng.permutation(np.repeat(np.arange(10), counts))
        x = rng.integers(0, 256, (len(y), 28, 28), dtype=np.uint8)
        x[:, 0, :4] = np.arange(len(y), dtype=">u4").view(np.uint8).reshape(-1, 4)
        write_idx(raw / f"{split}-images-idx3-ubyte", x)
        write_idx(raw / f"{split}-labels-idx1-ubyte", y)
    return tmp_path / "root"


def row_numbers(x):
    return np.ascontiguousarray(x[:, 0, 0, :4]).view(">u4").ravel().astype(np.int64)


def test_split_is_stratified_disjoint_whole_and_recorded(mnist):
    data = datasets.load("mnist", root=str(mnist))
    np.testing.assert_array_equal(row_numbers(data.train_x), data.train_rows)
    np.testing.assert_array_equal(row_numbers(data.val_x), data.val_rows)
    all_rows = np.sort(np.concatenate([data.train_rows, data.val_rows]))
    np.testing.assert_array_equal(all_rows, np.arange(60_000))
    np.testing.assert_array_equal(row_numbers(data.test_x), np.arange(10_000))
    share = np.bincount(data.val_y) / MNIST_TRAIN
    np.testing.assert_allclose(share, 0.1, atol=1e-4)
    # Pixels and labels still belong together.
    labels = np.fromfile(mnist / "MNIST/raw/train-labels-idx1-ubyte", np.uint8)[8:]
    np.testing.assert_array_equal(labels[data.train_rows], data.train_y)
    np.testing.assert_array_equal(labels[data.val_rows], data.val_y)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": 4},
        {"val_fraction": 0.25},
        {"imbalance": "long-tail", "imbalance_factor": 50},
        {"imbalance": "step", "imbalance_factor": 10, "classes": 5},
    ],
)
def test_info_equals_what_is_loaded(mnist, options):
    info = datasets.info("mnist", **options)  # needs no root
    loaded = datasets.load("mnist", root=str(mnist), **options)
    assert (info.classes, info.input_shape) == (loaded.classes, loaded.input_shape)
    sizes = (info.train_size, info.val_size, info.test_size)
    assert sizes == (len(loaded.train_y), len(loaded.val_y), len(loaded.test_y))
    for split in ("train", "val", "test"):
        assert len(getattr(loaded, f"{split}_x")) == len(getattr(loaded, f"{split}_y"))
        assert set(getattr(loaded, f"{split}_y").tolist()) == set(range(info.classes))


def test_imbalance_has_the_requested_factor_and_spares_the_test_set(mnist):
    whole = datasets.load("mnist", root=str(mnist))
    tail = datasets.load("mnist", root=str(mnist), imbalance="long-tail", imbalance_factor=100)
    left = np.bincount(tail.train_y) / np.bincount(whole.train_y)
    np.testing.assert_allclose(left, 100 ** (-np.arange(10) / 9), atol=2e-4)
    assert set(tail.train_rows) < set(whole.train_rows)
    assert set(tail.val_rows) < set(whole.val_rows)
    np.testing.assert_array_equal(tail.test_x, whole.test_x)

    step = datasets.load("mnist", root=str(mnist), imbalance="step", imbalance_factor=10)
    left = np.bincount(step.train_y) / np.bincount(whole.train_y)
    np.testing.assert_allclose(left, [1] * 5 + [0.1] * 5, atol=2e-4)


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    fraction=st.floats(0.01, 0.5),
    factor=st.floats(1, 1000),
    imbalance=st.sampled_from([None, "long-tail", "step"]),
)
def test_no_row_is_used_twice_and_no_class_is_lost(labels, fraction, factor, imbalance):
    y = np.array(labels)
    train, val = splits.train_val_rows(y, splits.Selection(4, fraction, imbalance, factor))
    assert len({*train, *val}) == len(train) + len(val)
    if imbalance is None:
        assert len(train) + len(val) == len(y)
    counts = np.bincount(y, minlength=4)
    assert (np.bincount(y[train], minlength=4)[counts > 0] > 0).all()
    assert (np.bincount(y[val], minlength=4)[counts > 1] > 0).all()


def test_a_stronger_imbalance_keeps_a_subset():
    y = np.tile(np.arange(10), 100)
    kept = [
        set(
            splits.train_val_rows(
                y, splits.Selection(10, imbalance="long-tail", imbalance_factor=f)
            )[0]
        )
        for f in (1, 10, 100)
    ]
    assert kept[2] < kept[1] < kept[0]


def test_second_process_maps_what_the_first_decoded(mnist, temporary_cache):
    program = (
        "import sys; from trainables import datasets\n"
        "def anonymous():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(x.split()[1]) for x in lines if x.startswith('RssAnon')) / 1024\n"
        "data = datasets.load('mnist', root=sys.argv[1])\n"
        "before = anonymous()\n"
        "total = sum(int(data.train_x[i:i + 1000].sum()) for i in range(0, 54000, 1000))\n"
        "print(total, anonymous() - before)\n"
    )
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads memory use from /proc")
    command = [sys.executable, "-c", program, str(mnist)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [worker.communicate()[0].split() for worker in workers]
    assert len({total for total, _ in outputs}) == 1
    assert all(float(grown) < 8 for _, grown in outputs)  # MB; the training images are 42
    entries = [path for path in temporary_cache.iterdir() if path.is_dir()]
    assert len(entries) == 1  # only one process has decoded


def test_writing_to_mapped_images_changes_nobody_elses(mnist):
    datasets.load("mnist", root=str(mnist)).train_x[:] = 0
    datasets.clear_loaded()
    assert datasets.load("mnist", root=str(mnist)).train_x.any()


def test_changed_source_files_are_read_again(mnist):
    before = datasets.load("mnist", root=str(mnist)).train_x[:10].copy()
    file = mnist / "MNIST/raw/train-images-idx3-ubyte"
    content = np.fromfile(file, np.uint8)
    content[16:] = 255 - content[16:]
    content.tofile(file)
    datasets.clear_loaded()
    after = datasets.load("mnist", root=str(mnist)).train_x[:10]
    np.testing.assert_array_equal(after, 255 - before)


def test_damaged_files_are_named(mnist):
    file = mnist / "MNIST/raw/train-images-idx3-ubyte"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte is damaged: 47,040,015 bytes"):
        datasets.load("mnist", root=str(mnist))
    file.write_bytes(b"\x1f\x8b" + whole[2:])
    with pytest.raises(DatasetError, match="train-images-idx3-ubyte is damaged: it does not start"):
        datasets.load("mnist", root=str(mnist))
    file.write_bytes(b"")
    with pytest.raises(DatasetError, match="train-images-idx3-ubyte is damaged"):
        datasets.load("mnist", root=str(mnist))
    file.write_bytes(whole)
    labels = mnist / "MNIST/raw/train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[8] = (content[8] + 1) % 10
    labels.write_bytes(content)
    with pytest.raises(DatasetError, match="class sizes that are not 'mnist'"):
        datasets.load("mnist", root=str(mnist))


def test_a_damaged_cache_entry_is_named(mnist, temporary_cache):
    datasets.load("mnist", root=str(mnist))
    (file,) = temporary_cache.glob("*/train_x.npy")
    file.write_bytes(file.read_bytes()[:-10])
    datasets.clear_loaded()
    with pytest.raises(DatasetError, match=re.escape(str(file.parent))):
        datasets.load("mnist", root=str(mnist))


def test_an_interrupted_write_leaves_nothing(temporary_cache, monkeypatch):
    data = datasets.load("digits")

    def fail(path, array):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_save", fail)
    with pytest.raises(KeyboardInterrupt):
        cache.load_or_build("digits", {}, [], lambda: data)
    assert not [path for path in temporary_cache.iterdir() if path.is_dir()]


def test_missing_files_without_a_network_are_named_with_their_folder(tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    for source in IMAGES:
        with pytest.raises(DatasetError) as error:
            datasets.load(source.name, root=str(tmp_path))
        message = str(error.value)
        assert "\n" not in message
        for file in source.files(tmp_path):
            assert file.name in message
            assert str(file.parent.resolve()) in message
    with pytest.raises(DatasetError, match="LOGIT_BIAS_DATA"):
        datasets.load("mnist")


def test_class_names_are_torchvisions():
    from torchvision import datasets as source

    of_mnist_family = [data for data in IMAGES if data.class_names]
    assert len(of_mnist_family) == 6
    for data in of_mnist_family:
        theirs = list(getattr(source, data.torchvision).classes)
        if data.emnist_split:
            theirs = source.EMNIST.classes_split_dict[data.emnist_split]
        theirs = [label.partition(" - ")[0] for label in theirs if label != "N/A"]
        assert list(data.class_names) == theirs


def test_emnist_letters_stand_upright_and_start_from_a(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, per_class in (("train", 4800), ("test", 800)):
        y = np.repeat(np.arange(1, 27), per_class)
        x = np.zeros((len(y), 28, 28), np.uint8)
        x[:, 3, 20] = y  # stored with rows and columns exchanged
        write_idx(raw / f"emnist-letters-{split}-images-idx3-ubyte", x)
        write_idx(raw / f"emnist-letters-{split}-labels-idx1-ubyte", y)
    data = datasets.load("emnist-letters", root=str(tmp_path))
    assert data.class_names[0] == "a"
    np.testing.assert_array_equal(data.train_x[:, 0, 20, 3], data.train_y + 1)


def test_overview_lists_availability(mnist):
    def where(root):
        return {row.info.name: row.availability for row in datasets.overview(root)}

    assert where(None)["mnist"] == "no root"
    assert where(str(mnist))["mnist"] == "found"
    assert where(str(mnist))["cifar10"] == "missing"
    assert where(str(mnist))["digits"] == "bundled"
    assert tuple(where(None)) == datasets.names()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"val_fraction": 0}, "val_fraction = 0; allowed: above 0 to 0.5"),
        ({"val_fraction": 0.7}, "val_fraction = 0.7"),
        ({"imbalance": "longtail", "imbalance_factor": 10}, "allowed: long-tail, step"),
        ({"imbalance": "step"}, "go together"),
        ({"imbalance": "step", "imbalance_factor": 0.5}, "imbalance_factor = 0.5"),
        ({"colour": 1}, "no option 'colour'; allowed: val_fraction"),
    ],
)
def test_bad_options_are_one_clear_line(options, says):
    with pytest.raises(DatasetError, match=says):
        datasets.info("mnist", **options)


def test_embedded_sets_have_their_own_validation_set():
    with pytest.raises(DatasetError, match="own validation set"):
        datasets.info("digits", val_fraction=0.2)
    tail = datasets.load("digit-pairs", imbalance="long-tail", imbalance_factor=12)
    assert np.bincount(tail.train_y)[[0, 99]].tolist() == [120, 10]
    assert len(tail.test_y) == 4000
    assert datasets.info(
        "digit-pairs", imbalance="long-tail", imbalance_factor=12
    ).train_size == len(tail.train_y)


@needs_real
@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [  # published constants, of all training images
        ("fashion-mnist", [0.2860], [0.3530]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("cifar100", [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ],
)
def test_real_sets(name, mean, std):
    data = datasets.load(name, root=REAL)
    info = datasets.info(name)
    sizes = (info.train_size, info.val_size, info.test_size)
    assert sizes == (len(data.train_x), len(data.val_x), len(data.test_x))
    assert info.input_shape == data.input_shape
    np.testing.assert_allclose(data.mean.ravel() / 255, mean, atol=1e-3)
    np.testing.assert_allclose(data.std.ravel() / 255, std, atol=1e-3)
    assert len(set(data.class_names)) == data.classes


@needs_real
def test_cifar_images_are_what_torchvision_reads():
    from torchvision.datasets import CIFAR10

    source = CIFAR10(REAL, train=True)
    data = datasets.load("cifar10", root=REAL)
    for row in (0, 1, 20_000, 44_999):
        image, label = source[data.train_rows[row]]
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), data.train_x[row])
        assert label == data.train_y[row]


@needs_real
def test_a_damaged_cifar_file_is_named(tmp_path):
    root = tmp_path / "root"
    (root / "cifar-10-batches-py").mkdir(parents=True)
    source = datasets.get("cifar10")
    for copy, file in zip(source.files(root), source.files(Path(REAL)), strict=True):
        copy.write_bytes(file.read_bytes())
    with (root / "cifar-10-batches-py" / "data_batch_3").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\0\0\0\0\0\0\0\0")
    with pytest.raises(DatasetError, match="data_batch_3 is damaged"):
        datasets.load("cifar10", root=str(root))
