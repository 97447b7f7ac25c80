"""The images of a folder, listed by class.

Known layouts:

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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.datasets.assemble import Examples, SourceSplits
from trainables.datasets.base import DatasetError

_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga"),
)
# Made by archives, file managers and operating systems, beside hidden files.
_IGNORED = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information",
            "lost+found", "thumbs.db", "desktop.ini"}  # fmt: skip
_WEBVISION = {"train": "info/train_filelist_google.txt", "test": "info/val_filelist.txt"}


def watched(folder: Path) -> list[Path]:
    """The files and folders whose times change when an image is added or removed."""
    lists = [path for file in _WEBVISION.values() if (path := folder / file).is_file()]
    return lists or [d for top in _split_folders(folder).values() for d in _folders(top)]


def read_folder(folder: Path) -> SourceSplits:
    """List the images of a folder.

    Args:
        folder: a folder in one of the known layouts.

    Returns:
        paths relative to the folder, bytes [N], with their labels, for each split.

    Raises:
        DatasetError: the folder has another layout, or a class without images.
    """
    is_webvision = (folder / _WEBVISION["train"]).is_file()
    return _read_webvision(folder) if is_webvision else _read_tree(folder)


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
