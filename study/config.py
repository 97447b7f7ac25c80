"""The study file: YAML in, a validated `StudyConfig` out, or one clear line.

Unknown keys are refused. Every message names the key, the value found and what is allowed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from study.errors import BadInputError
from trainables import datasets, losses, models, noise
from trainables.optimisation import SCHEDULES


class StudyFileError(BadInputError):
    """A study file that cannot be run; the message is one line for the user."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(value: Any) -> Any:
    """`mae` is short for `{name: mae}`."""
    return {"name": value} if isinstance(value, str) else value


class DatasetChoice(_Section):
    """A data set; `classes` keeps the first so many classes."""

    name: str
    classes: int | None = None
    root: str | None = None

    @model_validator(mode="after")
    def _exists(self) -> DatasetChoice:
        there = datasets.info(self.name).classes
        if self.classes is not None and not 2 <= self.classes <= there:
            raise ValueError(f"classes = {self.classes}: {self.name} allows 2 to {there}")
        return self

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        return self.name if self.classes is None else f"{self.name}-{self.classes}"


class NoiseChoice(_Section):
    """Label noise put on training and validation labels."""

    kind: str
    rate: float

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in noise.names():
            raise ValueError(f"unknown noise kind{_did_you_mean(kind, noise.names())}")
        return kind

    @field_validator("rate")
    @classmethod
    def _fraction(cls, rate: float) -> float:
        if not 0.0 <= rate <= 1.0:
            raise ValueError("a noise rate is a fraction from 0 to 1")
        return rate

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        return "clean" if self.rate == 0 else f"{self.kind}-{self.rate:g}"


class ModelChoice(BaseModel):
    """A model of `trainables.models`; further keys are the model's own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    init: Literal["glorot_uniform", "kaiming_normal"] = "glorot_uniform"

    @property
    def options(self) -> dict[str, Any]:
        """What the model's class is called with."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        text = models.label(self.name, self.options)
        return text if self.init == "glorot_uniform" else f"{text}-{self.init}"

    @model_validator(mode="after")
    def _known(self) -> ModelChoice:
        models.check(self.name, self.options)
        return self


class LossChoice(BaseModel):
    """A loss of `trainables.losses`; further keys are its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def params(self) -> dict[str, float]:
        """Parameters that differ from the loss's defaults."""
        return dict(self.model_extra or {})

    @property
    def params_json(self) -> str:
        """The parameters as the column `loss_params` holds them."""
        return json.dumps(self.params, sort_keys=True)

    @property
    def label(self) -> str:
        """Short text for tables and cell ids."""
        return "-".join([self.name, *(f"{k}={v:g}" for k, v in sorted(self.params.items()))])

    @property
    def takes_epsilon(self) -> bool:
        """Whether a study searches a logit bias for this loss."""
        return losses.get(self.name).searches_epsilon

    @model_validator(mode="after")
    def _known(self) -> LossChoice:
        known = {p.name: p for p in losses.get(self.name).parameters}
        for name, value in self.params.items():
            if name not in known:
                raise ValueError(f"{self.name} has no parameter {name}{_did_you_mean(name, known)}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} = {value!r}: a number is wanted")
        return self


class Range(_Section):
    """Values from `low` to `high`; `log` searches their logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g}, high = {self.high:g}: low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g}: a log range must start above 0")
        return self


class Grid(_Section):
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
    def _buildable(self) -> Grid:
        for dataset in self.dataset:
            about = datasets.info(dataset.name)
            for model in self.model:
                with torch.device("meta"):  # shapes only: nothing is allocated or drawn
                    models.build(
                        model.name,
                        about.input_shape,
                        dataset.classes or about.classes,
                        model.options,
                    )
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


class RecipeChoice(_Section):
    """What all networks of the study have in common."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    schedule: str = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)

    @field_validator("schedule")
    @classmethod
    def _known(cls, schedule: str) -> str:
        if schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule{_did_you_mean(schedule, SCHEDULES)}")
        return schedule


class Search(_Section):
    """The adaptive stage: every arm of every cell gets `networks_per_cell` networks."""

    sampler: Literal["tpe", "random"] = "tpe"
    networks_per_cell: int = Field(ge=1)
    epsilon: Range
    lr: Range
    select_on: Literal["val_noisy", "val_clean"] = "val_noisy"

    @field_validator("lr")
    @classmethod
    def _positive(cls, lr: Range) -> Range:
        if lr.low <= 0:
            raise ValueError(f"low = {lr.low:g}: a learning rate is above 0")
        return lr

    @property
    def value_column(self) -> str:
        """The `trials` column that the search maximises."""
        return {"val_noisy": "val_acc_noisy", "val_clean": "val_acc_clean"}[self.select_on]


class Sweep(_Section):
    """The fixed grid: `points` ε values over search.epsilon, plus 0 and every analytic ε.

    Each ε is trained at `lr_points` learning rates over search.lr, so that the analysis can tune
    the learning rate out.
    """

    points: int = Field(ge=2)
    seeds: int = Field(ge=1)
    lr_points: int = Field(default=3, ge=1)


