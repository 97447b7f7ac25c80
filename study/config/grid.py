"""The grid of a study file: its cells are the product of data sets, noises, models and losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from study.config.base import Section, name_alone
from study.config.choices import DatasetChoice, Imports, LossChoice, ModelChoice, NoiseChoice
from trainables import models, noise

LISTS = ("dataset", "noise", "model", "loss")
"""The keys of `Grid` whose product the cells are, in the order of a cell id."""

_Loss = Annotated[LossChoice, BeforeValidator(name_alone)]


class Grid(Section):
    """The grid: its cells are the product of these lists.

    Attributes:
        dataset: data sets.
        noise: label noises.
        model: models.
        loss: one cell per loss, or `joint`: one cell whose search also chooses the loss.
        losses: with `loss: joint`, the losses to choose from.
    """

    dataset: list[Annotated[DatasetChoice, BeforeValidator(name_alone)]] = Field(min_length=1)
    noise: list[NoiseChoice] = Field(min_length=1)
    model: list[Annotated[ModelChoice, BeforeValidator(name_alone)]] = Field(min_length=1)
    loss: Annotated[
        Annotated[Literal["joint"], Tag("joint")] | Annotated[list[_Loss], Tag("each")],
        Discriminator(lambda value: "joint" if isinstance(value, str) else "each"),
    ]
    losses: list[_Loss] | None = None

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Grid:
        """Every noise and every model must fit every data set."""
        imports = Imports.of(info)
        for dataset in self.dataset:
            data = dataset.info
            for choice in self.noise:
                try:
                    noise.check(data, choice.kind, choice.rate, **choice.options)
                except TypeError as error:
                    raise ValueError(f"noise kind {choice.kind}: {error}") from error
                if "clean_label" in dataset.options and noise.get(choice.kind).truth_is_known:
                    raise ValueError(
                        f"noise kind {choice.kind} adds noise to correct labels, and data set "
                        f"{dataset.name} has a column clean_label beside its own; allowed: as-is"
                    )
            for model in self.model:
                if ":" not in model.name:
                    models.check_inputs(model.name, data.input_shape, model.options)
                elif imports.may_check(model.name):
                    _try_model(model, data.input_shape, data.classes)
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


def _try_model(model: ModelChoice, input_shape: tuple[int, ...], classes: int) -> None:
    """Build two networks of a user's model and run them, on shapes alone and on numbers."""
    import torch

    from trainables.stacking import UnsupportedLayerError, check_stacking, stack

    with torch.device("meta"):
        network = models.build(model.name, input_shape, classes, model.options)
        try:
            logits = stack(network, 2)(torch.empty(3, *input_shape))
        except UnsupportedLayerError as error:
            raise ValueError(f"model {model.name}: {error}") from error
        except Exception as error:  # a user-defined module may raise anything
            raise ValueError(
                f"model {model.name} on {input_shape}: {_first_line(error)}"
            ) from error
    if logits.shape != (2, 3, classes):
        raise ValueError(
            f"model {model.name}: logits of shape {tuple(logits.shape[1:])} for 3 examples of "
            f"{classes} classes; (3, {classes}) is required"
        )
    if model.init_gain != 1.0 and models.classifier(network).out_features != classes:
        raise ValueError(
            f"model {model.name}: init_gain = {model.init_gain:g} multiplies the last linear "
            f"layer, which has {models.classifier(network).out_features} outputs; {classes} "
            "(the classes) are required"
        )
    network = models.build(model.name, input_shape, classes, model.options)
    try:
        check_stacking(stack(network, 1), input_shape)
    except Exception as error:  # a user-defined module may raise anything
        raise ValueError(f"model {model.name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
