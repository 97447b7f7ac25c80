"""Folders of images of any size: decoded in the background while training, never held in memory.

A folder is named with a slash at its end. Known layouts:

- `train/CLASS/image`, with `val/CLASS/image`, `test/CLASS/image` or both. With `val` alone (as
  ImageNet is laid out) `val` is the test set, and validation is carved out of training.
- `CLASS/image`: test and validation are carved out.
- WebVision 1.0, by its lists `info/train_filelist_google.txt` and `info/val_filelist.txt`.
  WebVision-mini is its first 50 classes: `classes = 50`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache
from trainables.datasets.assemble import SPLIT_OPTIONS, Part
from trainables.datasets.base import (
    Dataset,
    DatasetError,
    DatasetInfo,
    channel_statistics,
    shuffled,
)
from trainables.datasets.splits import Selection, check_options, selection, split, subsample
from trainables.datasets.streaming import ImageFiles

SIZE = 224  # pixels of an image's edge
OPTIONS = (*SPLIT_OPTIONS, "test_fraction", "size")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_SAMPLE = 256  # training images from which normalisation constants are measured
_WEBVISION = ("info/train_filelist_google.txt", "info/val_filelist.txt")


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder of images."""
    return name.endswith("/")


def info(
    name: str, classes: int | None = None, root: Path | None = None, **options: Any
) -> DatasetInfo:
    """Sizes of a data set; its folder is listed, once a machine."""
    data = load(name, classes, root, **options)
    sizes = (len(data.train_y), len(data.val_y), len(data.test_y))
    return DatasetInfo(name, data.classes, data.input_shape, *sizes, data.licence, "own folder")


def load(name: str, classes: int | None, root: Path | None, **options: Any) -> Dataset:
    """List a folder; its inputs are `ImageFiles`. See `trainables.datasets.load`."""
    size = options.pop("size", SIZE)
    if not isinstance(size, int) or not 1 <= size <= 4096:
        raise DatasetError(f"data set {name!r}: size = {size!r}; allowed: 1 to 4096 pixels")
    folder = _find(name, root)
    lists = [folder / file for file in _WEBVISION if (folder / file).is_file()]
    # Adding or taking away a file changes its folder's time, so folders stand for their content.
    watched = lists or [d for top in _tops(folder).values() for d in _folders(top)]
    settings = {"classes": classes, "size": size, **options}
    listed = cache.load_or_build(
        name, settings, watched, lambda: _list(name, folder, classes, size, dict(options))
    )
    return replace(
        listed,
        train_x=ImageFiles(folder, listed.train_x, size),
        val_x=ImageFiles(folder, listed.val_x, size),
        test_x=ImageFiles(folder, listed.test_x, size),
    )


def _find(name: str, root: Path | None) -> Path:
    tried = [folder / Path(name).expanduser() for folder in (root or Path(), Path())]
    for path in tried:
        if path.is_dir():
            return path
    raise DatasetError(f"no folder {' or '.join(dict.fromkeys(str(p.absolute()) for p in tried))}")


def _list(
    name: str, folder: Path, classes: int | None, size: int, options: dict[str, Any]
) -> Dataset:
    """The data set with paths, relative to the folder, in the place of images."""
    fraction = options.pop("test_fraction", None)
    if (folder / _WEBVISION[0]).is_file():
        names, parts = _read_webvision(folder)
    else:
        names, parts = _read_tree(folder)
    val, test = parts.get("val"), parts.get("test")
    if test is None:  # ImageNet's layout: what it calls validation is what papers test on
        val, test = None, val
    chosen = selection(name, classes, len(names), options, own_val=val is not None)
    check_options(name, options, OPTIONS)
    if fraction is not None and test is not None:
        raise DatasetError(f"data set {name!r} has its own test set: no test_fraction")
    fraction = 0.2 if fraction is None else fraction
    if not (isinstance(fraction, float) and 0 < fraction <= 0.5):
        raise DatasetError(
            f"data set {name!r}: test_fraction = {fraction}; allowed: above 0 to 0.5"
        )
    train = parts["train"]
    if test is None:
        rest, held = split(train.y, Selection(len(names), fraction))
        train, test = train.take(rest), train.take(held)
    left = np.bincount(train.y, minlength=len(names))
    if left.min() < (1 if val else 2):
        raise DatasetError(f"{folder}: class {names[int(left.argmin())]!r} has too few images")
    if val is None:
        train_rows, val_rows = split(train.y, chosen)
        train, val = train.take(train_rows), train.take(val_rows)
    else:
        train = train.take(subsample(train.y, chosen))
        val = val.take(subsample(val.y, chosen))
    test = test.take(np.flatnonzero(test.y < chosen.classes))
    sample = shuffled(np.random.default_rng(0), len(train.y))[:_SAMPLE]
    mean, std = channel_statistics(ImageFiles(folder, train.x, size)[sample])
    return Dataset(
        name=name,
        train_x=train.x,
        train_y=train.y,
        val_x=val.x,
        val_y=val.y,
        test_x=test.x,
        test_y=test.y,
        class_names=names[: chosen.classes],
        mean=mean,
        std=std,
        licence="one's own",
    )


