"""A bundle: a study in one file, which `analyse`, `report` and `compare` read as its folder.

    <name>.bundle.zip
      bundle.json                     versions, and the SHA-256 of every other file
      study.yaml, study-files/, plan.json, noise.parquet
      <table>/<stage>/compact-<hash>.parquet
      analysis/verdict.json, analysis/report.html     as of the export, for readers

A bundle is never changed: results are written beside it. Every file is checked against its hash
when it is read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from trainables.errors import BadInputError

BUNDLE_SUFFIX = ".zip"
MANIFEST = "bundle.json"
BUNDLE_VERSION = 1
_LARGEST_EXPANDED = 2**26  # bytes; the study file, the plan, the report


class BundleError(BadInputError):
    """A file that is no bundle, or a damaged one; the message is one line for the user."""


def is_bundle(uri: str) -> bool:
    """Whether a path or URI names a bundle."""
    return uri.partition("?")[0].endswith(BUNDLE_SUFFIX)


def results_uri(uri: str) -> str:
    """The folder for the results of a bundle: its name without the suffix."""
    place, mark, query = uri.partition("?")
    return f"{place.removesuffix(BUNDLE_SUFFIX)}{mark}{query}"


def write_bundle(stream: Any, files: Iterator[tuple[str, bytes]], about: Mapping[str, Any]) -> None:
    """Write a bundle.

    Args:
        stream: a binary stream to write to.
        files: (name, content) of each file.
        about: further keys of the manifest.
    """
    hashes = {}
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files:
            hashes[name] = hashlib.sha256(content).hexdigest()
            _add(archive, name, content)
        manifest = {
            "bundle_version": BUNDLE_VERSION,
            "made_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            **about,
            "files": hashes,
        }
        _add(archive, MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False).encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # Parquet is compressed already.
    kind = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
    archive.writestr(zipfile.ZipInfo(name), content, compress_type=kind)


def bundle_filesystem(filesystem: pafs.FileSystem, path: str) -> pafs.FileSystem:
    """The content of a bundle as a filesystem that cannot be written to.

    Args:
        filesystem: where the bundle is.
        path: its path there.
    """
    return pafs.PyFileSystem(_BundleHandler(filesystem, path))


class _BundleHandler(pafs.FileSystemHandler):  # type: ignore[misc]
    """What pyarrow asks of a filesystem; paths are the names inside the bundle."""

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self._filesystem, self._path = filesystem, path

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            # Kept open as long as it is read from; the file itself never changes.
            return zipfile.ZipFile(self._filesystem.open_input_file(self._path))
        except FileNotFoundError:
            raise BundleError(f"{self._path}: no such file") from None
        except (zipfile.BadZipFile, IsADirectoryError) as error:
            raise BundleError(f"{self._path}: not a bundle, or not all of it: {error}") from error

    @cached_property
    def _hashes(self) -> dict[str, str]:
        try:
            manifest = json.loads(self._content(MANIFEST))
            version, hashes = manifest["bundle_version"], dict(manifest["files"])
        except (KeyError, ValueError, TypeError, RecursionError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self._path}: not a bundle: {MANIFEST} is missing") from error
        if version != BUNDLE_VERSION:
            raise BundleError(
                f"{self._path}: bundle_version {version}; this program reads {BUNDLE_VERSION}"
            )
        return hashes

    def _read(self, path: str) -> pa.BufferReader:
        name = self.normalize_path(path)
        expected = self._hashes.get(name)
        if expected is None:
            raise FileNotFoundError(f"{self._path}: no {name} in this bundle")
        try:
            content = self._content(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self._path}: {name} is damaged") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(f"{self._path}: {name} is damaged: its SHA-256 differs")
        return pa.BufferReader(content)

    def _content(self, name: str) -> bytes:
        """A file of the archive; one that a small archive expands to fill the memory is refused."""
        info = self._archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED and info.file_size > _LARGEST_EXPANDED:
            raise BundleError(
                f"{self._path}: {name} expands to {info.file_size:,} bytes; allowed: "
                f"{_LARGEST_EXPANDED:,}, or a file that is stored as it is"
            )
        return self._archive.read(info)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _BundleHandler):
            return NotImplemented
        return (self._filesystem, self._path) == (other._filesystem, other._path)

    def __hash__(self) -> int:
        return hash(self._path)

    def get_type_name(self) -> str:
        return "bundle"

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [self._info(self.normalize_path(path)) for path in paths]

    def _info(self, name: str) -> pafs.FileInfo:
        if name in self._hashes:
            size = self._archive.getinfo(name).file_size
            return pafs.FileInfo(name, pafs.FileType.File, size=size)
        is_folder = not name or any(known.startswith(f"{name}/") for known in self._hashes)
        return pafs.FileInfo(name, pafs.FileType.Directory if is_folder else pafs.FileType.NotFound)

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        folder = self.normalize_path(selector.base_dir)
        prefix = f"{folder}/" if folder else ""
        below = [name.removeprefix(prefix) for name in self._hashes if name.startswith(prefix)]
        if not below and not selector.allow_not_found:
            raise FileNotFoundError(f"{self._path}: no {folder} in this bundle")
        names = set(below) if selector.recursive else {name.partition("/")[0] for name in below}
        return [self._info(prefix + name) for name in sorted(names)]

    def open_input_stream(self, path: str) -> pa.BufferReader:
        return self._read(path)

    def open_input_file(self, path: str) -> pa.BufferReader:
        return self._read(path)

    def _refuse(self, *_: object) -> Any:
        raise BundleError(f"{self._path}: a bundle cannot be written to")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
