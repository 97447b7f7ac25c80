"""The study files of a study folder: the present one, and those of earlier runs.

    study.yaml                       the study file as run
    study-files/<n>-<sha256>.yaml    what it was in earlier runs, the oldest first

A row names the study file that it was trained with by its hash (column `config_sha256`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from study.results.folder import STUDY_FILE, StudyFolder
from study.results.schema import STAGES

FOLDER_OF_EARLIER = "study-files"
_HASH_LENGTH = 16
_MARKS = (  # one of them makes a folder a study folder
    *(f"trials/{stage}" for stage in STAGES),
    *("plan.json", "noise.parquet", ".driver", FOLDER_OF_EARLIER),
)


def earlier_study_files(folder: StudyFolder) -> list[bytes]:
    """The study files of earlier runs, the oldest first; empty where the study has one."""
    names = folder.file_names(FOLDER_OF_EARLIER)
    contents = [
        folder.read_bytes(f"{FOLDER_OF_EARLIER}/{name}") for name in names if name[-5:] == ".yaml"
    ]
    return [content for content in contents if content is not None]


def replace_study_file(folder: StudyFolder, content: bytes) -> None:
    """Make `content` the study file, and keep the present one among the earlier ones.

    Only a study's driver may call it. If it is interrupted, the next call completes it.
    """
    present = folder.read_bytes(STUDY_FILE)
    if present is not None:
        keep_study_file(folder, present)
    folder.write_bytes(STUDY_FILE, content)


def keep_study_file(folder: StudyFolder, content: bytes) -> None:
    """Add a study file to the earlier ones, unless it is the latest of them."""
    earlier = earlier_study_files(folder)
    if earlier and earlier[-1] == content:
        return
    name = f"{len(earlier):04d}-{sha256(content)[:_HASH_LENGTH]}.yaml"
    folder.write_bytes(f"{FOLDER_OF_EARLIER}/{name}", content)


def is_in_study_folder(path: Path) -> bool:
    """Whether a file lies in a study folder, and is therefore not the user's own."""
    folder = path.resolve().parent
    return folder.name == FOLDER_OF_EARLIER or any((folder / mark).exists() for mark in _MARKS)


def sha256(content: bytes) -> str:
    """Hash of a study file, the column `config_sha256`."""
    return hashlib.sha256(content).hexdigest()
