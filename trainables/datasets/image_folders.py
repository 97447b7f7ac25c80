"""Folders of images of any size: decoded in the background while training, never held in memory.

The name of the data set is the path of the folder with a slash at its end. Known layouts:

- `train/CLASS/image`, with `val/CLASS/image`, `test/CLASS/image` or both. With `val` alone (the
  layout of ImageNet) `val` is the test set, and validation is taken from training.
- `CLASS/image`: test and validation are taken from training.
- WebVision 1.0, with its lists `info/train_filelist_google.txt` and `info/val_filelist.txt`.
  WebVision-mini is its first 50 classes: `classes = 50`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache
from trainables.datasets.assemble import Examples, SourceSplits
from trainables.datasets.base import (
    Dataset,
    DatasetError,
    DatasetInfo,
    channel_statistics,
    info_of,
    shuffled,
)
from trainables.datasets.registry import DatasetSource
from trainables.datasets.splits import (
    SELECTION_OPTIONS,
    Selection,
    check_no_options,
    subsample,
    take_selection,
    take_test_fraction,
    train_val_rows,
)
from trainables.datasets.streaming import ImageFiles
from trainables.datasets.user_paths import find_path

SIZE = 224  # pixels per edge
_OPTIONS = (*SELECTION_OPTIONS, "test_fraction", "size")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_SAMPLE = 256  # training images from which normalisation constants are measured
_WEBVISION = {"train": "info/train_filelist_google.txt", "test": "info/val_filelist.txt"}


def is_image_folder(name: str) -> bool:
    """Whether the name of a data set is the path of a folder of images."""
    return name.endswith("/")


@dataclass(frozen=True)
class ImageFolder(DatasetSource):
    """A data set in a user's folder of images.

    Options: `size`, pixels per edge (224); `test_fraction`; those of `Selection`.

    Attributes:
        name: the path with a slash at its end, absolute or below the root folder.
    """

    name: str
    is_fixed = False

    def info(self, classes: int | None, root: Path | None, **options: Any) -> DatasetInfo:
        """List the folder, once per machine; see `DatasetSource.info`."""
        return info_of(self.load(classes, root, **options), "image folder")

    def load(self, classes: int | None, root: Path | None, **options: Any) -> Dataset:
        """List the folder; inputs are `ImageFiles`. See `DatasetSource.load`."""
        size = options.pop("size", SIZE)
        if not isinstance(size, int) or not 1 <= size <= 4096:
            raise DatasetError(
                f"data set {self.name!r}: size = {size!r}; allowed: 1 to 4096 pixels"
            )
        folder = find_path(self.name, root, "folder", Path.is_dir)
        lists = [path for file in _WEBVISION.values() if (path := folder / file).is_file()]
        # A folder's time changes when an image is added or removed: the key lists folders only.
        watched = lists or [d for top in _split_folders(folder).values() for d in _folders(top)]
        settings = {"classes": classes, "size": size, **options}
        listed = cache.load_or_build(
            self.name, settings, watched, lambda: self._list(folder, classes, size, dict(options))
        )
        return replace(
            listed,
            train_x=ImageFiles(folder, listed.train_x, size),
            val_x=ImageFiles(folder, listed.val_x, size),
            test_x=ImageFiles(folder, listed.test_x, size),
        )

    def _list(
        self, folder: Path, classes: int | None, size: int, options: dict[str, Any]
    ) -> Dataset:
        """The data set with paths relative to the folder instead of images."""
        is_webvision = (folder / _WEBVISION["train"]).is_file()
        source = _read_webvision(folder) if is_webvision else _read_tree(folder)
        train, val, test, names = source.train, source.val, source.test, source.class_names
        if test is None:  # the layout of ImageNet: papers test on its validation images
            val, test = None, val
        fraction = take_test_fraction(self.name, options, test is not None)
        selection = take_selection(self.name, classes, len(names), options, has_val=val is not None)
        check_no_options(self.name, options, _OPTIONS)
        if test is None:
            rows, test_rows = train_val_rows(train.y, Selection(len(names), fraction))
            train, test = train.take(rows), train.take(test_rows)
        remaining = np.bincount(train.y, minlength=len(names))
        if remaining.min() < (1 if val else 2):
            name = names[int(remaining.argmin())]
            raise DatasetError(f"{folder}: class {name!r} has too few images")
        if val is None:
            train_rows, val_rows = train_val_rows(train.y, selection)
            train, val = train.take(train_rows), train.take(val_rows)
        else:
            train = train.take(subsample(train.y, selection))
            val = val.take(subsample(val.y, selection))
        test = test.take(np.flatnonzero(test.y < selection.classes))
        sample = shuffled(np.random.default_rng(0), len(train.y))[:_SAMPLE]
        mean, std = channel_statistics(ImageFiles(folder, train.x, size)[sample])
        return Dataset(
            name=self.name,
            train_x=train.x,
            train_y=train.y,
            val_x=val.x,
            val_y=val.y,
            test_x=test.x,
            test_y=test.y,
            class_names=names[: selection.classes],
            mean=mean,
            std=std,
            licence="user-defined",
        )


def _examples(paths: list[str], labels: list[int]) -> Examples:
    # Bytes of one length instead of Python strings: a million paths are mapped, not copied.
    return Examples(np.array([os.fsencode(p) for p in paths]), np.array(labels, dtype=np.int64))


# --- Trees ----------------------------------------------------------------------------------


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder that holds the class folders of each split."""
    if (folder / "train").is_dir():
        return {
            split: folder / split for split in ("train", "val", "test") if (folder / split).is_dir()
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


def _read_tree(folder: Path) -> SourceSplits:
    tops = _split_folders(folder)
    names = tuple(path.name for path in _folders(tops["train"]))
    if len(names) < 2:
        raise DatasetError(f"{tops['train']} has {len(names)} class folders; at least 2 are needed")
    position = {name: label for label, name in enumerate(names)}
    splits = {}
    for split, top in tops.items():
        paths: list[str] = []
        labels: list[int] = []
        for class_folder in _folders(top):
            if class_folder.name not in position:
                raise DatasetError(f"{class_folder}: no class of that name in {tops['train']}")
            before = len(paths)
            relative = class_folder.relative_to(folder)
            paths += [f"{relative}/{image}" for image in _images(class_folder)]
            labels += [position[class_folder.name]] * (len(paths) - before)
            if len(paths) == before:
                raise DatasetError(f"{class_folder} holds no image")
        splits[split] = _examples(paths, labels)
    return SourceSplits(splits["train"], splits.get("val"), splits.get("test"), names)


# --- WebVision ------------------------------------------------------------------------------


def _read_webvision(folder: Path) -> SourceSplits:
    """Lists of `path label` lines; validation images are in `val_images_256` or `val_images`."""
    val_folder = next(
        (f"{d}/" for d in ("val_images_256", "val_images") if (folder / d).is_dir()), ""
    )
    splits = {
        split: _read_list(folder / file, val_folder if split == "test" else "")
        for split, file in _WEBVISION.items()
    }
    classes = int(splits["train"].y.max()) + 1
    for split, file in _WEBVISION.items():
        counts = np.bincount(splits[split].y, minlength=classes)
        if len(counts) > classes or not counts[:classes].all():
            label = classes if len(counts) > classes else int(counts.argmin())
            raise DatasetError(
                f"{folder / file}: class {label} has images in one of the two lists only"
            )
    return SourceSplits(splits["train"], None, splits["test"], tuple(map(str, range(classes))))


def _read_list(path: Path, image_folder: str) -> Examples:
    paths, labels = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        image, _, label = line.rpartition(" ")
        if not image or not label.isdecimal():
            raise DatasetError(f"{path}, line {number}: no `path label`: {line[:60]!r}")
        paths.append(image_folder + image)
        labels.append(int(label))
    if not paths:
        raise DatasetError(f"{path} is empty")
    return _examples(paths, labels)
