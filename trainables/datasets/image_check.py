"""Looking at every image file once, before anything trains.

The check reads the size and the header of each file, and whether its end is there. Where the end
does not look complete, or the format has no mark at its end, it decodes the image. The outcome is
kept in the cache folder with the size and modification time of each file, so that a file is looked
at again only when it has changed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainables.datasets import cache, pixel_levels
from trainables.datasets.base import DatasetError

_THREADS = 16  # a file system answers many requests at once
_AT_ONCE = 128  # files per task
_MANY = 50_000  # files of which the check takes long enough to be announced
_NAMED = 20  # bad files that a message names
_log = logging.getLogger(__name__)

_STAMP = [("size", np.int64), ("mtime_ns", np.int64)]
_FINDINGS = [
    ("problem", "S160"),  # empty where the file is sound
    ("mode", "S8"),  # Pillow's mode of an image with more than 8 bits; else empty
    ("low", np.float64),  # smallest and largest value of such an image, and its usual white
    ("high", np.float64),
    ("white", np.float64),
]
_SOUND = (b"", b"", 0.0, 0.0, 0.0)

Findings = NDArray[np.void]
"""One record per file with the fields of `_FINDINGS`."""


@dataclass(frozen=True)
class ImageChecks:
    """What the checks of one folder have found so far.

    Attributes:
        folder: the folder of images.
        thorough: whether every image is decoded.
    """

    folder: Path
    thorough: bool

    @property
    def _path(self) -> Path:
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.folder.name).strip("-")
        digest = hashlib.sha256(f"{self.folder.resolve()} {self.thorough}".encode()).hexdigest()
        return cache.folder() / f"{name}-checked-{digest[:16]}.npy"

    @property
    def list_of_bad_files(self) -> Path:
        """A text file with a line `path: problem` for each bad file, written by `check`."""
        return self._path.with_suffix(".txt")

    def bad_files(self) -> list[Path]:
        """The files that the last check found bad and that still exist."""
        if not self.list_of_bad_files.is_file():
            return []
        lines = self.list_of_bad_files.read_text(encoding="utf-8", errors="surrogateescape")
        paths = [self.folder / line.rpartition(": ")[0] for line in lines.splitlines()]
        return [path for path in paths if path.is_file()]

    def check(self, paths: NDArray[np.bytes_]) -> Findings:
        """Look at files; those that have not changed since the last check are remembered.

        Args:
            paths: paths relative to the folder, bytes [N].

        Returns:
            one record per path.

        Raises:
            OSError: the cache folder cannot be written.
        """
        with cache.lock(self._path.stem):
            remembered = self._read()
            found = self._check(paths, remembered)
            self._write(paths, found, remembered)
        return found[[name for name, _ in _FINDINGS]]

    def _check(self, paths: NDArray[np.bytes_], remembered: NDArray[np.void]) -> NDArray[np.void]:
        found = np.zeros(len(paths), dtype=[*_STAMP, *_FINDINGS])
        row_of = {path: row for row, path in enumerate(remembered["path"].tolist())}
        known = np.array([row_of.get(path, -1) for path in paths.tolist()], dtype=np.int64)
        missing = int((known < 0).sum())
        if missing > _MANY:
            _log.warning("%s: looking at %s image files, once", self.folder, f"{missing:,}")

        def task(rows: NDArray[np.int64]) -> None:
            for row in rows:
                path = self.folder / os.fsdecode(paths[row])
                stamp = _stamp(path)
                earlier = remembered[known[row]] if known[row] >= 0 else None
                if earlier is not None and (earlier["size"], earlier["mtime_ns"]) == stamp:
                    findings = tuple(earlier[name] for name, _ in _FINDINGS)
                else:
                    findings = _look_at(path, stamp[0], self.thorough)
                found[row] = (*stamp, *findings)

        parts = np.array_split(np.arange(len(paths)), len(paths) // _AT_ONCE + 1)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="check") as pool:
            for done in [pool.submit(task, part) for part in parts]:
                done.result()
        return found

    def _read(self) -> NDArray[np.void]:
        path_type = ("path", "S1")
        try:
            stored: NDArray[np.void] = np.load(self._path)
            if stored.dtype.names == ("path", *(name for name, _ in [*_STAMP, *_FINDINGS])):
                return stored
        except (OSError, ValueError, EOFError):  # none yet, or damaged: look again
            pass
        return np.zeros(0, dtype=[path_type, *_STAMP, *_FINDINGS])

    def _write(
        self, paths: NDArray[np.bytes_], found: NDArray[np.void], remembered: NDArray[np.void]
    ) -> None:
        others = remembered[~np.isin(remembered["path"], paths)]  # of classes not kept this time
        width = max(paths.dtype.itemsize, others["path"].dtype.itemsize)
        stored = np.zeros(
            len(paths) + len(others), dtype=[("path", f"S{width}"), *_STAMP, *_FINDINGS]
        )
        stored["path"] = np.concatenate([paths, others["path"]])
        for name in found.dtype.names or ():
            stored[name] = np.concatenate([found[name], others[name]])
        temporary = self._path.with_name(f"{self._path.stem}.{uuid.uuid4().hex}.npy")
        np.save(temporary, stored, allow_pickle=False)
        temporary.replace(self._path)
        lines = [f"{path}: {problem}\n" for path, problem in bad(paths, found)]
        content = "".join(lines).encode("utf-8", errors="surrogateescape")
        self.list_of_bad_files.write_bytes(content)


def bad(paths: NDArray[np.bytes_], found: NDArray[np.void]) -> list[tuple[str, str]]:
    """Path and problem of each file that has one."""
    rows = np.flatnonzero(found["problem"] != b"")
    return [
        (os.fsdecode(paths[row]), found["problem"][row].decode("utf-8", errors="replace"))
        for row in rows
    ]


def name_files(files: Sequence[tuple[str, str]], all_of_them: Path, most: int = _NAMED) -> str:
    """Bad files in one line; where there are many, the first ones and where the others are named.

    Args:
        files: path and problem of each.
        all_of_them: the file that lists all.
        most: number of files that are named.
    """
    text = ", ".join(f"{path} ({problem})" for path, problem in files[:most])
    return text if len(files) <= most else f"{text} and {len(files) - most:,} more: {all_of_them}"


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; (−1, 0) where there is no such file."""
    try:
        state = path.stat()
    except OSError:
        return -1, 0
    return state.st_size, state.st_mtime_ns


