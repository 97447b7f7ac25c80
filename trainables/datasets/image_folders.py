"""Folders of images of any size: decoded in the background while training, never held in memory.

The name of the data set is the path of the folder with a slash at its end. See
`trainables.datasets.image_layouts` for the known layouts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from trainables.datasets import cache, image_check, image_layouts
from trainables.datasets.assemble import SourceSplits
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
    check_enough_examples,
    check_no_options,
    subsample,
    take_selection,
    take_test_fraction,
    train_val_rows,
)
from trainables.datasets.streaming import ImageFiles
from trainables.datasets.user_paths import find_path

SIZE = 224  # pixels per edge
OPTIONS = (*SELECTION_OPTIONS, "test_fraction", "size", "bad_files", "check", "black", "white")
_CHOICES = {"bad_files": ("refuse", "skip"), "check": ("ends", "pixels")}  # the defaults first
_NAMED_IN_NOTE = 5  # damaged files that a note names
_READER = 2  # increase it when the same folder gives another data set
_SAMPLE = 256  # training images from which normalisation constants are measured


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
        checks = image_check.ImageChecks(folder, thorough=check == "pixels")
        # A folder's time changes when an image is added or removed: the key lists folders, and of
        # the images only the bad ones, which may be repaired in place.
        watched = [*image_layouts.watched(folder), *checks.bad_files()]
        listed = cache.load_or_build(
            self.name,
            settings,
            watched,
            lambda: self._list(folder, classes, size, dict(options), levels, checks, bad_files),
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
        checks: image_check.ImageChecks,
        bad_files: str,
    ) -> Dataset:
        """The data set with paths relative to the folder instead of images."""
        source = image_layouts.read_folder(folder)
        kept = check_class_count(self.name, classes, len(source.class_names))
        source, skipped = _without_bad_files(folder, source, kept, levels, checks, bad_files)
        train, val, test, names = source.train, source.val, source.test, source.class_names
        if test is None:  # the layout of ImageNet: papers test on its validation images
            val, test = None, val
        fraction = take_test_fraction(self.name, options, test is not None)
        selection = take_selection(self.name, classes, len(names), options, has_val=val is not None)
        check_no_options(self.name, options, OPTIONS)
        counts = np.bincount(train.y, minlength=len(names))
        if test is None:
            rows, test_rows = train_val_rows(train.y, Selection(len(names), fraction))
            train, test = train.take(rows), train.take(test_rows)
        check_enough_examples(folder, names, counts, train.y, val is not None)
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
    checks: image_check.ImageChecks,
    bad_files: str,
) -> tuple[SourceSplits, int]:
    """The source without damaged files, and their number; refused unless they may be skipped.

    Files of classes that are not kept are not looked at.
    """
    splits = {name: getattr(source, name) for name in ("train", "val", "test")}
    present = {name: split for name, split in splits.items() if split is not None}
    kept = {name: split.take(np.flatnonzero(split.y < classes)) for name, split in present.items()}
    paths = np.concatenate([split.x for split in kept.values()])
    found = checks.check(paths)
    bad = image_check.bad(paths, found)
    if bad and bad_files == "refuse":
        raise DatasetError(
            f"{folder}: {len(bad):,} of {len(paths):,} image files cannot be used: "
            f"{image_check.name_files(bad, checks.list_of_bad_files)}; repair or remove them, or "
            "leave them out with `bad_files: skip`"
        )
    is_sound = found["problem"] == b""
    notes = [*source.notes]
    if bad:
        named = image_check.name_files(bad, checks.list_of_bad_files, _NAMED_IN_NOTE)
        notes.append(f"{len(bad):,} of {len(paths):,} image files are left out: {named}")
    notes += image_check.check_levels(folder, found[is_sound], paths[is_sound], levels)
    ends = np.cumsum([len(split.y) for split in kept.values()])
    for name, sound in zip(kept, np.split(is_sound, ends), strict=False):
        # Examples of classes that are not kept stay, as without bad files.
        rows = np.flatnonzero(present[name].y < classes)
        dropped = rows[~sound]
        splits[name] = present[name].take(np.delete(np.arange(len(present[name].y)), dropped))
    return replace(source, **splits, notes=tuple(notes)), len(bad)
