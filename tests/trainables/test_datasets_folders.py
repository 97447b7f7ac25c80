import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainables import datasets, noise
from trainables.datasets import DatasetError, streaming
from trainables.engine.cohort import CohortRun
from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train
from trainables.noise import NoiseError


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)


def draw(path, label, number, width=24, height=16):
    """A plain JPEG whose colour encodes its class and number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (label % 8 * 30, label // 8 % 8 * 30, number * 30)
    Image.new("RGB", (width, height), colour).save(path, quality=95)


def tree(root, classes, per_class):
    """`root/split/class/image`; `per_class` is the number of images per class of each split."""
    for split, count in per_class.items():
        for label in range(classes):
            for number in range(count):
                draw(root / split / f"c{label:04d}" / f"{number}.jpg", label, number)
    return f"{root}/"


def colours(x):
    return np.round(x.mean(axis=(2, 3)) / 30).astype(int)


def test_a_folder_of_1000_classes(tmp_path):
    name = tree(tmp_path / "many", 1000, {"train": 3, "val": 1})
    info = datasets.info(name, size=8)
    assert (info.classes, info.input_shape) == (1000, (3, 8, 8))
    assert (info.train_size, info.val_size, info.test_size) == (2000, 1000, 1000)
    data = datasets.load(name, size=8)
    assert data.class_names[7] == "c0007"
    made = noise.apply(data, "symmetric", 0.4, 0)
    assert made.train.rate == pytest.approx(0.4, abs=0.05)

    order = np.random.default_rng(0).permutation(2000)
    with data.train_x.stream(np.array_split(order, 20)) as stream:
        seen = np.concatenate(list(stream))
    assert seen.dtype == np.uint8
    assert seen.shape == (2000, 3, 8, 8)
    labels = data.train_y[order]
    np.testing.assert_array_equal(colours(seen)[:, 0], labels % 8)
    np.testing.assert_array_equal(colours(seen)[:, 1], labels // 8 % 8)
    normalised = data.normalise(seen)
    assert np.abs(normalised.mean(axis=(0, 2, 3))).max() < 0.2

    few = datasets.load(name, size=8, classes=50)
    assert few.classes == 50
    assert set(few.train_y.tolist()) == set(range(50))


def test_layouts(tmp_path):
    name = tree(tmp_path / "all", 3, {"train": 4, "val": 2, "test": 1})
    data = datasets.load(name, size=4)
    assert [len(data.train_y), len(data.val_y), len(data.test_y)] == [12, 6, 3]
    with pytest.raises(DatasetError, match="own validation set"):
        datasets.load(name, size=4, val_fraction=0.2)

    name = tree(tmp_path / "flat", 3, {".": 10})
    data = datasets.load(name, size=4)
    assert [len(data.train_y), len(data.val_y), len(data.test_y)] == [21, 3, 6]
    paths = [
        bytes(p) for split in ("train", "val", "test") for p in getattr(data, f"{split}_x").paths
    ]
    assert len(set(paths)) == 30

    assert datasets.load("flat/", root=str(tmp_path), size=4).classes == 3
    with pytest.raises(DatasetError, match=r"no folder .*absent"):
        datasets.load("absent/", root=str(tmp_path))


def webvision(root, train, val):
    for label in range(60):
        draw(root / "google" / f"q{label:04d}" / "a b.jpg", label, 0)
        draw(root / "google" / f"q{label:04d}" / "two.jpg", label, 1)
        draw(root / "val_images_256" / f"val{label:06d}.jpg", label, 2)
    (root / "info").mkdir()
    (root / "info" / "train_filelist_google.txt").write_text(train)
    (root / "info" / "val_filelist.txt").write_text(val)
    return f"{root}/"


def test_webvision_mini_is_its_first_50_classes(tmp_path):
    train = "".join(f"google/q{k:04d}/{f}.jpg {k}\n" for k in range(60) for f in ("a b", "two"))
    val = "".join(f"val{k:06d}.jpg {k}\n" for k in range(60))
    data = datasets.load(webvision(tmp_path / "w", train, val), classes=50, size=4)
    assert data.classes == 50
    assert [len(data.train_y), len(data.val_y), len(data.test_y)] == [50, 50, 50]
    np.testing.assert_array_equal(colours(data.test_x[:])[:, 0], data.test_y % 8)
    assert set(colours(data.test_x[:])[:, 2]) == {2}
    (tmp_path / "w/info/val_filelist.txt").write_text(val.replace("val000007.jpg 7\n", ""))
    with pytest.raises(DatasetError, match=r"val_filelist.txt: class 7 has images in one"):
        datasets.load(f"{tmp_path}/w/", size=4)
    (tmp_path / "w/info/val_filelist.txt").write_text(
        val.replace("val000007.jpg 7", "val000007.jpg")
    )
    with pytest.raises(DatasetError, match=r"val_filelist.txt, line 8: no `path label`"):
        datasets.load(f"{tmp_path}/w/", size=4)


def test_decoding_keeps_the_centre_and_random_crops_follow_seed_and_row(tmp_path):
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, :20], stripes[:, 60:] = 200, 100  # left and right of the centre
    stripes[:, 20:60, 1] = 150
    Image.fromarray(stripes).save(tmp_path / "s.png")
    centre = streaming.decode(tmp_path / "s.png", 20)
    np.testing.assert_allclose(
        centre[:, :, 1:-1], np.array([0, 150, 0])[:, None, None] + 0 * centre[:, :, 1:-1]
    )

    noisy = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    for k in range(12):
        Image.fromarray(noisy).save(tmp_path / f"{k}.png")
    files = streaming.ImageFiles(tmp_path, np.array([f"{k}.png".encode() for k in range(12)]), 20)

    def crops(seed, batches, threads):
        with streaming.Stream(files, batches, seed, threads) as stream:
            return np.concatenate(list(stream))

    whole = crops(5, [np.arange(12)], 1)
    np.testing.assert_array_equal(crops(5, np.array_split(np.arange(12), 5), 4), whole)
    np.testing.assert_array_equal(crops(5, [np.arange(12)[::-1]], 3)[::-1], whole)
    assert (crops(6, [np.arange(12)], 1) != whole).any()
    assert len(np.unique(whole, axis=0)) == 12


def test_waiting_is_measured_and_small_where_the_device_is_slower(tmp_path):
    name = tree(tmp_path / "t", 4, {"train": 20, "val": 1})
    data = datasets.load(name, size=16)
    batches = [np.arange(8)] * 30
    with data.train_x.stream(batches) as slow_device:
        for _ in slow_device:
            time.sleep(0.03)
    with data.train_x.stream(batches) as idle_device:
        for _ in idle_device:
            pass
    assert slow_device.stall_share < 0.5
    assert idle_device.stall_share > slow_device.stall_share


def test_memory_does_not_grow_with_the_folder(tmp_path):
    name = tree(tmp_path / "t", 2, {"train": 40, "val": 1})
    data = datasets.load(name, size=224)
    requested = []

    def rows():
        for k in range(200):  # 200 batches of 64 are 1.9 GB
            requested.append(k)
            yield np.arange(64)

    with data.train_x.stream(rows()) as stream:
        for k, batch in enumerate(stream):
            assert batch.shape == (64, 3, 224, 224)
            assert len(requested) <= k + 6  # decoded ahead: four batches and the one in use
            if k == 5:
                break


@pytest.mark.parametrize("damage", ["truncated", "text", "missing"])
def test_a_damaged_image_is_named(tmp_path, damage):
    name = tree(tmp_path / "t", 2, {"train": 6, "val": 1})
    data = datasets.load(name, size=8)
    path = data.train_x.folder / os.fsdecode(data.train_x.paths[3])
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-200] if damage == "truncated" else b"<html>404</html>")
    with data.train_x.stream([np.arange(3), np.arange(3, 6)]) as stream:
        batches = iter(stream)
        next(batches)
        with pytest.raises(DatasetError, match=r"\d.jpg is damaged or no image") as error:
            next(batches)
    assert str(path) in str(error.value)


def test_bad_trees_name_the_folder(tmp_path):
    tree(tmp_path / "t", 3, {"train": 4, "val": 1})
    empty = tmp_path / "t/train/c0003"
    empty.mkdir()
    with pytest.raises(DatasetError, match=r"t/train/c0003 holds no image"):
        datasets.load(f"{tmp_path}/t/")
    empty.rmdir()
    (tmp_path / "t/val/zebra").mkdir()
    with pytest.raises(DatasetError, match=r"t/val/zebra: no class of that name in"):
        datasets.load(f"{tmp_path}/t/")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match=r"none has 0 class folders; at least 2"):
        datasets.load(f"{tmp_path}/none/")
    tree(tmp_path / "one", 2, {"train": 1, "val": 1})
    with pytest.raises(DatasetError, match=r"one: class 'c0000' has 1 examples, too few to"):
        datasets.load(f"{tmp_path}/one/")
    with pytest.raises(DatasetError, match=r"size = 0; allowed: 1 to 4096"):
        datasets.load(f"{tmp_path}/one/", size=0)


def test_an_added_file_is_noticed(tmp_path):
    name = tree(tmp_path / "t", 2, {"train": 4, "test": 1})
    before = datasets.info(name, size=4).train_size
    time.sleep(0.01)
    draw(tmp_path / "t/train/c0001/new.jpg", 1, 5)
    assert datasets.info(name, size=4).train_size == before + 1


def test_noise_from_features_needs_arrays(tmp_path):
    data = datasets.load(tree(tmp_path / "t", 2, {"train": 4, "test": 1}), size=4)
    with pytest.raises(NoiseError, match="'pdn' needs a data set in memory"):
        noise.apply(data, "pdn", 0.4, 0)


def test_images_are_decoded_for_one_order_at_a_time(tmp_path, monkeypatch):
    name = tree(tmp_path / "few", 4, {"train": 6, "val": 2})
    members = [
        Member(f"n{i}", "ce", lr=0.1, init_seed=i, order_seed=i // 2, noise_rate=0.2)
        for i in range(4)
    ]
    spec = CohortSpec(
        DataSpec(name, options={"size": 8}),
        ModelSpec("mlp", {"width": 8}),
        Recipe(epochs=2, batch_size=5),
        members,
    )
    sizes = []
    original = CohortRun.train_epoch
    monkeypatch.setattr(
        CohortRun, "train_epoch", lambda run: (sizes.append(len(run.members)), original(run))
    )
    together = train(spec)
    assert sizes == [2, 2, 2, 2]
    for member, result in zip(members, together, strict=True):
        (alone,) = train(replace(spec, members=[member]))
        assert result.network_id == member.network_id
        assert [e.train_loss for e in result.epochs] == [e.train_loss for e in alone.epochs]