ARM_RULES = ("activation", "activation-measured")
_PLAIN_ARMS = ("tuned", "zero", "half", "double", "ce")


class Confirm(_Section):
    """The measuring stage: arms retrained on fresh paired seeds."""

    seeds: int = Field(ge=2)
    arms: list[str] = ["tuned", "analytic:activation", "zero", "ce"]

    @field_validator("arms")
    @classmethod
    def _known(cls, arms: list[str]) -> list[str]:
        allowed = [*_PLAIN_ARMS, *(f"analytic:{rule}" for rule in ARM_RULES)]
        for arm in arms:
            if arm not in allowed:
                raise ValueError(f"unknown arm {arm!r}{_did_you_mean(arm, allowed)}")
        if len(set(arms)) < len(arms):
            raise ValueError("an arm is given twice")
        if "tuned" not in arms or not any(arm.startswith("analytic:") for arm in arms):
            raise ValueError("arms must contain tuned and at least one analytic:<rule>")
        return arms


class LogitBias(_Section):
    """How analytic ε is computed: the mean initial activation that ε must bring about.

    `target: null` is the paper's anchor (10 classes, ε = 0.5, σ = 1).
    """

    target: float | None = Field(default=None, gt=0, lt=1)


class Analysis(_Section):
    """What counts as agreement: a regret below `margin`, a fraction of accuracy."""

    margin: float = Field(default=0.005, gt=0, lt=1)


class Resources(_Section):
    """What one cohort asks of a machine; null is chosen from the machine."""

    workers: int | None = Field(default=None, ge=1)
    gpus_per_cohort: float | None = Field(default=None, ge=0)
    networks_per_cohort: int | None = Field(default=None, ge=1)


class StudyConfig(_Section):
    """A whole study file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    grid: Grid
    recipe: RecipeChoice
    search: Search
    sweep: Sweep | None = None
    confirm: Confirm | None = None
    logit_bias: LogitBias = LogitBias()
    analysis: Analysis = Analysis()
    resources: Annotated[
        Resources, BeforeValidator(lambda value: {} if value == "auto" else value)
    ] = Resources()
    storage: str = "results/"

    @property
    def folder_uri(self) -> str:
        """Where the study is kept."""
        return f"{self.storage.rstrip('/')}/{self.name}"


def presets() -> list[str]:
    """Names of the studies that ship with the package."""
    folder = resources.files("study") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name[-5:] == ".yaml")


def read_study(study: str) -> tuple[StudyConfig, bytes]:
    """A study file, or a preset's name, as configuration and as the bytes that were read.

    Raises
    ------
    StudyFileError: no such file or preset, or its content is not a valid study.
    """
    path = Path(study)
    if path.is_file():
        content = path.read_bytes()
    elif study in presets():
        content = (resources.files("study") / "presets" / f"{study}.yaml").read_bytes()
    else:
        raise StudyFileError(
            f"{study}: neither a study file nor a preset{_did_you_mean(study, presets())}"
        )
    return parse_study(content, source=study), content


def parse_study(content: bytes, source: str) -> StudyConfig:
    """The study that a YAML text describes; `source` names it in messages.

    Raises
    ------
    StudyFileError: not YAML, or not a valid study.
    """
    try:
        data = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyFileError(f"{source}:{line} {problem}") from error
    if not isinstance(data, dict):
        raise StudyFileError(f"{source}: a study file is a mapping of keys to values")
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        first, *more = error.errors()
        rest = f" (and {len(more)} more)" if more else ""
        raise StudyFileError(f"{source}: {_one_line(first, data)}{rest}") from error


def sha256(content: bytes) -> str:
    """What `config_sha256` holds: the hash of the study file as run."""
    return hashlib.sha256(content).hexdigest()


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"key {key!r} given twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


def _one_line(error: Any, data: dict[str, Any]) -> str:
    """`grid.noise[0].rate = 1.3: a noise rate is a fraction from 0 to 1`."""
    location = _in_file(error["loc"], data)
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1])
        return f"{key}: unknown key{_did_you_mean(str(location[-1]), allowed)}"
    if error["type"] == "missing":
        return f"{key}: this key is needed"
    problem = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    value = error["input"]
    if isinstance(value, dict | list):
        return f"{key}: {problem}" if key else problem
    return f"{key} = {value!r}: {problem}"


def _in_file(location: tuple[Any, ...], data: Any) -> list[Any]:
    """A pydantic location without the parts (union tags, short forms) that no file has."""
    kept = []
    for position, part in enumerate(location):
        if isinstance(data, dict) and (part in data or position == len(location) - 1):
            kept.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            kept.append(part)
            data = data[part]
    return kept


def _allowed_keys(location: list[Any]) -> list[str]:
    section: Any = StudyConfig
    for part in location:
        if isinstance(part, int):
            continue
        section = _section_of(section.model_fields[part].annotation)
        if section is None:
            return []
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None


def _did_you_mean(word: str, allowed: Any) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"; allowed: {', '.join(allowed)}{hint}"
