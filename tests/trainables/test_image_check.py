"""Image files that people have: deep, damaged, of other kinds, in folders from an archive."""

import os
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainables import datasets
from trainables.datasets import DatasetError, DatasetWarning, streaming
from trainables.datasets.pixel_levels import Levels


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.clear_loaded()


def folder(root, suffix=".png", per_class=10, image=None):
    """Two classes of `per_class` images; the i-th image is `image(i)`, by default random."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8) if image is None else image(i)
            Image.fromarray(pixels).save(root / name / f"{i}{suffix}")
    return f"{root}/"


def total(data):
    return len(data.train_y) + len(data.val_y) + len(data.test_y)


def greys(data):
    """{number of the image: value of its first pixel}; all pixels of an image are equal."""
    found = {}
    for files in (data.train_x, data.val_x, data.test_x):
        for path, image in zip(files.paths.tolist(), files[:], strict=True):
            assert image.min() == image.max()
            found.setdefault(int(os.path.splitext(os.path.basename(path))[0]), image.flat[0])
    return [int(found[number]) for number in sorted(found)]


def ramp(high, dtype):
    return lambda i: np.full((9, 9), high * i / 9, dtype=np.float64).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "image", "options"),
    [
        (".png", ramp(65535, np.uint16), {}),
        (".tif", ramp(65535, np.uint16), {}),
        (".tif", ramp(1, np.float32), {}),
        (".tif", ramp(4095, np.uint16), {"white": 4095}),
        (".tif", ramp(10**6, np.int32), {"white": 10**6}),
        (".tif", lambda i: ramp(200, np.float32)(i) - 100, {"black": -100, "white": 100}),
    ],
)
def test_a_ramp_of_deep_images_becomes_a_ramp_of_8_bits(tmp_path, suffix, image, options):
    data = datasets.load(folder(tmp_path / "deep", suffix, image=image), size=4, **options)
    np.testing.assert_allclose(greys(data), 255 * np.arange(10) / 9, atol=1)
    assert data.notes == ()
    assert data.normalise(data.train_x[:]).std() == pytest.approx(1, abs=0.1)


def test_colour_images_of_16_bits_keep_the_upper_8(tmp_path):
    values = np.linspace(0, 65535, 16 * 16 * 3).astype(">u2").reshape(16, 16, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))
    decoded = streaming.decode(tmp_path / "x.png", 16)
    np.testing.assert_array_equal(decoded, (values >> 8).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (ramp(10**6, np.int32), r"32-bit image.* 0 to 1e\+06; .*`black: 0` and `white: 1e\+06`"),
        (ramp(255, np.float32), r"floating-point .* 0 to 255; .*`black: 0` and `white: 255`"),
        (
            lambda i: ramp(1, np.float32)(i) / (i != 3),
            r"20 .* cannot be used: left/3.tif \(a pixel",
        ),
    ],
)
def test_deep_images_without_a_usual_white_are_refused(tmp_path, image, says):
    with np.errstate(all="ignore"):
        name = folder(tmp_path / "deep", ".tif", image=image)
    with pytest.raises(DatasetError, match=says) as error:
        datasets.load(name, size=4)
    assert "\n" not in str(error.value)


def test_a_range_that_is_hardly_used_is_said(tmp_path):
    name = folder(tmp_path / "deep", image=ramp(4095, np.uint16))
    with pytest.warns(
        DatasetWarning, match=r"20 images have 16 bits, .* above 4095: `white: 4095`"
    ):
        datasets.load(name, size=4)
    with warnings.catch_warnings():  # each note is shown once per process
        warnings.simplefilter("error")
        assert len(datasets.load(name, size=4).notes) == 1
    plain = folder(tmp_path / "plain")
    for options, says in (
        ({"white": 255}, "no image has more than 8 bits"),
        ({"white": 0}, "white = 0; allowed: above black = 0"),
        ({"black": "x"}, "black = 'x'; allowed: a number"),
    ):
        with pytest.raises(DatasetError, match=says):
            datasets.load(plain, size=4, **options)


@given(st.integers(0, 65534), st.integers(1, 65535), st.integers(0, 65535))
@settings(deadline=None, max_examples=50)
def test_levels_map_black_to_0_and_white_to_255_and_keep_the_order(black, span, value):
    image = Image.fromarray(np.array([[black, black + span, value]], dtype=np.int32))
    low, high, other = np.asarray(Levels(black, black + span).to_8_bits(image))[0].astype(int)
    assert (low, high) == (0, 255)
    assert abs(other - 255 * np.clip((value - black) / span, 0, 1)) <= 0.5 + 1e-9


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "CMYK"])
def test_pixels_of_8_bit_images_are_pillows(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.fromarray(noise).convert(mode).save(path)
    with Image.open(path) as image:
        rgb = image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR, box=(0, 5, 20, 25))
    expected = np.asarray(rgb).transpose(2, 0, 1)
    np.testing.assert_array_equal(streaming.decode(path, 8), expected)


@pytest.mark.filterwarnings("ignore::trainables.datasets.DatasetWarning")
def test_every_bad_file_is_named_before_training_or_skipped_and_counted(tmp_path):
    name = folder(tmp_path / "t", ".jpg")
    good = (tmp_path / "t/left/1.jpg").read_bytes()
    (tmp_path / "t/left/zz.jpg").touch()
    (tmp_path / "t/right/cut.jpg").write_bytes(good[: len(good) // 2])
    (tmp_path / "t/right/page.png").write_bytes(b"<html>404</html>")
    for suffix in (".png", ".gif", ".webp", ".bmp", ".tif", ".ppm"):
        path = tmp_path / f"t/left/cut{suffix}"
        Image.fromarray(np.full((40, 40, 3), 7, np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"t: 9 of 29 image files cannot be used") as error:
        datasets.info(name, size=4)
    line = str(error.value)
    assert "\n" not in line
    assert "left/zz.jpg (empty)" in line
    assert "right/page.png (no image that Pillow reads)" in line
    assert all(f"left/cut{s} (" in line for s in (".png", ".gif", ".webp", ".bmp", ".tif", ".ppm"))
    assert "`bad_files: skip`" in line

    data = datasets.load(name, size=4, bad_files="skip")
    assert (total(data), data.skipped_files) == (20, 9)
    assert datasets.info(name, size=4, bad_files="skip").skipped_files == 9
    assert data.notes[0].startswith("9 of 29 image files are left out: left/cut.")
    assert "and 4 more: " in data.notes[0]
    with open(data.notes[0].rpartition("more: ")[2]) as stream:
        assert len(stream.readlines()) == 9
    with pytest.raises(DatasetError, match="bad_files = 'drop'; allowed: refuse, skip"):
        datasets.load(name, size=4, bad_files="drop")


@pytest.mark.filterwarnings("ignore::trainables.datasets.DatasetWarning")
def test_a_repaired_file_is_looked_at_again_and_the_others_are_not(tmp_path, monkeypatch):
    name = folder(tmp_path / "t", ".jpg")
    broken = tmp_path / "t/left/3.jpg"
    good = broken.read_bytes()
    broken.write_bytes(good[:100])
    assert datasets.load(name, size=4, bad_files="skip").skipped_files == 1
    looked_at = []
    original = Image.open

    def recorded(file, *arguments):
        looked_at.append(os.path.relpath(getattr(file, "name", file), tmp_path / "t"))
        return original(file, *arguments)

    monkeypatch.setattr(Image, "open", recorded)
    broken.write_bytes(good)  # in place: the folder's time does not change
    data = checked_alone(name)
    assert (total(data), data.skipped_files) == (20, 0)
    assert looked_at == ["left/3.jpg"]
    looked_at.clear()
    checked_alone(name, test_fraction=0.3)  # another selection of the same files
    assert looked_at == []
    broken.write_bytes(bytes(len(good)))  # of the same size
    assert checked_alone(name, test_fraction=0.25).skipped_files == 1
    assert looked_at == ["left/3.jpg"]


def checked_alone(name, **options):
    """Loads without decoding images for the normalisation constants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            streaming.ImageFiles, "__getitem__", lambda self, rows: np.zeros((1, 3, 4, 4), np.uint8)
        )
        return datasets.load(name, size=4, bad_files="skip", **options)


