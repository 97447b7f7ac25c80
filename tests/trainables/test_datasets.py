import hashlib
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainables import datasets
from trainables.datasets import DatasetError, UnknownDatasetError
from trainables.datasets.base import channel_statistics
from trainables.datasets.named.digits import SOURCE_COUNTS, source_pools

EMBEDDED = ("digits", "digit-pairs", "digit-triples")
GOLDEN = {
    "digits": "717a2e3902b8328e24a291ba626c1c42ba3c80328c1666ddbeca80c95e9d9646",
    "digit-pairs": "ecbccdcab27f465976fb47d756dd6bc8222e50b6a508c2bf921fda3cf3d9aae5",
    "digit-triples": "920e202dc0b54d282982192d8617ae8ba886b3e3d3ac5150b46b274e9b319ed5",
}


def sha256(dataset):
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for array in (getattr(dataset, f"{split}_x"), getattr(dataset, f"{split}_y")):
            digest.update(f"{array.shape}{array.dtype.str}".encode() + array.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_same_bytes_on_every_machine(name):
    assert sha256(datasets.load(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", EMBEDDED)
def test_info_equals_what_is_loaded(name):
    for classes in (None, 7):
        info, loaded = datasets.info(name, classes=classes), datasets.load(name, classes=classes)
        assert (info.classes, info.input_shape) == (loaded.classes, loaded.input_shape)
        sizes = (info.train_size, info.val_size, info.test_size)
        assert sizes == (len(loaded.train_x), len(loaded.val_x), len(loaded.test_x))
        for y in (loaded.train_y, loaded.val_y, loaded.test_y):
            assert y.dtype == np.int64
            assert set(y.tolist()) == set(range(loaded.classes))
        assert loaded.train_x.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "per_class"), [("digit-pairs", (120, 20, 40)), ("digit-triples", (20, 5, 5))]
)
def test_numbers_are_balanced_and_none_occurs_twice(name, per_class):
    data = datasets.load(name)
    for count, split in zip(per_class, ("train", "val", "test"), strict=True):
        assert set(np.bincount(getattr(data, f"{split}_y")).tolist()) == {count}
        x = getattr(data, f"{split}_x")
        assert len(np.unique(x.reshape(len(x), -1), axis=0)) == len(x)


@pytest.mark.parametrize("name", EMBEDDED)
def test_no_held_out_digit_is_in_training_and_digits_stand_as_in_the_label(name):
    source = load_digits()
    key = np.round(source.images * (255 / 16)).astype(np.uint8).reshape(-1, 64)
    label_of = {image.tobytes(): int(t) for image, t in zip(key, source.target, strict=True)}
    assert len(label_of) == 1797  # so a digit's pixels are its identity

    data = datasets.load(name)
    seen = {}
    for split in ("train", "val", "test"):
        x, y = getattr(data, f"{split}_x"), getattr(data, f"{split}_y")
        figures = x.shape[-1] // 8
        tiles = x.reshape(len(x), 8, figures, 8).transpose(0, 2, 1, 3).reshape(len(x), figures, 64)
        written = [[label_of[t.tobytes()] for t in row] for row in tiles]
        value = np.array(written) @ (10 ** np.arange(figures)[::-1])
        np.testing.assert_array_equal(value, y)
        seen[split] = {t.tobytes() for row in tiles for t in row}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_the_source_split_is_stratified():
    pools = source_pools()
    assert tuple(np.bincount(load_digits().target)) == SOURCE_COUNTS
    assert {len(pool) for split in ("val", "test") for pool in pools[split]} == {30}
    assert sum(len(pool) for pool in pools["train"]) == 1197


def test_normalised_training_images_have_mean_0_and_std_1():
    data = datasets.load("digit-pairs")
    x = data.normalise(data.train_x)
    assert x.dtype == np.float32
    assert abs(x.mean()) < 1e-4
    assert abs(x.std() - 1) < 1e-4


def test_keeping_classes_takes_the_first_and_changes_no_example():
    whole, first = datasets.load("digit-pairs"), datasets.load("digit-pairs", classes=12)
    assert first.class_names == whole.class_names[:12]

    def rows(data, keep):
        return sorted(
            (y, x.tobytes()) for x, y in zip(data.train_x, data.train_y, strict=True) if y < keep
        )

    assert rows(first, 12) == rows(whole, 12)
    assert len(first.train_y) == 12 * 120


def test_loaded_once_in_a_process():
    assert datasets.load("digits", classes=10) is datasets.load("digits")


@pytest.mark.parametrize("classes", [1, 0, -3, 11, True, 2.5])
@pytest.mark.parametrize("function", [datasets.info, datasets.load])
def test_a_bad_class_count_is_one_clear_line(function, classes):
    with pytest.raises(DatasetError, match="digits") as error:
        function("digits", classes=classes)
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownDatasetError, match=r"digit-triples.*; did you mean digit-pairs\?"):
        datasets.load("digit-pair")


def test_importing_is_cheap():
    heavy = "sklearn", "torch", "torchvision", "ray", "pandas", "scipy"
    program = (
        "import sys, trainables.datasets, trainables.noise;"
        "trainables.datasets.info('digits'); trainables.datasets.overview('.');"
        "trainables.noise.transition_matrix('symmetric', 10, 0.4);"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


@dataclass(frozen=True)
class Stripes(datasets.DatasetSource):
    """Two classes of 4 × 4 images: horizontal and vertical stripes."""

    name: str = "stripes"

    def info(self, classes, root, **options):
        return datasets.DatasetInfo("stripes", 2, (1, 4, 4), 6, 4, 2, "none", "stripes")

    def load(self, classes, root, **options):
        rows = np.tile(np.array([0, 255], np.uint8)[:, None], (2, 4))
        pair = np.stack([rows, rows.T])[:, None]
        arrays = {}
        for split, n in (("train", 3), ("val", 2), ("test", 1)):
            arrays |= {f"{split}_x": np.tile(pair, (n, 1, 1, 1)), f"{split}_y": np.tile([0, 1], n)}
        mean, std = channel_statistics(pair)
        return datasets.Dataset(
            name="stripes",
            class_names=("horizontal", "vertical"),
            mean=mean,
            std=std,
            licence="none",
            **arrays,
        )


def test_a_new_data_set_needs_only_its_registration():
    with datasets.registered(Stripes()):
        assert "stripes" in datasets.names()
        assert datasets.load("stripes").train_x.shape == (6, 1, 4, 4)
        assert datasets.load("stripes") is datasets.load("stripes")
        assert datasets.info("stripes").train_size == 6
        (row,) = [row for row in datasets.overview(None) if row.info.name == "stripes"]
        assert row.availability == "bundled"
        with pytest.raises(ValueError, match="the name is taken"):
            datasets.register(Stripes())
    datasets.clear_loaded()
    with pytest.raises(UnknownDatasetError):
        datasets.load("stripes")
