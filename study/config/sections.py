"""The study file's sections: what may be written, and what is refused, in pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import BeforeValidator, Field, field_validator, model_validator

from study.config.grid import Grid, Section
from study.results.arms import TUNED, Arm
from trainables.engine.augment import Augmentation


class Range(Section):
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

    def at(self, share: float) -> float:
        """The value at a share in [0, 1] of the range, of its logarithm where it is logarithmic."""
        if self.log:
            return float(min(self.high, self.low * (self.high / self.low) ** share))
        return float(self.low + share * (self.high - self.low))


class RecipeChoice(Section):
    """What all networks of the study have in common; see `trainables.engine.spec.Recipe`."""

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
        Augmentation.from_dict(augment)
        return augment

    @model_validator(mode="after")
    def _warmup_ends(self) -> RecipeChoice:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs:g}: below epochs = {self.epochs}"
            )
        return self


class RungChoice(Section):
    """After `epoch`, the best share `keep` of an arm's round trains on, the rest is pruned."""

    epoch: int = Field(ge=1)
    keep: float = Field(gt=0, lt=1)


class GridSize(Section):
    """Values of each parameter in a grid search, evenly spaced over its range, ends included."""

    epsilon: int = Field(ge=1, le=1_000)
    lr: int = Field(ge=1, le=1_000)


class Search(Section):
    """The adaptive stage: every arm of every cell gets `networks_per_cell` networks.

    An arm proposes `points_per_round` points at a time, trained side by side; `rungs` let them
    race (successive halving). A round is proposed while up to `rounds_in_flight` - 1 earlier ones
    are still training. `worker_hours` ends the search early, counting the training time of all
    workers together; every arm then still gets as many networks as every other.
    """

    sampler: Literal["tpe", "random", "qmc", "grid"] = "tpe"
    grid: GridSize | None = None
    networks_per_cell: int = Field(ge=1, le=100_000)
    worker_hours: float | None = Field(default=None, gt=0)
    points_per_round: int = Field(default=1, ge=1, le=1_000)
    rounds_in_flight: int = Field(default=1, ge=1, le=1_000)
    rungs: list[RungChoice] = Field(default_factory=list)
    epsilon: Range
    lr: Range
    select_on: Literal["val_noisy", "val_clean"] = "val_noisy"

    @field_validator("lr", mode="before")
    @classmethod
    def _logarithmic(cls, lr: Any) -> Any:
        return {"log": True, **lr} if isinstance(lr, dict) else lr

    @field_validator("lr")
    @classmethod
    def _positive(cls, lr: Range) -> Range:
        if lr.low <= 0:
            raise ValueError(f"low = {lr.low:g}: a learning rate is above 0")
        return lr

    @model_validator(mode="after")
    def _races_have_runners(self) -> Search:
        if self.rungs and self.points_per_round < 2:
            raise ValueError("rungs: points_per_round of 2 or more is needed for a race")
        return self

    @model_validator(mode="after")
    def _grid_goes_with_its_sampler(self) -> Search:
        if (self.sampler == "grid") != (self.grid is not None):
            raise ValueError("`grid: {epsilon: …, lr: …}` goes with `sampler: grid`, and only with")
        return self

    @property
    def value_column(self) -> str:
        """The `trials` column that the search maximises."""
        return {"val_noisy": "val_acc_noisy", "val_clean": "val_acc_clean"}[self.select_on]


class Sweep(Section):
    """The fixed grid: `points` ε values over search.epsilon, plus 0 and every analytic ε.

    Each ε is trained at `lr_points` learning rates over search.lr, so that the analysis can tune
    the learning rate out. With `until_interval` a cell is given one seed more at a time, up to
    `most_seeds`, until the 95 % interval of its best ε is at most that wide.
    """

    points: int = Field(ge=2, le=1_000)
    seeds: int = Field(ge=1, le=1_000)
    lr_points: int = Field(default=3, ge=1, le=100)
    until_interval: float | None = Field(default=None, gt=0)
    most_seeds: int = Field(default=20, ge=1, le=1_000)

    @model_validator(mode="after")
    def _room_to_grow(self) -> Sweep:
        if self.until_interval is not None and self.most_seeds < self.seeds:
            raise ValueError(f"most_seeds = {self.most_seeds}: at least seeds = {self.seeds}")
        if self.until_interval is not None and self.points < 4:
            raise ValueError(f"points = {self.points}: until_interval needs 4 or more for a curve")
        return self


