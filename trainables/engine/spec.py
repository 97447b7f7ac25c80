"""What a cohort is made of: plain data that survives JSON, pickling and a change of machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainables import datasets


@dataclass(frozen=True)
class DataSpec:
    """Which data set; see `trainables.datasets.load`. `classes` keeps the first so many classes."""

    name: str
    classes: int | None = None
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> datasets.Dataset:
        """The data set itself (shared within this process)."""
        return datasets.load(self.name, classes=self.classes, root=self.root, **self.options)


@dataclass(frozen=True)
class ModelSpec:
    """Which architecture and initialisation; see `trainables.models`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    init: str = "glorot_uniform"


@dataclass(frozen=True)
class Recipe:
    """What members of a group have in common besides data and model.

    Parameters
    ----------
    optimizer: `sgd` or `adamw`. momentum, nesterov: of `sgd`.
    schedule: of the learning rate, a name in `optimisation.SCHEDULES`, after `warmup_epochs` of
        linear rise. milestones, gamma: `step` multiplies by gamma at these shares of training.
    clip_norm: largest norm of a member's gradient; None does not clip.
    precision: `float32`, or `bf16` for mixed precision by autocast.
    deterministic: whether a GPU may use only algorithms that repeat to the bit; see `runtime`.
    compile: whether a GPU trains with torch.compile: faster steps, after half a minute or so.
    epsilon_schedule: of the logit bias, a name in `losses.schedules`.
    augment: settings of `trainables.engine.augment.Augmentation`.
    """

    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    milestones: Sequence[float] = (0.5, 0.75)
    gamma: float = 0.1
    clip_norm: float | None = None
    precision: str = "float32"
    deterministic: bool = False
    compile: bool = False
    epsilon_schedule: str = "constant"
    augment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One network: what is its own.

    Parameters
    ----------
    weight_l1: coefficient of the parameters' absolute sum (part of the ANL losses).
    epsilon: logit bias. loss_params: parameters that differ from the loss's defaults.
    rescale: factor on Δ in the loss (`losses.evaluate_rescaled`); None: the loss as it is.
    noise_rate: in [0, 1]; None for kinds with a rate of their own.
    race: members of one race compete at the cohort's rungs; None is never pruned.
    """

    network_id: str
    loss: str
    lr: float
    epsilon: float = 0.0
    loss_params: Mapping[str, float] = field(default_factory=dict)
    rescale: float | None = None
    weight_decay: float = 0.0
    weight_l1: float = 0.0
    noise_kind: str = "symmetric"
    noise_rate: float | None = 0.0
    noise_options: Mapping[str, Any] = field(default_factory=dict)
    noise_seed: int = 0
    init_seed: int = 0
    bracket: str | None = None


@dataclass(frozen=True)
class Rung:
    """After `epoch`, the best share `keep` of each race goes on (at least one member)."""

    epoch: int
    keep: float


@dataclass(frozen=True)
class CohortSpec:
    """Networks that can train together: same data, model, recipe and order of batches."""

    data: DataSpec
    model: ModelSpec
    recipe: Recipe
    members: Sequence[Member]
    order_seed: int = 0
    reads_test: bool = False  # only `confirm` does; otherwise the test examples are not touched
    rungs: Sequence[Rung] = ()
    prune_metric: str = "val_acc_noisy"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that survives JSON and pickling between versions."""
        return asdict(self)

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> CohortSpec:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **spec,
                "data": DataSpec(**spec["data"]),
                "model": ModelSpec(**spec["model"]),
                "recipe": Recipe(**spec["recipe"]),
                "members": [Member(**member) for member in spec["members"]],
                "rungs": [Rung(**rung) for rung in spec["rungs"]],
            }
        )


@dataclass(frozen=True)
class MemberResult:
    """What became of one network: columns of `trials` (`metrics`) and rows of `epochs`."""

    network_id: str
    metrics: dict[str, Any]
    epochs: list[dict[str, Any]]
