"""A user's arrays in an `.npz` file: inputs and labels of one or more splits."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainables.datasets.assemble import Examples, SourceSplits
from trainables.datasets.base import Array, DatasetError, Labels, sorted_class_names

CHANNELS = ("first", "last")
_SPLITS = ("", "_val", "_test")
_FEW = (1, 3, 4)  # usual numbers of channels


def read_npz(path: Path, channels: str | None = None) -> SourceSplits:
    """Read arrays `x`, `y` and, optionally, `x_val`, `y_val`, `x_test`, `y_test`, `class_names`.

    Args:
        path: the file.
        channels: which axis of images [N, …] holds the channels: `first` or `last` of an image's
            three; None to see it from the shape.

    Returns:
        the splits. Images are [N, C, H, W], uint8 as they are and of any other type as float32.

    Raises:
        DatasetError: the file is damaged, an array is missing or has a wrong shape or type, or the
            shape does not show which axis holds the channels.
    """
    arrays = _read_arrays(path)
    present = [s for s in _SPLITS if f"x{s}" in arrays and f"y{s}" in arrays]
    labels = {suffix: _labels(path, arrays[f"y{suffix}"], suffix) for suffix in present}
    names, encoded = _encode(path, labels, arrays.get("class_names"))
    is_last, notes = _channels_are_last(path, arrays["x"], channels)
    splits = {
        suffix: Examples(
            _inputs(path, arrays[f"x{suffix}"], len(encoded[suffix]), suffix, is_last),
            encoded[suffix],
        )
        for suffix in present
    }
    train = splits[""]
    for suffix, split in splits.items():
        if split.x.shape[1:] != train.x.shape[1:]:
            raise DatasetError(f"{path}: x{suffix} {split.x.shape} does not fit x {train.x.shape}")
    return SourceSplits(train, splits.get("_val"), splits.get("_test"), names, notes)


def _read_arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays: dict[str, Array] = {}
            for name in content.files:
                try:
                    arrays[name] = content[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    raise DatasetError(
                        f"{path}: {name} holds Python objects; save numbers, or words as "
                        f"{name}.astype(str)"
                    ) from error
    except DatasetError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from error
    for required in ("x", "y"):
        if required not in arrays:
            raise DatasetError(f"{path} has no array {required!r}; it has {', '.join(arrays)}")
    return arrays


def _labels(path: Path, y: Array, suffix: str) -> Array:
    """Labels [N], whole numbers or words; [N, 1] and one-hot rows [N, C] become [N]."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and y.dtype.kind in "biuf" and len(y):
        if not (((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DatasetError(
                f"{path}: y{suffix} {y.shape} is not one-hot: one 1 per row, else 0; allowed: "
                "labels [N]"
            )
        y = y.argmax(axis=1)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.ndim != 1 or y.dtype.kind not in "biuU" or not len(y):
        raise DatasetError(
            f"{path}: y{suffix} must be whole numbers or words [N], not {y.dtype} {y.shape}"
        )
    if y.dtype.kind == "U":
        empty = np.flatnonzero(np.char.strip(y) == "")
        if empty.size:
            raise DatasetError(f"{path}, row {empty[0]} of y{suffix}: the label is empty")
        return y
    return y.astype(np.int64)


def _encode(
    path: Path, labels: Mapping[str, Array], class_names: Array | None
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Class names, and the labels of each split as positions in them."""
    train = labels[""]
    if train.dtype.kind != "U":
        count = int(train.max()) + 1
        names = tuple(map(str, range(count) if class_names is None else class_names))
        encoded = {suffix: _as_numbers(path, y, suffix) for suffix, y in labels.items()}
    else:
        names = (
            sorted_class_names(set(train.tolist()))
            if class_names is None
            else tuple(map(str, class_names))
        )
        position = {name: label for label, name in enumerate(names)}
        encoded = {
            suffix: np.array([position.get(str(name), -1) for name in y], dtype=np.int64)
            for suffix, y in labels.items()
        }
    for suffix, y in encoded.items():
        bad = np.flatnonzero((y < 0) | (y >= len(names)))
        if bad.size:
            row, shown = bad[0], labels[suffix][bad[0]]
            allowed = f"0 to {len(names) - 1}"
            if train.dtype.kind == "U":
                allowed = "class_names" if class_names is not None else "the words of y"
            shown = repr(str(shown)) if labels[suffix].dtype.kind == "U" else shown
            raise DatasetError(f"{path}, row {row} of y{suffix}: label {shown}; allowed: {allowed}")
    return names, encoded


def _as_numbers(path: Path, y: Array, suffix: str) -> Labels:
    if y.dtype.kind == "U":
        raise DatasetError(f"{path}: y{suffix} holds words, y holds numbers")
    return y.astype(np.int64)


def _channels_are_last(path: Path, x: Array, channels: str | None) -> tuple[bool, tuple[str, ...]]:
    """Whether images are [N, H, W, C], and a note where that was seen from the shape."""
    if channels is not None and channels not in CHANNELS:
        raise DatasetError(f"{path}: channels = {channels!r}; allowed: {', '.join(CHANNELS)}")
    if x.ndim != 4:
        if channels is not None:
            raise DatasetError(f"{path}: x {x.shape} are no images with channels: no channels")
        return False, ()
    if channels is not None:
        return channels == "last", ()
    first, last = x.shape[1], x.shape[3]
    if first not in _FEW and last in _FEW:
        note = (
            f"x {x.shape} is read as [N, H, W, C], images of {last} channels; `channels: first` "
            "reads [N, C, H, W]"
        )
        return True, (note,)
    if first not in _FEW and last < first and x.shape[2] == first:
        raise DatasetError(
            f"{path}: x {x.shape} may be [N, C, H, W] or [N, H, W, C]; say `channels: first` or "
            "`channels: last`"
        )
    return False, ()


def _inputs(path: Path, x: Array, rows: int, suffix: str, is_last: bool) -> Array:
    """Images [N, C, H, W] or features [N, F] of one split, checked."""
    if len(x) != rows:
        raise DatasetError(f"{path}: x{suffix} has {len(x):,} rows, y{suffix} has {rows:,}")
    if x.dtype.kind not in "iuf" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DatasetError(
            f"{path}: x{suffix} is {x.dtype} {x.shape}; allowed: images [N, C, H, W], "
            "[N, H, W, C] or [N, H, W], or features [N, F], of numbers"
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and is_last:
        x = x.transpose(0, 3, 1, 2)
    if x.dtype != np.uint8 or x.ndim == 2:
        bad = np.flatnonzero([not np.isfinite(row).all() for row in x])
        if bad.size:
            raise DatasetError(f"{path}, row {bad[0]} of x{suffix}: not a finite number")
        x = x.astype(np.float32)
    return np.ascontiguousarray(x)
