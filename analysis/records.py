"""The base of the records that `verdict.json` is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """A dataclass whose fields, in their order, are the keys of a JSON object."""

    def to_json(self) -> dict[str, Any]:
        """The record and all records inside it as plain dictionaries and lists."""
        return asdict(self)
