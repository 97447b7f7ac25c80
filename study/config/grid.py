"""The grid of a study file: which data sets, noises, models and losses there are to choose."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from trainables import datasets, losses, models, noise
from trainables.errors import did_you_mean
from trainables.stacking import UnsupportedLayerError, check_stacking, stack

_LARGEST = 1e9  # no setting is meant to be larger; keeps typing errors from filling a machine


class Section(BaseModel):
    """A part of a study file: unknown keys, wrong types and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _named(value: Any) -> Any:
    """`mae` is short for `{name: mae}`."""
    return {"name": value} if isinstance(value, str) else value


class _WithOptions(BaseModel):
    """Further keys are options, checked by whoever takes them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not fields."""
        return dict(self.model_extra or {})

    def _labelled(self, name: str) -> str:
        return "-".join([name, *(f"{k}={_short(v)}" for k, v in sorted(self.options.items()))])


class DatasetChoice(_WithOptions):
    """A data set; `classes` keeps the first so many classes. Further keys: `datasets.load`."""

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
        name = _short(self.name)
        return self._labelled(name if self.classes is None else f"{name}-{self.classes}")


class NoiseChoice(_WithOptions):
    """Label noise on training and validation labels. Further keys: `noise.corrupt`."""

    kind: str
    rate: float | None = None  # None: kinds with a rate of their own

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
    def _needs_rate(self) -> NoiseChoice:
        if (self.rate is None) != (self.kind in noise.OWN_RATE):
            needs = "needs a `rate`" if self.rate is None else "has its own rate: leave `rate` out"
            raise ValueError(f"noise kind {self.kind} {needs}")
        return self

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        if self.rate == 0:
            return "clean"
        return self._labelled(self.kind if self.rate is None else f"{self.kind}-{self.rate:g}")


class ModelChoice(_WithOptions):
    """A model of `trainables.models`; further keys are the model's own options."""

    name: str
    init: Literal["glorot_uniform", "kaiming_normal", "kaiming_glorot"] = "glorot_uniform"

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        text = models.label(self.name, self.options)
        return text if self.init == "glorot_uniform" else f"{text}-{self.init}"

    @model_validator(mode="after")
    def _known(self) -> ModelChoice:
        models.check(self.name, self.options)
        return self


class LossChoice(_WithOptions):
    """A loss of `trainables.losses`; further keys are its parameters, or one `preset`."""

    name: str
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
        return self._labelled(self.name if self.preset is None else f"{self.name}-{self.preset}")

    @property
    def takes_epsilon(self) -> bool:
        """Whether a study searches a logit bias for this loss."""
        return losses.get(self.name).searches_epsilon

    @model_validator(mode="after")
    def _known(self) -> LossChoice:
        loss = losses.get(self.name)
        for name, value in self.options.items():
            if name not in loss.defaults:
                hint = did_you_mean(name, loss.defaults) if loss.defaults else "; it takes none"
                raise ValueError(f"{self.name} has no parameter {name}{hint}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r}: a number is wanted")
            if abs(value) > _LARGEST:
                raise ValueError(f"{name}: at most {_LARGEST:g} in size")
        loss.check(**self.params)
        _try_loss(self.name, self.params)
        return self


def _try_model(model: ModelChoice, input_shape: tuple[int, ...], classes: int) -> None:
    """Build two networks and run them on shapes alone; a user's own also on a few numbers."""
    with torch.device("meta"):
        network = models.build(model.name, input_shape, classes, model.options)
        try:
            logits = stack(network, 2)(torch.empty(3, *input_shape))
        except UnsupportedLayerError as error:
            raise ValueError(f"model {model.name}: {error}") from error
        except Exception as error:  # whatever a user's module does
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"model {model.name} on {input_shape}: {problem}") from error
    if logits.shape != (2, 3, classes):
        raise ValueError(
            f"model {model.name}: logits of shape {tuple(logits.shape[1:])} for 3 examples of "
            f"{classes} classes; (3, {classes}) is wanted"
        )
    if ":" in model.name:
        network = models.build(model.name, input_shape, classes, model.options)
        try:
            check_stacking(stack(network, 1), input_shape)
        except Exception as error:  # whatever a user's module does
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"model {model.name}: {problem}") from error


def _try_loss(name: str, params: dict[str, float]) -> None:
    """Evaluate a loss once, so that one that reduces or is none is refused before anything runs."""
    try:
        found = losses.evaluate(
            losses.get(name), torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), **params
        )
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name} is no loss of logits and labels: {error}") from error
    if not isinstance(found, torch.Tensor) or found.shape != (2, 3):
        raise ValueError(f"{name} must return one value an example, without reducing")


def _short(value: Any) -> str:
    """An option's value inside a label; of a path its last part, so that `/` separates parts."""
    return f"{value:g}" if isinstance(value, float) else str(value).rstrip("/").rpartition("/")[2]


class Grid(Section):
    """The cells: the product of these."""

    dataset: list[Annotated[DatasetChoice, BeforeValidator(_named)]] = Field(min_length=1)
    noise: list[NoiseChoice] = Field(min_length=1)
    model: list[Annotated[ModelChoice, BeforeValidator(_named)]] = Field(min_length=1)
    loss: Annotated[
        Annotated[Literal["joint"], Tag("joint")]
        | Annotated[list[Annotated[LossChoice, BeforeValidator(_named)]], Tag("each")],
        Discriminator(lambda value: "joint" if isinstance(value, str) else "each"),
    ]
    losses: list[Annotated[LossChoice, BeforeValidator(_named)]] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Grid:
        """Every model can be stacked and run on every data set, and every noise be put on it."""
        for dataset in self.dataset:
            info = dataset.info
            for kind in self.noise:
                try:
                    noise.check(info, kind.kind, kind.rate, **kind.options)
                except TypeError as error:
                    raise ValueError(f"noise kind {kind.kind}: {error}") from error
            for model in self.model:
                _try_model(model, info.input_shape, info.classes)
        return self

    @model_validator(mode="after")
    def _joint_or_not(self) -> Grid:
        if (self.loss == "joint") != bool(self.losses):
            raise ValueError("`losses: [...]` goes with `loss: joint`, and only with it")
        if not self.loss:
            raise ValueError("loss = []: at least one loss, or `joint`")
        for key in ("dataset", "noise", "model", "loss", "losses"):
            labels = [c.label for c in getattr(self, key) or [] if not isinstance(c, str)]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"{key}: {', '.join(twice)} given twice")
        return self
