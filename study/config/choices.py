"""The choices in a study's grid: a data set, a label noise, a model, a loss."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from study.config.base import LARGEST_SETTING, ChoiceWithOptions, short_text
from trainables import datasets, losses, models, noise
from trainables.errors import did_you_mean

Importable = Collection[str] | None
"""The names `package.module:name` that may be imported; None for all."""


@dataclass(frozen=True)
class Imports:
    """Which names `package.module:name` are imported, to check what they name.

    It is the context with which pydantic validates a study file; without one, all are imported.

    Attributes:
        allowed: names that may be imported; others are refused.
        deferred: whether nothing is imported yet, and what only an import can tell goes unchecked.
    """

    allowed: Importable = None
    deferred: bool = False

    @classmethod
    def of(cls, info: ValidationInfo) -> Imports:
        """The context of a validation."""
        return cls() if info.context is None else info.context

    def may_check(self, name: str) -> bool:
        """Whether what a choice names can be looked at now."""
        return not (self.deferred and ":" in name)


class ImportableChoice(ChoiceWithOptions):
    """A choice that may be imported: importing `package.module:name` runs that module's code.

    Attributes:
        name: a name that the program knows, or `package.module:name`.
    """

    name: str

    @field_validator("name")
    @classmethod
    def _may_be_imported(cls, name: str, info: ValidationInfo) -> str:
        allowed = Imports.of(info).allowed
        if ":" in name and allowed is not None and name not in allowed:
            raise ValueError(
                "importing it would run code that a study folder names; --trust allows it, if you "
                "trust whoever made the folder"
            )
        return name


class DatasetChoice(ChoiceWithOptions):
    """A data set. Further keys are options of `trainables.datasets.load`.

    Attributes:
        name: a named data set, or your own file or folder.
        classes: number of classes to keep, the first ones; None keeps all.
        root: folder of the data; None for the usual one.
    """

    name: str
    classes: int | None = None
    root: str | None = None

    @model_validator(mode="after")
    def _exists(self) -> DatasetChoice:
        _ = self.info
        return self

    @property
    def info(self) -> datasets.DatasetInfo:
        """Classes, shape and sizes, without reading the examples."""
        return datasets.info(self.name, classes=self.classes, root=self.root, **self.options)

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        name = short_text(self.name)
        return self.label_with_options(name if self.classes is None else f"{name}-{self.classes}")


class NoiseChoice(ChoiceWithOptions):
    """Noise on training and validation labels. Further keys are options of `noise.corrupt`.

    Attributes:
        kind: a kind of noise, see `trainables.noise`.
        rate: share of wrong labels, in [0, 1]; None for kinds that have their own rate.
    """

    kind: str
    rate: float | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in noise.names():
            raise ValueError(f"unknown noise kind{did_you_mean(kind, noise.names())}")
        return kind

    @field_validator("rate")
    @classmethod
    def _fraction(cls, rate: float | None) -> float | None:
        if rate is not None and not 0.0 <= rate <= 1.0:
            raise ValueError("a noise rate is a fraction from 0 to 1")
        return rate

    @model_validator(mode="after")
    def _rate_where_needed(self) -> NoiseChoice:
        if (self.rate is None) != noise.get(self.kind).has_own_rate:
            needs = "needs a `rate`" if self.rate is None else "has its own rate: leave `rate` out"
            raise ValueError(f"noise kind {self.kind} {needs}")
        return self

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        if self.rate == 0:
            return "clean"
        name = self.kind if self.rate is None else f"{self.kind}-{self.rate:g}"
        return self.label_with_options(name)


class ModelChoice(ImportableChoice):
    """A model of `trainables.models`. Further keys are the model's options.

    Attributes:
        name: a named model, or your own `package.module:Class`.
        init: initialisation of the weights.
        init_gain: factor on the classifier's initial weights. The spread of the initial logits is
            proportional to it.
    """

    init: Literal["glorot_uniform", "kaiming_normal", "kaiming_glorot"] = "glorot_uniform"
    init_gain: float = Field(default=1.0, gt=0.0, le=LARGEST_SETTING)

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        text = models.label(self.name, self.options)
        if self.init != "glorot_uniform":
            text += f"-{self.init}"
        return text if self.init_gain == 1.0 else f"{text}-gain={short_text(self.init_gain)}"

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> ModelChoice:
        if Imports.of(info).may_check(self.name):
            models.check(self.name, self.options)
        return self


class LossChoice(ImportableChoice):
    """A loss of `trainables.losses`. Further keys are its parameters.

    Attributes:
        name: a named loss, or your own `package.module:function`.
        preset: published parameter values; parameters given here take precedence.
    """

    preset: str | None = None

    @property
    def params(self) -> dict[str, float]:
        """Parameters that differ from the loss's defaults."""
        preset = losses.get(self.name).preset(self.preset) if self.preset else {}
        return {**preset, **self.options}

    @property
    def weight_l1(self) -> float:
        """Coefficient of ‖θ‖₁ that the preset adds to the loss."""
        loss = losses.get(self.name)
        return next((p.weight_l1 for p in loss.presets if p.name == self.preset), 0.0)

    @property
    def params_json(self) -> str:
        """The parameters as the column `loss_params` holds them."""
        return json.dumps(self.params, sort_keys=True)

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        name = self.name if self.preset is None else f"{self.name}-{self.preset}"
        return self.label_with_options(name)

    @property
    def takes_epsilon(self) -> bool:
        """Whether a study searches a logit bias for this loss."""
        return losses.get(self.name).searches_epsilon

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> LossChoice:
        if not Imports.of(info).may_check(self.name):
            return self
        loss = losses.get(self.name)
        for name, value in self.options.items():
            if name not in loss.defaults:
                hint = did_you_mean(name, loss.defaults) if loss.defaults else "; it takes none"
                raise ValueError(f"{self.name} has no parameter {name}{hint}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r}: must be a number")
            if abs(value) > LARGEST_SETTING:
                raise ValueError(f"{name}: at most {LARGEST_SETTING:g} in size")
        loss.check(**self.params)
        if ":" in self.name:
            _try_loss(self.name, self.params)
        return self


def _try_loss(name: str, params: dict[str, float]) -> None:
    """Evaluate a user's loss once: a wrong result is refused before anything runs."""
    import torch

    try:
        values = losses.evaluate(
            losses.get(name), torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), **params
        )
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name} is no loss of logits and labels: {error}") from error
    if not isinstance(values, torch.Tensor) or values.shape != (2, 3):
        raise ValueError(f"{name} must return one value per example, without reducing")
