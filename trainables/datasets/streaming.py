"""Images in files, decoded by threads while the device computes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import Array, DatasetError
from trainables.datasets.pixel_levels import USUAL, Levels, is_high_bit_depth

_AHEAD = 4  # batches decoded ahead of the one in use
_AREA = (0.08, 1.0)  # of a random crop, as a share of the image
_RATIO = (3 / 4, 4 / 3)  # of a random crop's edges


@dataclass(frozen=True)
class ImageFiles:
    """Image files that behave like an array of images, uint8 [N, 3, size, size].

    Indexing decodes the images: each one is scaled so that its shorter edge is `size`, then cropped
    to its centre.

    Attributes:
        folder: paths are relative to it.
        paths: bytes [N].
        size: pixels per edge.
        levels: which values of images with more than 8 bits are black and white.
    """

    folder: Path
    paths: NDArray[np.bytes_]
    size: int
    levels: Levels = USUAL

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, 3, size, size]."""
        return (len(self.paths), 3, self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of decoded images, uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode some images.

        Args:
            rows: which images.

        Returns:
            uint8 [n, 3, size, size].

        Raises:
            DatasetError: a file is missing, truncated or no image; the message names it.
        """
        with Stream(self, [np.arange(len(self))[rows]]) as stream:
            return next(iter(stream))

    def stream(self, batches: Iterable[NDArray[np.int64]], crop_seed: int | None = None) -> Stream:
        """Decoded images, batch by batch; see `Stream`."""
        return Stream(self, batches, crop_seed)


class Stream:
    """Batches of images [B, 3, size, size], decoded in the background, in the given order.

    Use it in a `with` statement, and iterate once.

    Args:
        files: the images.
        batches: rows [B] of each batch.
        crop_seed: None for the centre of each image; else a random crop of it (8 to 100 % of its
            area, edges 3:4 to 4:3: Szegedy et al., "Going Deeper with Convolutions", 2015). The
            crop depends on this seed and the row only, not on the batch or the number of threads.
        threads: number of decoding threads; by default one per processor of this process, at most
            16.
    """

    def __init__(
        self,
        files: ImageFiles,
        batches: Iterable[Array],
        crop_seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._files, self._batches, self._crop_seed = files, batches, crop_seed
        self._threads = threads or min(16, _processors())
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._waited = self._elapsed = 0.0

    @property
    def stall_share(self) -> float:
        """Share of the time since the start of the iteration that was spent waiting."""
        return self._waited / self._elapsed if self._elapsed else 0.0

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The batches.

        Yields:
            uint8 [B, 3, size, size].

        Raises:
            DatasetError: a file is missing, truncated or no image; the message names it.
        """
        batches = iter(self._batches)
        ahead: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()
        started = time.perf_counter()
        while True:
            while len(ahead) <= _AHEAD and (rows := next(batches, None)) is not None:
                ahead.append(self._submit(np.asarray(rows)))
            if not ahead:
                return
            images, futures = ahead.popleft()
            before = time.perf_counter()
            for future in futures:
                future.result()
            now = time.perf_counter()
            self._waited += now - before
            self._elapsed = now - started
            yield images
            self._elapsed = time.perf_counter() - started

    def _submit(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        images = np.empty((len(rows), *self._files.shape[1:]), dtype=np.uint8)
        shares = np.array_split(np.arange(len(rows)), min(self._threads, len(rows)) or 1)
        futures = [self._pool.submit(self._decode, rows, images, share) for share in shares]
        return images, futures

    def _decode(self, rows: NDArray[np.int64], images: NDArray[np.uint8], share: Array) -> None:
        """Decode the images at the positions `share` of a batch."""
        for k in share:
            row = int(rows[k])
            path = self._files.folder / os.fsdecode(self._files.paths[row])
            rng = None
            if self._crop_seed is not None:
                rng = np.random.default_rng([self._crop_seed, row])
            images[k] = decode(path, self._files.size, rng, self._files.levels)


def decode(
    path: Path,
    size: int,
    rng: np.random.Generator | None = None,
    levels: Levels = USUAL,
) -> NDArray[np.uint8]:
    """Decode one image; the first one of an animation.

    Args:
        path: path of the file.
        size: pixels per edge.
        rng: for a random crop; the centre of the image where None.
        levels: which values of an image with more than 8 bits are black and white.

    Returns:
        uint8 [3, size, size].

    Raises:
        DatasetError: the file is missing, truncated or no image; the message names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if rng is None:
                image.draft("RGB", (size, size))  # JPEG: decode at a fraction of the size
            width, height = image.size
            box = _centre(width, height) if rng is None else _random_box(width, height, rng)
            shallow = levels.to_8_bits(image) if is_high_bit_depth(image.mode) else image
            rgb = shallow.convert("RGB")
            resized = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box)
    except Exception as error:  # Pillow's readers raise many types for damaged files
        raise DatasetError(f"{path} is damaged or no image: {error}") from error
    return np.asarray(resized).transpose(2, 0, 1)


def _centre(width: int, height: int) -> tuple[float, float, float, float]:
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    return (left, top, left + edge, top + edge)


def _random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    for _ in range(10):
        area = width * height * (_AREA[0] + rng.random() * (_AREA[1] - _AREA[0]))
        low, high = np.log(_RATIO)
        ratio = float(np.exp(low + rng.random() * (high - low)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.random() * (width - w + 1))
            top = int(rng.random() * (height - h + 1))
            return (left, top, left + w, top + h)
    return _centre(width, height)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
