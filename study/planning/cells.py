"""Cells, their arms, and the networks that are trained in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from study.config.choices import DatasetChoice, LossChoice, ModelChoice, NoiseChoice
from study.results.arms import Arm
from study.results.schema import Stage


@dataclass(frozen=True)
class Cell:
    """Data set × noise × model × loss: the unit of a search.

    Attributes:
        dataset: the data set.
        noise: the label noise.
        model: the model.
        loss: the loss; None where the search also chooses the loss.
        joint_losses: the losses that the search chooses from where `loss` is None.
    """

    dataset: DatasetChoice
    noise: NoiseChoice
    model: ModelChoice
    loss: LossChoice | None
    joint_losses: tuple[LossChoice, ...] = ()

    @cached_property
    def cell_id(self) -> str:
        """Identifier in tables, such as `digit-pairs/symmetric-0.4/mlp-256x2/mae`."""
        loss = self.loss.label if self.loss else "joint"
        return "/".join([self.dataset.label, self.noise.label, self.model.label, loss])

    @property
    def group_id(self) -> str:
        """Identifier of the data set and model; cells of one group can train in one cohort."""
        return f"{self.dataset.label}/{self.model.label}"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.dataset.info.classes

    @cached_property
    def skipped_files(self) -> int:
        """Number of damaged files of the data set that were left out."""
        return self.dataset.info.skipped_files

    @property
    def losses(self) -> tuple[LossChoice, ...]:
        """The losses that a search of this cell may choose."""
        return (self.loss,) if self.loss else self.joint_losses

    @property
    def takes_epsilon(self) -> bool:
        """Whether a logit bias is searched in this cell."""
        return any(loss.takes_epsilon for loss in self.losses)


@dataclass(frozen=True)
class PlannedArm:
    """An arm in a cell, with the values that it fixes there.

    Attributes:
        arm: the arm.
        epsilon: logit bias; None where the study chooses it.
        rescale: factor on Δ in the loss; None leaves the loss unchanged.
        is_searched: whether it has searches of its own.
        is_pooled: whether it is confirmed on the study's common seeds: at a point that is chosen
            from all evidence of the cell, or, in a study without the arm `best`, at the best point
            of its search.
        is_replicated: whether the choice of each replicate of its search is confirmed, on seeds of
            that replicate.
    """

    arm: Arm
    epsilon: float | None
    rescale: float | None = None
    is_searched: bool = True
    is_pooled: bool = True
    is_replicated: bool = False

    @property
    def name(self) -> str:
        """The arm as in the study file and the column `arm`."""
        return self.arm.name

    @property
    def rule(self) -> str | None:
        """The rule that determines ε; None where no rule does."""
        return self.arm.rule


@dataclass(frozen=True)
class Network:
    """One network to train: everything that decides its numbers except the study's recipe.

    Attributes:
        stage: the stage that trains it.
        cell: its cell.
        loss: its loss.
        epsilon: logit bias; 0 for none.
        lr: learning rate.
        seed: noise draw, initialisation and order follow from it; see
            `study.planning.cohort_specs.derived_seed`. No two stages and no two replicates have a
            seed in common.
        arm: name of its arm; None in the sweep.
        rule: rule of its arm, where the arm is analytic.
        point: running number of the search point within its cell; None outside the search.
        rescale: factor on Δ in the loss; None leaves the loss unchanged.
        replicate: number of the search that proposed it or chose its settings; None in the sweep,
            for pooled arms, and in studies without the arm `best`.
    """

    stage: Stage
    cell: Cell
    loss: LossChoice
    epsilon: float
    lr: float
    seed: int
    arm: str | None = None
    rule: str | None = None
    point: int | None = None
    rescale: float | None = None
    replicate: int | None = None

    @cached_property
    def network_id(self) -> str:
        """Hash of the network's settings: the same network has the same id in every run.

        The replicate follows from the seed and is therefore not part of it.
        """
        settings = [
            self.cell.cell_id,
            self.stage,
            self.arm,
            self.point,
            self.seed,
            self.loss.label,
            repr(self.epsilon),
            repr(self.lr),
        ]
        text = json.dumps(settings if self.rescale is None else [*settings, repr(self.rescale)])
        return f"{self.stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
