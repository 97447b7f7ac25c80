"""What a cohort consists of: plain data that can be sent to another machine, as JSON or pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainables import datasets


@dataclass(frozen=True)
class DataSpec:
    """A data set; see `trainables.datasets.load`.

    Attributes:
        name: name of the data set, or the path of a file or folder.
        classes: number of classes to use, the first ones; None for all.
        root: folder of the downloaded data sets.
        options: further options of the data set.
    """

    name: str
    classes: int | None = None
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> datasets.Dataset:
        """The data set itself, shared within this process."""
        return datasets.load(self.name, classes=self.classes, root=self.root, **self.options)


@dataclass(frozen=True)
class ModelSpec:
    """An architecture with its initialisation; see `trainables.models`.

    Attributes:
        name: name of the model.
        options: arguments of the model.
        init: name of the initialisation.
        init_gain: factor on the classifier's initial weights, above 0.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    init: str = "glorot_uniform"
    init_gain: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Training settings that all members of a group share.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples per step.
        optimizer: `sgd` or `adamw`.
        momentum: of `sgd`.
        nesterov: whether `sgd` uses Nesterov's momentum.
        schedule: of the learning rate after the warm-up: `cosine`, `constant` or `step`.
        warmup_epochs: epochs over which the learning rate rises linearly.
        milestones: shares of training after which `step` multiplies the rate by `gamma`.
        gamma: factor of `step`.
        clip_norm: largest norm of a member's gradient; None does not clip.
        precision: `float32`, or `bf16` for mixed precision by autocast, on devices that have it.
        deterministic: whether a GPU may only use algorithms that repeat bit for bit; see `runtime`.
        compile: whether a GPU trains with torch.compile: faster steps after about half a minute.
        epsilon_schedule: of the logit bias, a name in `trainables.losses.schedules`.
        augment: settings of `trainables.engine.augment_settings`.
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
    """The settings of one network of a cohort.

    Attributes:
        network_id: the network.
        loss: name of the loss.
        lr: learning rate.
        epsilon: logit bias ε.
        loss_params: parameters that differ from the loss's defaults.
        rescale: factor on Δ in the loss (`losses.evaluate_rescaled`); None uses the loss unchanged.
        weight_decay: coefficient of the weight decay.
        weight_l1: coefficient of the parameters' absolute sum (part of the ANL losses).
        noise_kind: kind of label noise.
        noise_rate: in [0, 1]; None for kinds with a fixed rate.
        noise_options: further options of the noise.
        noise_seed: seed of the noisy labels.
        init_seed: seed of the initial parameters.
        order_seed: seed of the order of batches and of the augmentation. Members with the same one
            train on the same batches.
        bracket: members of one bracket compete at the cohort's rungs; a member without one is
            never pruned.
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
    order_seed: int = 0
    bracket: str | None = None


@dataclass(frozen=True)
class Rung:
    """A point of training at which members are pruned.

    Attributes:
        epoch: the epoch after which members are pruned, from 1.
        keep: share of each bracket that continues, in (0, 1]; at least one member does.
    """

    epoch: int
    keep: float


@dataclass(frozen=True)
class CohortSpec:
    """Networks that can train together: same data, model and recipe.

    Attributes:
        data: the data set.
        model: the architecture.
        recipe: the shared training settings.
        members: the settings of each network.
        reads_test: whether the test set is evaluated, as in the stage `confirm` alone; otherwise
            its examples are not touched.
        rungs: where members are pruned.
        prune_metric: the attribute of `EpochMetrics` by which a bracket's members are compared.
    """

    data: DataSpec
    model: ModelSpec
    recipe: Recipe
    members: Sequence[Member]
    reads_test: bool = False
    rungs: Sequence[Rung] = ()
    prune_metric: str = "val_acc_noisy"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, which JSON can hold and which other versions can unpickle."""
        # Not `asdict` for the members, which took a tenth of a driver's time.
        members = [dict(vars(member)) for member in self.members]
        return {**asdict(replace(self, members=())), "members": members}

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
