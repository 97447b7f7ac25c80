"""Base classes of everything in a study file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

LARGEST_SETTING = 1e9
"""No setting is meant to be larger; a typing error must not exhaust a machine's memory."""


class Section(BaseModel):
    """A section of a study file: unknown keys, wrong types and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ChoiceWithOptions(BaseModel):
    """A choice whose other keys are options, which the chosen object checks."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not fields."""
        return dict(self.model_extra or {})

    def label_with_options(self, name: str) -> str:
        """Text for tables and cell ids: the name, then every option.

        Args:
            name: what comes before the options.
        """
        options = (f"{key}={short_text(value)}" for key, value in sorted(self.options.items()))
        return "-".join([name, *options])


def short_text(value: Any) -> str:
    """A value inside a label; the last component of a path, because `/` separates labels."""
    return f"{value:g}" if isinstance(value, float) else str(value).rstrip("/").rpartition("/")[2]


def name_alone(value: Any) -> Any:
    """Expand the short form of a choice: `mae` stands for `{name: mae}`."""
    return {"name": value} if isinstance(value, str) else value