def test_damage_inside_a_file_is_found_on_request(tmp_path):
    name = folder(tmp_path / "t")
    path = tmp_path / "t/right/5.png"
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)  # its end is there
    path.write_bytes(content)
    assert datasets.info(name, size=4).skipped_files == 0
    with pytest.raises(DatasetError, match=r"1 of 20 image files .*: right/5.png \("):
        datasets.info(name, size=4, check="pixels")


def test_files_of_classes_that_are_not_kept_may_be_absent(tmp_path):
    name = folder(tmp_path / "t")
    (tmp_path / "t/zebra").mkdir()
    for i in range(4):
        (tmp_path / f"t/zebra/{i}.png").touch()
    assert total(datasets.load(name, size=4, classes=2)) == 20
    with pytest.raises(DatasetError, match="4 of 24 image files"):
        datasets.load(name, size=4)


def test_what_archives_and_systems_add_is_no_class_and_no_image(tmp_path):
    name = folder(tmp_path / "t")
    for hidden in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git", "left/.thumbnails"):
        (tmp_path / "t" / hidden).mkdir()
    for file in ("__MACOSX/._0.png", "left/._1.png", "left/.DS_Store", "right/Thumbs.db"):
        (tmp_path / "t" / file).write_bytes(b"\0")
    data = datasets.load(name, size=4)
    assert data.class_names == ("left", "right")
    assert (total(data), data.notes) == (20, ())
    other = folder(tmp_path / "split/train")
    assert other
    folder(tmp_path / "split/val", per_class=2)
    (tmp_path / "split/val/.cache").mkdir()
    assert len(datasets.load(f"{tmp_path}/split/", size=4).test_y) == 4