def _look_at(path: Path, size: int, thorough: bool) -> tuple[Any, ...]:
    """The findings for one file."""
    from PIL import Image

    if size <= 0:
        return (b"empty" if size == 0 else b"missing", *_SOUND[1:])
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            if pixel_levels.is_high_bit_depth(image.mode):
                white = pixel_levels.usual_white(image)
                pixels = pixel_levels.values(image)
                return b"", image.mode.encode(), pixels.min(), pixels.max(), white
            if thorough or not _ends(stream, image.format or "", size):
                image.load()
    except Exception as error:  # Pillow's readers raise many types for damaged files
        problem = " ".join(str(error).replace(str(path), "").split()) or type(error).__name__
        if problem.startswith("cannot identify image file"):
            problem = "no image that Pillow reads"
        return (problem.encode()[:160], *_SOUND[1:])
    return _SOUND


def _ends(stream: BinaryIO, file_format: str, size: int) -> bool:
    """Whether the end of a file is the end of its image; False where only decoding can tell."""
    if file_format == "WEBP":
        stream.seek(4)
        return int.from_bytes(stream.read(4), "little") + 8 <= size
    ends = {
        "JPEG": b"\xff\xd9",
        "MPO": b"\xff\xd9",
        "PNG": b"IEND\xaeB`\x82",
        "GIF": b"\x00;",
    }
    end = ends.get(file_format)
    if end is None or size < len(end):
        return False
    stream.seek(size - len(end))
    return stream.read() == end


def check_levels(
    folder: Path, found: Findings, paths: NDArray[np.bytes_], levels: pixel_levels.Levels
) -> tuple[str, ...]:
    """Make sure that it is known which values of high-bit-depth images are black and white.

    Args:
        folder: the folder of images, for messages.
        found: the findings for sound files.
        paths: their paths.
        levels: what the study file says.

    Returns:
        notes for the user.

    Raises:
        DatasetError: an option is missing or has no use; the message says what to write.
    """
    deep = np.flatnonzero(found["mode"] != b"")
    if not deep.size:
        if levels != pixel_levels.USUAL:
            raise DatasetError(f"{folder}: no image has more than 8 bits: no black, no white")
        return ()
    if levels.white is not None:
        return ()
    low, high, white = (found[name][deep] for name in ("low", "high", "white"))
    black = levels.black or 0.0
    unknown = np.isnan(white) | (low < black) | (high > white)
    if unknown.any():
        row = deep[unknown][0]
        alike = found["mode"][deep] == found["mode"][row]
        least, most = low[alike].min(), high[alike].max()
        kind = pixel_levels.kind(found["mode"][row].decode())
        raise DatasetError(
            f"{folder}: {os.fsdecode(paths[row])} is a {kind} image, and such images hold values "
            f"from {least:g} to {most:g}; say which values are black and white, such as "
            f"`black: {min(0.0, least):g}` and `white: {most:g}`"
        )
    sixteen = white > 1
    if sixteen.any() and 4 * high[sixteen].max() <= white[sixteen].max():
        return (
            f"{sixteen.sum():,} images have 16 bits, of which 0 to {white[sixteen].max():.0f} "
            f"becomes black to white, but no value is above {high[sixteen].max():.0f}: "
            f"`white: {high[sixteen].max():.0f}` would use the whole range",
        )
    return ()
