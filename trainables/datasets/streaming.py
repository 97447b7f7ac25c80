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

_AHEAD = 4  # batches decoded ahead of the one in use
_AREA = (0.08, 1.0)  # of a random crop, as a share of the image
_RATIO = (3 / 4, 4 / 3)  # of a random crop's edges


@dataclass(frozen=True)
class ImageFiles:
    """What stands for an array of images uint8 [N, 3, size, size] that are still files.

    Indexing decodes: each image is scaled until its shorter edge is `size`, and its middle kept.

    Parameters
    ----------
    folder: what paths are relative to.
    paths: bytes [N].
    size: pixels of an edge.
    """

    folder: Path
    paths: NDArray[np.bytes_]
    size: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, 3, size, size]."""
        return (len(self.paths), 3, self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of decoded images, uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decoded images [n, 3, size, size].

        Raises
        ------
        DatasetError: naming a file that is missing, truncated or no image.
        """
        wanted = np.arange(len(self))[rows]
        with Stream(self, [wanted]) as stream:
            return next(iter(stream))

    def stream(self, batches: Iterable[NDArray[np.int64]], crop_seed: int | None = None) -> Stream:
        """Decoded images of one batch of rows after the other; see `Stream`."""
        return Stream(self, batches, crop_seed)


class Stream:
    """Batches of decoded images [B, 3, size, size], in the order asked, decoded in the background.

    Use it as a context, and iterate once.

    Parameters
    ----------
    files: what to decode.
    batches: rows [B] of each batch.
    crop_seed: None for the middle of each image; else a random part of it (8 to 100 % of its area,
        edges 3:4 to 4:3: Szegedy et al., "Going Deeper with Convolutions", 2015), which follows
        from this seed and the row alone, whatever the batch and the number of threads.
    threads: decoders; the processors of this process, 16 at most, where None.
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
        """Share of the time since the first batch was asked for that was spent waiting."""
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

        Raises
        ------
        DatasetError: naming a file that is missing, truncated or no image.
        """
        batches = iter(self._batches)
        ahead: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()
        started = time.perf_counter()
        while True:
            while len(ahead) <= _AHEAD and (rows := next(batches, None)) is not None:
                ahead.append(self._submit(np.asarray(rows)))
            if not ahead:
                return
            out, parts = ahead.popleft()
            asked = time.perf_counter()
            for part in parts:
                part.result()
            now = time.perf_counter()
            self._waited += now - asked
            self._elapsed = now - started
            yield out
            self._elapsed = time.perf_counter() - started

    def _submit(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        out = np.empty((len(rows), *self._files.shape[1:]), dtype=np.uint8)
        slices = np.array_split(np.arange(len(rows)), min(self._threads, len(rows)) or 1)
        return out, [self._pool.submit(self._decode, rows, out, some) for some in slices]

    def _decode(self, rows: NDArray[np.int64], out: NDArray[np.uint8], some: Array) -> None:
        for k in some:
            row = int(rows[k])
            path = self._files.folder / os.fsdecode(self._files.paths[row])
            rng = None
            if self._crop_seed is not None:
                rng = np.random.default_rng([self._crop_seed, row])
            out[k] = decode(path, self._files.size, rng)


def decode(path: Path, size: int, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
    """One image [3, size, size]: its middle, or a random part of it where `rng` is given.

    Raises
    ------
    DatasetError: naming the file that is missing, truncated or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if rng is None:
                image.draft("RGB", (size, size))  # JPEG: decode at a fraction of the size
            width, height = image.size
            box = _middle(width, height) if rng is None else _random_box(width, height, rng)
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} is damaged or no image: {error}") from error
    return np.asarray(resized).transpose(2, 0, 1)


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
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
    return _middle(width, height)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