def test_other_kinds_are_read_or_counted(tmp_path):
    name = folder(tmp_path / "t")
    kinds = (".gif", ".jfif", ".pgm", ".tga", ".jp2", ".PNG", ".dib")
    for k, suffix in enumerate(kinds):
        grey = np.full((9, 9), 10 * k, np.uint8)
        format_of = {".jfif": "JPEG", ".dib": "DIB"}.get(suffix)
        Image.fromarray(grey).save(tmp_path / f"t/left/more{k}{suffix}", format=format_of)
    frames = [Image.fromarray(np.full((9, 9), v, np.uint8)) for v in (40, 200)]
    frames[0].save(tmp_path / "t/right/moving.gif", save_all=True, append_images=frames[1:])
    data = datasets.load(name, size=4)
    assert (total(data), data.notes) == (20 + len(kinds) + 1, ())
    first = streaming.decode(tmp_path / "t/right/moving.gif", 4)
    np.testing.assert_array_equal(first, np.full((3, 4, 4), 40))

    time.sleep(0.01)
    for file in ("left/a.heic", "left/b.HEIC", "right/notes.txt", "right/README"):
        (tmp_path / "t" / file).write_bytes(b"x")
    (tmp_path / "t/left/deeper").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "t/unsorted.png")
    with pytest.warns(DatasetWarning):
        notes = datasets.load(name, size=4).notes
    assert notes[0].startswith("files left out: 2 .heic, 1 .txt, 1 without suffix; kinds that are")
    assert notes[1:] == (
        "folders inside class folders are left out: 1",
        "images outside class folders are left out: 1",
    )
    folder(tmp_path / "s/train")
    folder(tmp_path / "s/valid")
    notes = datasets.info(f"{tmp_path}/s/", size=4).notes
    assert notes == ("folders left out: valid/; allowed: train/, val/, test/",)