def _part(paths: list[str], labels: list[int]) -> Part:
    # Bytes of one length rather than Python strings: a million paths are mapped, not copied.
    return Part(np.array([os.fsencode(p) for p in paths]), np.array(labels, dtype=np.int64))


# --- trees ----------------------------------------------------------------------------------


def _tops(folder: Path) -> dict[str, Path]:
    """The folder that holds the class folders of each part."""
    if (folder / "train").is_dir():
        return {
            part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()
        }
    return {"train": folder}


def _folders(top: Path) -> list[Path]:
    """Class folders, in the order of their names."""
    with os.scandir(top) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def _images(folder: Path) -> Iterator[str]:
    """Names of the images in a folder."""
    with os.scandir(folder) as entries:
        yield from sorted(e.name for e in entries if e.name.lower().endswith(_SUFFIXES))


def _read_tree(folder: Path) -> tuple[tuple[str, ...], dict[str, Part]]:
    tops = _tops(folder)
    names = tuple(path.name for path in _folders(tops["train"]))
    if len(names) < 2:
        raise DatasetError(f"{tops['train']} has {len(names)} class folders; at least 2 are needed")
    position = {name: label for label, name in enumerate(names)}
    parts = {}
    for part, top in tops.items():
        paths: list[str] = []
        labels: list[int] = []
        for of_class in _folders(top):
            if of_class.name not in position:
                raise DatasetError(f"{of_class}: no class of that name in {tops['train']}")
            before = len(paths)
            relative = of_class.relative_to(folder)
            paths += [f"{relative}/{image}" for image in _images(of_class)]
            labels += [position[of_class.name]] * (len(paths) - before)
            if len(paths) == before:
                raise DatasetError(f"{of_class} holds no image")
        parts[part] = _part(paths, labels)
    return names, parts


# --- WebVision ------------------------------------------------------------------------------


def _read_webvision(folder: Path) -> tuple[tuple[str, ...], dict[str, Part]]:
    """Lists of `path label` lines; validation images lie in `val_images_256` or `val_images`."""
    parts = {}
    for part, file in zip(("train", "test"), _WEBVISION, strict=True):
        below = ""
        if part == "test":
            below = next(
                (f"{d}/" for d in ("val_images_256", "val_images") if (folder / d).is_dir()), ""
            )
        paths, labels = [], []
        try:
            lines = (folder / file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{folder / file} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            path, _, label = line.rpartition(" ")
            if not path or not label.isdecimal():
                raise DatasetError(
                    f"{folder / file}, line {number}: no `path label`: {line[:60]!r}"
                )
            paths.append(below + path)
            labels.append(int(label))
        if not paths:
            raise DatasetError(f"{folder / file} is empty")
        parts[part] = _part(paths, labels)
    classes = int(parts["train"].y.max()) + 1
    for part, file in zip(parts, _WEBVISION, strict=True):
        counts = np.bincount(parts[part].y, minlength=classes)
        if len(counts) > classes or not counts[:classes].all():
            odd = classes if len(counts) > classes else int(counts.argmin())
            raise DatasetError(
                f"{folder / file}: class {odd} has images in one of the two lists only"
            )
    return tuple(map(str, range(classes))), parts
