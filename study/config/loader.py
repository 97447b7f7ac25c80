"""Reading a study file: from YAML to a validated `StudyConfig`, or to a one-line error.

Every message names the key, its value and what is allowed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from study.config.choices import Importable, Imports
from study.config.sections import StudyConfig
from study.config.shipped import preset_bytes, presets
from study.results.credentials import without_credentials
from study.results.study_files import is_in_study_folder
from trainables.errors import BadInputError, did_you_mean


class StudyFileError(BadInputError):
    """A study file that cannot be run; the message is one line for the user."""


def read_study(study: str, trust: bool = False) -> tuple[StudyConfig, bytes]:
    """Read a study file or a preset.

    Args:
        study: path of a study file, or name of a preset.
        trust: whether names `package.module:name` may be imported although the file lies in a study
            folder; from any other file, which the user wrote, they always are.

    Returns:
        The study, and the bytes that were read.

    Raises:
        StudyFileError: no such file or preset, or its content is not a valid study.
    """
    path = Path(study)
    try:
        content = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise StudyFileError(f"{study[:100]}: cannot be read: {error.strerror}") from error
    if content is None:
        if study not in presets():
            raise StudyFileError(
                f"{study}: neither a study file nor a preset{did_you_mean(study, presets())}"
            )
        content = preset_bytes(study)
    importable = None if trust or not is_in_study_folder(path) else ()
    return parse_study(content, study, importable), content


def parse_study(content: bytes, source: str, importable: Importable = None) -> StudyConfig:
    """The study that a YAML text describes.

    Args:
        content: the text.
        source: its name in messages.
        importable: names `package.module:name` that may be imported, which runs code; None for all
            of them. Text from a study folder, which somebody else may have made, needs a limit.

    Raises:
        StudyFileError: not YAML, or not a valid study.
    """
    try:
        data = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyFileError(f"{source}:{line} {problem}") from error
    if not isinstance(data, dict):
        raise StudyFileError(f"{source}: a study file is a mapping of keys to values")
    try:
        # Importing what a user defined may take seconds, so everything else is checked first.
        config = StudyConfig.model_validate(data, context=Imports(importable, deferred=True))
        if not config.importable:
            return config
        return StudyConfig.model_validate(data, context=Imports(importable))
    except ValidationError as error:
        first, *more = error.errors()
        rest = f" (and {len(more)} more)" if more else ""
        raise StudyFileError(f"{source}: {_one_line(first, data)}{rest}") from error


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        key_nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in key_nodes]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = key_nodes[position].start_mark
                raise yaml.MarkedYAMLError(problem=f"key {key!r} given twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as a string; every other program reads a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _one_line(error: Any, data: dict[str, Any]) -> str:
    """One line such as `grid.noise[0].rate = 1.3: a noise rate is a fraction from 0 to 1`."""
    location = _in_file(error["loc"], data)
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1])
        return f"{key}: unknown key{did_you_mean(str(location[-1]), allowed)}"
    if error["type"] == "missing":
        return f"{key}: this key is needed"
    problem = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    problem = " ".join(problem.split())
    value = error["input"]
    if isinstance(value, dict | list):
        return f"{key}: {problem}" if key else problem
    shown = without_credentials(repr(value))
    return f"{key} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {problem}"


def _in_file(location: tuple[Any, ...], data: Any) -> list[Any]:
    """A pydantic location without union tags and short forms, which are not in the file."""
    kept = []
    for position, step in enumerate(location):
        if isinstance(data, dict) and (step in data or position == len(location) - 1):
            kept.append(step)
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            kept.append(step)
            data = data[step]
    return kept


def _allowed_keys(location: list[Any]) -> list[str]:
    section: Any = StudyConfig
    for key in location:
        if isinstance(key, int):
            continue
        section = _section_of(section.model_fields[key].annotation)
        if section is None:
            return []
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        section = _section_of(argument)
        if section is not None:
            return section
    return None
