"""Folders of images of any size: decoded in the background while training, never held in memory.

The name of the data set is the path of the folder with a slash at its end. Known layouts:

- `train/CLASS/image`, with `val/CLASS/image`, `test/CLASS/image` or both. With `val` alone (the
  layout of ImageNet) `val` is the test set, and validation is taken from training.
- `CLASS/image`: test and validation are taken from training.
- WebVision 1.0, with its lists `info/train_filelist_google.txt` and `info/val_filelist.txt`.
  WebVision-mini is its first 50 classes: `classes = 50`.

Hidden files and folders, and those that archives and file managers add (`__MACOSX`), are ignored.
Everything else that is not read is counted in the notes of the data set.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache, image_check
from trainables.datasets.assemble import Examples, SourceSplits
from trainables.datasets.base import (
    Dataset,
    DatasetError,
    DatasetInfo,
    channel_statistics,
    check_class_count,
    info_of,
    shuffled,
)
from trainables.datasets.pixel_levels import Levels
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
_OPTIONS = (*SELECTION_OPTIONS, "test_fraction", "size", "bad_files", "check", "black", "white")
_CHOICES = {"bad_files": ("refuse", "skip"), "check": ("ends", "pixels")}  # the defaults first
_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga"),
)
# Made by archives, file managers and operating systems, beside hidden files.
_IGNORED = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information",
            "lost+found", "thumbs.db", "desktop.ini"}  # fmt: skip
_NAMED_IN_NOTE = 5  # damaged files that a note names
_READER = 2  # increase it when the same folder gives another data set
_SAMPLE = 256  # training images from which normalisation constants are measured
_WEBVISION = {"train": "info/train_filelist_google.txt", "test": "info/val_filelist.txt"}


def is_image_folder(name: str) -> bool:
    """Whether the name of a data set is the path of a folder of images."""
    return name.endswith("/")


@dataclass(frozen=True)
class ImageFolder(DatasetSource):
    """A data set in a user's folder of images.

    Options: `size`, pixels per edge (224); `test_fraction`; those of `Selection`; `bad_files`, what
    to do about damaged files (`refuse`, or `skip` to leave them out); `check`, how to find them
    (`ends`, or `pixels` to decode every image once); `black` and `white`, values of images with
    more than 8 bits.

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
        settings = {"reader": _READER, "classes": classes, "size": size, **options}
        levels = _take_levels(self.name, options)
        bad_files, check = (_take_choice(self.name, options, name) for name in _CHOICES)
        folder = find_path(self.name, root, "folder", Path.is_dir)
        lists = [path for file in _WEBVISION.values() if (path := folder / file).is_file()]
        memory = image_check.CheckMemory(folder, thorough=check == "pixels")
        # A folder's time changes when an image is added or removed: the key lists folders, and of
        # the images only the bad ones, which may be repaired in place.
        watched = lists or [d for top in _split_folders(folder).values() for d in _folders(top)]
        watched += memory.bad_files()
        listed = cache.load_or_build(
            self.name,
            settings,
            watched,
            lambda: self._list(folder, classes, size, dict(options), levels, memory, bad_files),
        )
        return replace(
            listed,
            train_x=ImageFiles(folder, listed.train_x, size, levels),
            val_x=ImageFiles(folder, listed.val_x, size, levels),
            test_x=ImageFiles(folder, listed.test_x, size, levels),
        )

    def _list(
        self,
        folder: Path,
        classes: int | None,
        size: int,
        options: dict[str, Any],
        levels: Levels,
        memory: image_check.CheckMemory,
        bad_files: str,
    ) -> Dataset:
        """The data set with paths relative to the folder instead of images."""
        is_webvision = (folder / _WEBVISION["train"]).is_file()
        source = _read_webvision(folder) if is_webvision else _read_tree(folder)
        kept = check_class_count(self.name, classes, len(source.class_names))
        source, skipped = _without_bad_files(folder, source, kept, levels, memory, bad_files)
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
        mean, std = channel_statistics(ImageFiles(folder, train.x, size, levels)[sample])
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
            notes=source.notes,
            skipped_files=skipped,
        )


def _take_choice(name: str, options: dict[str, Any], option: str) -> str:
    """Take an option with a few allowed words out of the options."""
    allowed = _CHOICES[option]
    value = options.pop(option, allowed[0])
    if value not in allowed:
        raise DatasetError(
            f"data set {name!r}: {option} = {value!r}; allowed: {', '.join(allowed)}"
        )
    return str(value)


def _take_levels(name: str, options: dict[str, Any]) -> Levels:
    """Take `black` and `white` out of the options."""
    found = {key: options.pop(key) for key in ("black", "white") if key in options}
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise DatasetError(f"data set {name!r}: {key} = {value!r}; allowed: a number")
    levels = Levels(**{key: float(value) for key, value in found.items()})
    if levels.white is not None and levels.white <= (levels.black or 0.0):
        raise DatasetError(
            f"data set {name!r}: white = {levels.white:g}; allowed: above black = "
            f"{levels.black or 0.0:g}"
        )
    return levels