_USUAL_ARMS = ("tuned", "analytic:activation", "zero", "ce")


class Confirm(Section):
    """The measuring stage: arms retrained on fresh paired seeds.

    Arm `rescale` is there only for losses of the labelled class's probability alone.
    """

    seeds: int = Field(ge=2, le=10_000)
    arms: list[str] = Field(default_factory=lambda: list(_USUAL_ARMS))

    @field_validator("arms")
    @classmethod
    def _known(cls, arms: list[str]) -> list[str]:
        parsed = [Arm.parse(arm) for arm in arms]
        if len(set(parsed)) < len(parsed):
            raise ValueError("an arm is given twice")
        if Arm(TUNED) not in parsed or not any(arm.is_analytic for arm in parsed):
            raise ValueError("arms must contain tuned and at least one analytic:<rule>")
        return arms


class LogitBias(Section):
    """How analytic ε is computed: the mean initial activation that ε must bring about.

    `target: null` is the paper's anchor (10 classes, ε = 0.5, σ = 1).
    """

    target: float | None = Field(default=None, gt=0, lt=1)


class AnalysisSettings(Section):
    """What counts as agreement: a regret below `margin`, a fraction of accuracy."""

    margin: float = Field(default=0.005, gt=0, lt=1)


class Resources(Section):
    """What one cohort asks of a machine; null is chosen from the machine.

    `accelerator_type` is a name that Ray knows, such as A100 or T4. A cohort that trains for
    longer than `checkpoint_minutes` is kept on storage that often, so that a lost worker's cohort
    goes on elsewhere.
    """

    workers: int | None = Field(default=None, ge=1)
    cpus_per_cohort: float = Field(default=1.0, gt=0)
    gpus_per_cohort: float | None = Field(default=None, ge=0)
    accelerator_type: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    networks_per_cohort: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float | None = Field(default=10.0, ge=0)


class StudyConfig(Section):
    """A whole study file."""

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
        scheme, there, rest = storage.partition("://")
        if there:
            if not rest.strip("/"):
                raise ValueError(f"{scheme}://bucket/prefix is wanted")
            try:
                pafs.FileSystem.from_uri(storage)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise ValueError(f"no storage that pyarrow knows: {error}") from error
            return storage
        return str(Path(storage).expanduser())

    @model_validator(mode="after")
    def _augmentation_fits(self) -> StudyConfig:
        for dataset in self.grid.dataset:
            Augmentation.from_dict(self.recipe.augment).check(dataset.info.input_shape)
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
    def _grid_is_the_budget(self) -> StudyConfig:
        grid, losses = self.search.grid, max(1, len(self.grid.losses or ()))
        if grid and grid.epsilon * grid.lr * losses != self.search.networks_per_cell:
            size = f"{grid.epsilon} × {grid.lr}" + (f" × {losses} losses" if losses > 1 else "")
            raise ValueError(
                f"search.networks_per_cell = {self.search.networks_per_cell}: with sampler grid it "
                f"is the number of points, {size} = {grid.epsilon * grid.lr * losses}"
            )
        return self

    @property
    def folder_uri(self) -> str:
        """Where the study is kept. A URI's query (`?endpoint_override=…`) stays at its end."""
        is_uri = "://" in self.storage
        place, mark, query = self.storage.partition("?") if is_uri else (self.storage, "", "")
        return f"{place.rstrip('/')}/{self.name}{mark}{query}"
