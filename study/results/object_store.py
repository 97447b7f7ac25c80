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

from trainables.errors import BadInputError, UserError

PATIENCE_S = 60.0
"""How long an operation is repeated before it fails."""

_ANSWER_S, _CONNECT_S = 30.0, 5.0
_LONGEST_PAUSE_S = 8.0
# What asking again does not change: the file is absent, or the store refuses.
_LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|Bucket '[^']*' not found")
_NO_ACCESS = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID"
    r"|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN|HTTP status 40[0135]"
)
_WITH_BUCKETS = ("s3", "gcs")

T = TypeVar("T")


class StorageError(UserError, OSError):
    """An object store that refuses an operation, or fails for `PATIENCE_S`; one line.

    Args:
        message: the line.
        is_refused: whether the same operation is refused again, however often it is repeated.

    Attributes:
        is_refused: as above.
    """

    def __init__(self, message: str, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        self.exit_code = BadInputError.exit_code if is_refused else UserError.exit_code

    def at(self, where: str) -> StorageError:
        """The same error, with the place where the storage is named."""
        return StorageError(f"{where}: {self}", self.is_refused)


@functools.lru_cache(maxsize=32)
def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a URI. A process opens each URI once, and keeps its connections.

    A URI cannot say how long pyarrow waits for an answer of S3: by default three seconds, after
    which a busy server is asked again and again.

    Raises:
        StorageError: the store has no such bucket, or does not answer.
    """
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except OSError as error:  # the region of a bucket of Amazon is asked for
        raise storage_error(error).at(uri) from error
    if isinstance(filesystem, pafs.S3FileSystem):
        make, (settings,) = filesystem.__reduce__()
        if not parse_qs(urlsplit(uri).query).keys() <= settings.keys():
            return filesystem, str(path)  # pyarrow does not pickle each setting
        waiting = {"request_timeout": _ANSWER_S, "connect_timeout": _CONNECT_S}
        # A file of a few MiB is then put in one request instead of three.
        filesystem = make({**settings, **waiting, "allow_delayed_open": True})
    return filesystem, str(path)


def check_bucket(filesystem: pafs.FileSystem, path: str) -> None:
    """Check that the bucket of a path exists; a file of a missing bucket only seems to be absent.

    Raises:
        StorageError: the bucket does not exist, or the store does not answer.
    """
    if filesystem.type_name not in _WITH_BUCKETS:
        return
    bucket = path.partition("/")[0]
    try:
        info = repeated(filesystem, lambda: filesystem.get_file_info(bucket))
    except StorageError as error:
        # Who may use a part of a bucket may be refused to look at the whole of it.
        if _NO_ACCESS.search(str(error)):
            return
        raise
    if info.type == pafs.FileType.NotFound:
        raise storage_error(f"Bucket '{bucket}' not found")


def storage_error(error: OSError | str) -> StorageError:
    """What pyarrow says about an object store, as one line that says what to do.

    Args:
        error: pyarrow's error, or its message.
    """
    text = " ".join(str(error).split())
    if _NO_BUCKET.search(text):
        bucket = re.search(r"[Bb]ucket '([^']*)'", text)
        name = f" {bucket[1]!r}" if bucket else ""
        return StorageError(f"there is no bucket{name}; allowed: one that exists", is_refused=True)
    if _NO_ACCESS.search(text):
        return StorageError(
            "access is refused; allowed: credentials for it in the environment "
            f"(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the role of this machine ({text})",
            is_refused=True,
        )
    return StorageError(text)


def is_object_store(filesystem: pafs.FileSystem) -> bool:
    """Whether files are reached by requests over a network, and a put replaces a file at once."""
    return filesystem.type_name not in ("local", "py::bundle")


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
        StorageError: the operation still fails after `PATIENCE_S`, or the store refuses it.
        OSError: the file is absent or of another kind; or the operation fails on a disk.
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
            found = storage_error(error)
            if found.is_refused or time.monotonic() + pause > end:
                raise found from error
        time.sleep(pause)
    raise AssertionError  # `pauses` has no end
