"""What storage other than a disk needs: its operations are repeated when they fail for a moment.

pyarrow repeats some requests to S3 by itself, but not after every answer of an overloaded server
or of a proxy before it (502), and not after an upload of which the last answer was lost. Here the
whole operation is repeated. That is safe: each one gives the same result however often it is done.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import pyarrow.fs as pafs

PATIENCE_S = 60.0
"""How long an operation is repeated before it fails."""

_ANSWER_S, _CONNECT_S = 30.0, 5.0
_LONGEST_PAUSE_S = 8.0
# What asking again does not change: the file is absent, or the store refuses.
_LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID"
    r"|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|NO_SUCH_BUCKET|HTTP status 40[0135]"
)

T = TypeVar("T")


@functools.lru_cache(maxsize=32)
def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a URI. A process opens each URI once, and keeps its connections.

    A URI cannot say how long pyarrow waits for an answer of S3: by default three seconds, after
    which a busy server is asked again and again.
    """
    filesystem, path = pafs.FileSystem.from_uri(uri)
    if isinstance(filesystem, pafs.S3FileSystem):
        make, (settings,) = filesystem.__reduce__()
        if not parse_qs(urlsplit(uri).query).keys() <= settings.keys():
            return filesystem, str(path)  # pyarrow does not pickle each setting
        waiting = {"request_timeout": _ANSWER_S, "connect_timeout": _CONNECT_S}
        # A file of a few MiB is then put in one request instead of three.
        filesystem = make({**settings, **waiting, "allow_delayed_open": True})
    return filesystem, str(path)


def is_object_store(filesystem: pafs.FileSystem) -> bool:
    """Whether files are reached by requests over a network, and a put replaces a file at once."""
    return filesystem.type_name not in ("local", "bundle")


def pauses() -> Iterator[float]:
    """Seconds to wait after each failed attempt, without end: 0.25, 0.5, … 8, 8, …"""
    pause = 0.25
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def repeated(filesystem: pafs.FileSystem, operation: Callable[[], T]) -> T:
    """The result of an operation, which is repeated where the storage fails for a moment.

    Args:
        filesystem: what the operation works on. On a disk it is done once.
        operation: may be done several times with the same result.

    Raises:
        OSError: the operation still fails after `PATIENCE_S`, or cannot succeed.
    """
    if not is_object_store(filesystem):
        return operation()
    end: float | None = None  # counted from the first failure: the operation may take long
    for pause in pauses():
        try:
            return operation()
        except _LASTING:
            raise
        except OSError as error:
            end = end or time.monotonic() + PATIENCE_S
            if _REFUSED.search(str(error)) or time.monotonic() + pause > end:
                raise
        time.sleep(pause)
    raise AssertionError  # `pauses` has no end
