"""The sections of a study file: their keys, and which values are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import BeforeValidator, Field, field_validator, model_validator

from study import samplers
from study.config.base import Section
from study.config.grid import Grid
from study.results.arms import BEST, TUNED, Arm
from study.results.credentials import REFUSED, has_credentials
from study.results.object_store import storage_error
from trainables import noise
from trainables.engine.augment_settings import AugmentationSettings


class SearchRange(Section):
    """The range of a searched number.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether the logarithm is searched.
    """

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> SearchRange:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g}, high = {self.high:g}: low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g}: a log range must start above 0")
        return self

    def at(self, share: float) -> float:
        """The value at a share of the range, or of its logarithm where `log`.

        Args:
            share: in [0, 1]; 0 is `low`, 1 is `high`.
        """
        if self.log:
            return float(min(self.high, self.low * (self.high / self.low) ** share))
        return float(self.low + share * (self.high - self.low))


class RecipeChoice(Section):
    """Settings of all networks of the study; see `trainables.engine.spec.Recipe`."""

    epochs: int = Field(ge=1, le=1_000_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=lambda: [0.5, 0.75]
    )
    gamma: float = Field(default=0.1, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    precision: Literal["float32", "bf16"] = "float32"
    deterministic: bool = False
    compile: bool = False
    epsilon_schedule: Literal["constant", "linear", "cosine", "step"] = "constant"
    augment: dict[str, Any] = Field(default_factory=dict)

    @field_validator("augment")
    @classmethod
    def _known(cls, augment: dict[str, Any]) -> dict[str, Any]:
        AugmentationSettings.from_dict(augment)
        return augment

    @model_validator(mode="after")
    def _warmup_ends(self) -> RecipeChoice:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs:g}: below epochs = {self.epochs}"
            )
        return self


class RungChoice(Section):
    """A rung of successive halving.

    Attributes:
        epoch: the epoch after which networks are pruned.
        keep: share of the networks in an arm's round that continue; the best ones do.
    """

    epoch: int = Field(ge=1)
    keep: float = Field(gt=0, lt=1)


class GridSize(Section):
    """Size of a grid search; values are evenly spaced over the range, ends included.

    Attributes:
        epsilon: number of ε values.
        lr: number of learning rates.
    """

    epsilon: int = Field(ge=1, le=1_000)
    lr: int = Field(ge=1, le=1_000)


class Search(Section):
    """The adaptive stage: the same number of networks for every arm of every cell.

    Attributes:
        sampler: a name in `study.samplers`.
        grid: size of the grid, for `sampler: grid`.
        networks_per_cell: number of networks per arm and cell, and per replicate.
        replicates: number of searches of every arm, each with fresh seeds; more than one goes with
            the arm `best`.
        worker_hours: training time of all workers together after which the search ends early;
            every arm then still has the same number of rounds.
        points_per_round: number of points that an arm proposes at a time and trains side by side.
        rounds_in_flight: number of rounds of an arm that may be in training at a time.
        rungs: successive halving within each round.
        epsilon: range of the logit bias ε.
        lr: range of the learning rate, logarithmic unless `log: false`.
        select_on: validation accuracy that the search maximises, on noisy or clean labels.
    """

    sampler: str = "tpe"
    grid: GridSize | None = None
    networks_per_cell: int = Field(ge=1, le=100_000)
    replicates: int = Field(default=1, ge=1, le=1_000)
    worker_hours: float | None = Field(default=None, gt=0)
    points_per_round: int = Field(default=1, ge=1, le=1_000)
    rounds_in_flight: int = Field(default=1, ge=1, le=1_000)
    rungs: list[RungChoice] = Field(default_factory=list)
    epsilon: SearchRange
    lr: SearchRange
    select_on: Literal["val_noisy", "val_clean"] = "val_noisy"

    @field_validator("sampler")
    @classmethod
    def _known(cls, sampler: str) -> str:
        samplers.get(sampler)
        return sampler

    @field_validator("lr", mode="before")
    @classmethod
    def _logarithmic(cls, lr: Any) -> Any:
        return {"log": True, **lr} if isinstance(lr, dict) else lr

    @field_validator("lr")
    @classmethod
    def _positive(cls, lr: SearchRange) -> SearchRange:
        if lr.low <= 0:
            raise ValueError(f"low = {lr.low:g}: a learning rate is above 0")
        return lr

    @model_validator(mode="after")
    def _rungs_have_candidates(self) -> Search:
        if self.rungs and self.points_per_round < 2:
            raise ValueError("rungs: successive halving needs points_per_round of 2 or more")
        return self

    @model_validator(mode="after")
    def _sampler_takes_grid(self) -> Search:
        samplers.get(self.sampler).check(self.grid_shape)
        return self

    @property
    def grid_shape(self) -> tuple[int, int] | None:
        """Number of ε values and of learning rates of a grid search."""
        return None if self.grid is None else (self.grid.epsilon, self.grid.lr)

    @property
    def value_column(self) -> str:
        """The `trials` column that the search maximises."""
        return {"val_noisy": "val_acc_noisy", "val_clean": "val_acc_clean"}[self.select_on]


class Sweep(Section):
    """The stage with a fixed grid of ε and learning rates.

    Attributes:
        points: number of ε values over search.epsilon; 0 and every analytic ε are added.
        seeds: number of seeds of every point.
        lr_points: number of learning rates over search.lr; the analysis uses the best of them.
        until_interval: width of the 95 % interval of the best ε. A cell gets further seeds, one at
            a time, until its interval is at most this wide.
        most_seeds: largest number of seeds with `until_interval`.
    """

    points: int = Field(ge=2, le=1_000)
    seeds: int = Field(ge=1, le=1_000)
    lr_points: int = Field(default=3, ge=1, le=100)
    until_interval: float | None = Field(default=None, gt=0)
    most_seeds: int = Field(default=20, ge=1, le=1_000)

    @model_validator(mode="after")
    def _until_interval_fits(self) -> Sweep:
        if self.until_interval is not None and self.most_seeds < self.seeds:
            raise ValueError(f"most_seeds = {self.most_seeds}: at least seeds = {self.seeds}")
        if self.until_interval is not None and self.points < 4:
            raise ValueError(f"points = {self.points}: until_interval needs 4 or more for a curve")
        return self


_DEFAULT_ARMS = ("tuned", "analytic:activation", "zero", "ce")


class Confirm(Section):
    """The measuring stage: arms retrained on fresh paired seeds.

    Attributes:
        seeds: number of seeds that all arms have in common.
        replicate_seeds: with the arm `best`, number of seeds on which the choices of each replicate
            of the search are measured.
        arms: see `study.results.arms`. A cell has the arm `rescale` only where its losses depend
            on the labelled class's probability alone.
    """

    seeds: int = Field(ge=2, le=10_000)
    replicate_seeds: int = Field(default=3, ge=1, le=1_000)
    arms: list[str] = Field(default_factory=lambda: list(_DEFAULT_ARMS))

    @field_validator("arms")
    @classmethod
    def _known(cls, arms: list[str]) -> list[str]:
        parsed = [Arm.parse(arm) for arm in arms]
        if len(set(parsed)) < len(parsed):
            raise ValueError("an arm is given twice")
        if Arm(TUNED) not in parsed or not any(arm.is_analytic for arm in parsed):
            raise ValueError("arms must contain tuned and at least one analytic:<rule>")
        return arms

    @model_validator(mode="after")
    def _replicates_are_confirmed(self) -> Confirm:
        if "replicate_seeds" in self.model_fields_set and not self.has_best:
            raise ValueError(f"replicate_seeds goes with the arm {BEST}")
        return self

    @property
    def has_best(self) -> bool:
        """Whether arms are confirmed at points that are chosen from all evidence of a cell."""
        return Arm(BEST) in self.parsed_arms

    @property
    def parsed_arms(self) -> tuple[Arm, ...]:
        """The arms, in the order of the study file."""
        return tuple(Arm.parse(arm) for arm in self.arms)


class LogitBias(Section):
    """How analytic ε is computed.

    Attributes:
        target: mean initial activation that ε must produce; null is the paper's anchor
            (10 classes, ε = 0.5, σ = 1; arXiv 2306.05497).
    """

    target: float | None = Field(default=None, gt=0, lt=1)


class AnalysisSettings(Section):
    """Settings of the analysis.

    Attributes:
        margin: a cost of analytic ε below it counts as agreement; a fraction of accuracy.
    """

    margin: float = Field(default=0.005, gt=0, lt=1)


class Resources(Section):
    """Resources of a study; where a value is null, the program chooses it for the machine.

    Attributes:
        workers: largest number of cohorts in training at a time.
        cpus_per_cohort: processor cores per cohort.
        gpus_per_cohort: GPUs per cohort; a fraction shares a GPU. Null takes one where there is
            one, or a quarter where no model has convolutions.
        accelerator_type: a name that Ray knows, such as A100 or T4.
        networks_per_cohort: largest number of networks in one cohort; null takes 32 on a CPU and
            64 on a GPU.
        checkpoint_minutes: training time between two checkpoints of a cohort, from which another
            worker can resume it; null keeps checkpoints only when the study is stopped.
    """

    workers: int | None = Field(default=None, ge=1)
    cpus_per_cohort: float = Field(default=1.0, gt=0)
    gpus_per_cohort: float | None = Field(default=None, ge=0)
    accelerator_type: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    networks_per_cohort: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float | None = Field(default=10.0, ge=0)


class StudyConfig(Section):
    """A whole study file.

    Attributes:
        name: the study's name, and that of its folder.
        seed: all random draws of the study follow from it.
        grid: the cells.
        recipe: how networks train.
        search: the adaptive stage.
        sweep: the stage with a fixed grid; null leaves it out.
        confirm: the measuring stage; null leaves it out.
        logit_bias: how analytic ε is computed.
        analysis: settings of the analysis.
        resources: resources of a cohort, or `auto`.
        storage: folder or URI that holds the study's folder.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**63)
    grid: Grid
    recipe: RecipeChoice
    search: Search
    sweep: Sweep | None = None
    confirm: Confirm | None = None
    logit_bias: LogitBias = LogitBias()
    analysis: AnalysisSettings = AnalysisSettings()
    resources: Annotated[
        Resources, BeforeValidator(lambda value: {} if value == "auto" else value)
    ] = Resources()
    storage: str = Field(default="results/", min_length=1)

    @field_validator("storage")
    @classmethod
    def _reachable(cls, storage: str) -> str:
        scheme, separator, rest = storage.partition("://")
        if has_credentials(storage):
            raise ValueError(REFUSED)
        if separator:
            if not rest.strip("/"):
                raise ValueError(f"must have the form {scheme}://bucket/prefix")
            try:
                pafs.FileSystem.from_uri(storage)
            except OSError as error:  # the region of a bucket of Amazon is asked for
                raise ValueError(str(storage_error(error))) from error
            except (pa.ArrowException, ValueError) as error:
                raise ValueError(f"no storage that pyarrow knows: {error}") from error
            return storage
        return str(Path(storage).expanduser())

    @model_validator(mode="after")
    def _augmentation_fits(self) -> StudyConfig:
        for dataset in self.grid.dataset:
            AugmentationSettings.from_dict(self.recipe.augment).check(dataset.info.input_shape)
        return self

    @model_validator(mode="after")
    def _selects_on_known_labels(self) -> StudyConfig:
        unknown = [n.kind for n in self.grid.noise if not noise.get(n.kind).truth_is_known]
        if unknown and self.search.select_on == "val_clean":
            raise ValueError(
                f"search.select_on = val_clean: the correct labels of noise kind {unknown[0]} are "
                "unknown; allowed: val_noisy"
            )
        return self

    @model_validator(mode="after")
    def _rungs_are_inside(self) -> StudyConfig:
        for rung in self.search.rungs:
            if rung.epoch >= self.recipe.epochs:
                raise ValueError(
                    f"search.rungs: epoch = {rung.epoch}: below recipe.epochs = "
                    f"{self.recipe.epochs}"
                )
        return self

    @model_validator(mode="after")
    def _budget_fits_sampler(self) -> StudyConfig:
        search, losses = self.search, max(1, len(self.grid.losses or ()))
        sampler = samplers.get(search.sampler)
        sampler.check_budget(search.networks_per_cell, search.grid_shape, losses)
        return self

    @model_validator(mode="after")
    def _replicates_have_a_use(self) -> StudyConfig:
        if self.search.replicates > 1 and not self.has_best:
            raise ValueError(
                f"search.replicates = {self.search.replicates}: more than 1 goes with the arm "
                f"{BEST} in confirm.arms"
            )
        return self

    @property
    def importable(self) -> frozenset[str]:
        """The names `package.module:name` of the study file."""
        losses = [] if isinstance(self.grid.loss, str) else self.grid.loss
        choices = [*self.grid.model, *losses, *(self.grid.losses or ())]
        return frozenset(choice.name for choice in choices if ":" in choice.name)

    @property
    def has_best(self) -> bool:
        """Whether the study has the arm `best`, and so pooled arms and replicates."""
        return self.confirm is not None and self.confirm.has_best

    @property
    def folder_uri(self) -> str:
        """The study's folder. A URI's query (`?endpoint_override=…`) stays at its end."""
        is_uri = "://" in self.storage
        place, mark, query = self.storage.partition("?") if is_uri else (self.storage, "", "")
        return f"{place.rstrip('/')}/{self.name}{mark}{query}"