def _without_bad_files(
    folder: Path,
    source: SourceSplits,
    classes: int,
    levels: Levels,
    memory: image_check.CheckMemory,
    bad_files: str,
) -> tuple[SourceSplits, int]:
    """The source without damaged files, and their number; refused unless they may be skipped.

    Files of classes that are not kept are not looked at.
    """
    splits = {name: getattr(source, name) for name in ("train", "val", "test")}
    present = {name: split for name, split in splits.items() if split is not None}
    kept = {name: split.take(np.flatnonzero(split.y < classes)) for name, split in present.items()}
    paths = np.concatenate([split.x for split in kept.values()])
    found = memory.check(paths)
    bad = image_check.bad(paths, found)
    if bad and bad_files == "refuse":
        raise DatasetError(
            f"{folder}: {len(bad):,} of {len(paths):,} image files cannot be used: "
            f"{image_check.name_files(bad, memory.list_of_bad_files)}; repair or remove them, or "
            "leave them out with `bad_files: skip`"
        )
    is_sound = found["problem"] == b""
    notes = [*source.notes]
    if bad:
        named = image_check.name_files(bad, memory.list_of_bad_files, _NAMED_IN_NOTE)
        notes.append(f"{len(bad):,} of {len(paths):,} image files are left out: {named}")
    notes += image_check.check_levels(folder, found[is_sound], paths[is_sound], levels)
    ends = np.cumsum([len(split.y) for split in kept.values()])
    for name, sound in zip(kept, np.split(is_sound, ends), strict=False):
        # Examples of classes that are not kept stay, as without bad files.
        rows = np.flatnonzero(present[name].y < classes)
        dropped = rows[~sound]
        splits[name] = present[name].take(np.delete(np.arange(len(present[name].y)), dropped))
    return replace(source, **splits, notes=tuple(notes)), len(bad)


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


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def _folders(top: Path) -> list[Path]:
    """Class folders, in the order of their names."""
    with os.scandir(top) as entries:
        return sorted(
            Path(entry.path) for entry in entries if entry.is_dir() and not _is_ignored(entry.name)
        )


@dataclass
class _LeftOut:
    """What a tree holds that is not read.

    Attributes:
        kinds: {suffix: number of files}.
        folders: number of folders inside class folders.
        unsorted: number of images beside the class folders.
        splits: folders beside `train`, `val` and `test`.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    unsorted: int = 0
    splits: tuple[str, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """One line for each of them."""
        notes = []
        if self.kinds:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.kinds.items()))
            notes.append(f"files left out: {counts}; kinds that are read: {', '.join(_SUFFIXES)}")
        if self.folders:
            notes.append(f"folders inside class folders are left out: {self.folders:,}")
        if self.unsorted:
            notes.append(f"images outside class folders are left out: {self.unsorted:,}")
        if self.splits:
            names = ", ".join(f"{name}/" for name in self.splits)
            notes.append(f"folders left out: {names}; allowed: train/, val/, test/")
        return tuple(notes)


def _images(folder: Path, left_out: _LeftOut) -> list[str]:
    """Names of the images in a folder; counts what is no image."""
    images = []
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = Path(entry.name).suffix.lower()
            if _is_ignored(entry.name):
                continue
            if suffix in _SUFFIXES:
                images.append(entry.name)
            elif entry.is_dir():
                left_out.folders += 1
            else:
                left_out.kinds[suffix or "without suffix"] += 1
    return sorted(images)


def _read_tree(folder: Path) -> SourceSplits:
    tops = _split_folders(folder)
    names = tuple(path.name for path in _folders(tops["train"]))
    if len(names) < 2:
        raise DatasetError(f"{tops['train']} has {len(names)} class folders; at least 2 are needed")
    left_out = _LeftOut(splits=_unread_splits(folder, tops))
    position = {name: label for label, name in enumerate(names)}
    splits = {}
    for split, top in tops.items():
        paths: list[str] = []
        labels: list[int] = []
        left_out.unsorted += len(_images(top, _LeftOut()))
        for class_folder in _folders(top):
            if class_folder.name not in position:
                raise DatasetError(f"{class_folder}: no class of that name in {tops['train']}")
            images = _images(class_folder, left_out)
            if not images:
                raise DatasetError(f"{class_folder} holds no image{_hint(left_out)}")
            relative = class_folder.relative_to(folder)
            paths += [f"{relative}/{image}" for image in images]
            labels += [position[class_folder.name]] * len(images)
        splits[split] = _examples(paths, labels)
    return SourceSplits(
        splits["train"], splits.get("val"), splits.get("test"), names, left_out.notes()
    )


def _unread_splits(folder: Path, tops: Mapping[str, Path]) -> tuple[str, ...]:
    if tops["train"] == folder:
        return ()
    return tuple(path.name for path in _folders(folder) if path.name not in tops)


def _hint(left_out: _LeftOut) -> str:
    notes = left_out.notes()
    return f" ({'; '.join(notes)})" if notes else ""


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
