"""Files that appear complete under their name, or not at all."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from study.results.object_store import repeated

TEMPORARY_SUFFIX = ".tmp"


class AtomicFile:
    """An output stream, as a context manager, whose file appears only once it is complete.

    On a local or network disk the content goes to a temporary file in the same folder, which is
    then renamed. On an object store a put is atomic and a rename is a copy, so the content is
    collected in memory, put in one request, and put again where that fails.

    Args:
        filesystem: where to write.
        path: the file's path inside `filesystem`; missing folders are created.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self._filesystem, self._path = filesystem, path
        self._renames = isinstance(filesystem, pafs.LocalFileSystem)
        self._folder, _, name = path.rpartition("/")
        # pyarrow and pandas ignore names with a leading dot when they read a whole folder.
        self._temporary = f"{self._folder}/.{name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"

    def __enter__(self) -> Any:
        if self._renames:
            self._filesystem.create_dir(self._folder, recursive=True)
            self._stream = self._filesystem.open_output_stream(self._temporary)
        else:
            self._stream = pa.BufferOutputStream()
        return self._stream

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._renames:
            self._stream.close()
            if kind is None:
                self._filesystem.move(self._temporary, self._path)
            else:
                self._filesystem.delete_file(self._temporary)
        elif kind is None:
            repeated(self._filesystem, self._put)

    def _put(self) -> None:
        with self._filesystem.open_output_stream(self._path) as stream:
            stream.write(self._stream.getvalue())


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of an `AtomicFile` that is not complete."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)
