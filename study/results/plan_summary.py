"""The file `plan.json` in a study folder: what a study plans to train.

A run writes it, so that `logit-bias status` needs neither torch nor the validation of the study
file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from study.results.evidence import ChosenPoint
from study.results.folder import ResultsError, StudyFolder
from study.results.schema import Stage

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class LossLabel:
    """How tables name a loss with its parameters.

    Attributes:
        loss: as in the column `loss`.
        loss_params: as in the column `loss_params`, JSON.
        label: text for tables, such as `gce-q=0.5` or `<loss>-<preset>`.
    """

    loss: str
    loss_params: str
    label: str


@dataclass(frozen=True)
class CellSummary:
    """One cell of a plan.

    Attributes:
        cell_id: as in the column `cell_id`.
        budget: search points of all arms together.
        loss_is_searched: whether the search also chooses the loss.
        takes_epsilon: whether a logit bias is searched.
        losses: the losses that the search may choose; empty in files of older versions.
        arms: arms that confirm measures on the common seeds; empty in files of older versions.
        replicate_arms: arms of which confirm measures the choice of each replicate, on seeds of
            that replicate.
        measured_epsilons: {rule: ε} of the rules that need measured logits, as the first run
            measured them: on another machine the last digits would differ, and so would the
            networks. Empty where no arm needs them, and in files of older versions.
    """

    cell_id: str
    budget: int
    loss_is_searched: bool
    takes_epsilon: bool
    losses: tuple[LossLabel, ...] = ()
    arms: tuple[str, ...] = ()
    replicate_arms: tuple[str, ...] = ()
    measured_epsilons: Mapping[str, float] = field(default_factory=dict)

    def label_of(self, loss: str, loss_params: str) -> str:
        """Label of the loss in a row of `trials`.

        Args:
            loss: the column `loss`.
            loss_params: the column `loss_params`.
        """
        for known in self.losses:
            if (known.loss, known.loss_params) == (loss, loss_params):
                return known.label
        params = json.loads(loss_params)
        return "-".join([loss, *(f"{k}={v:g}" for k, v in sorted(params.items()))])


@dataclass(frozen=True)
class KeptPoint:
    """A pooled arm of a study that has grown, confirmed where its rows are.

    Attributes:
        cell_id: the cell.
        arm: the arm.
        point: where its rows are.
        choice: where it would be confirmed by all evidence of the cell.
    """

    cell_id: str
    arm: str
    point: ChosenPoint
    choice: ChosenPoint

    def __str__(self) -> str:
        point, choice = (f"ε {p.epsilon:.3g}, lr {p.lr:.3g}" for p in (self.point, self.choice))
        return f"{self.cell_id}: {self.arm} at {point}; all networks would choose {choice}"


@dataclass(frozen=True)
class PlanSummary:
    """What a study plans to train.

    Attributes:
        study: the study's name.
        value_column: the column of `trials` that the search maximises.
        networks: number of networks per stage.
        cells: in the order of the study file.
        replicates: number of searches of every arm; None in a study without the arm `best`.
        confirm_seeds: number of common seeds of confirm; None in files of older versions.
        replicate_seeds: number of seeds on which the choices of one replicate are confirmed.
        superseded: confirm networks with a row that are no choice of their search since it grew.
        kept_points: pooled arms that keep their points since the study grew.
    """

    study: str
    value_column: str
    networks: Mapping[Stage, int]
    cells: tuple[CellSummary, ...]
    replicates: int | None = None
    confirm_seeds: int | None = None
    replicate_seeds: int = 0
    superseded: int = 0
    kept_points: tuple[KeptPoint, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return {
            "study": self.study,
            "value_column": self.value_column,
            "networks": {stage.value: count for stage, count in self.networks.items()},
            "replicates": self.replicates,
            "confirm_seeds": self.confirm_seeds,
            "replicate_seeds": self.replicate_seeds,
            "superseded": self.superseded,
            "kept_points": [
                {
                    "cell_id": kept.cell_id,
                    "arm": kept.arm,
                    "point": kept.point._asdict(),
                    "choice": kept.choice._asdict(),
                }
                for kept in self.kept_points
            ],
            "cells": [asdict(cell) for cell in self.cells],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PlanSummary:
        """The inverse of `to_json`; also reads files of older versions, which have fewer keys."""
        return cls(
            study=content["study"],
            value_column=content["value_column"],
            networks={Stage(stage): count for stage, count in content["networks"].items()},
            cells=tuple(
                CellSummary(
                    cell["cell_id"],
                    cell["budget"],
                    cell["loss_is_searched"],
                    cell["takes_epsilon"],
                    tuple(LossLabel(**loss) for loss in cell.get("losses", ())),
                    tuple(cell.get("arms", ())),
                    tuple(cell.get("replicate_arms", ())),
                    cell.get("measured_epsilons", {}),
                )
                for cell in content["cells"]
            ),
            replicates=content.get("replicates"),
            confirm_seeds=content.get("confirm_seeds"),
            replicate_seeds=content.get("replicate_seeds", 0),
            superseded=content.get("superseded", 0),
            kept_points=tuple(
                KeptPoint(
                    kept["cell_id"],
                    kept["arm"],
                    ChosenPoint(**kept["point"]),
                    ChosenPoint(**kept["choice"]),
                )
                for kept in content.get("kept_points", ())
            ),
        )


def write_plan_summary(folder: StudyFolder, summary: PlanSummary) -> None:
    """Write `plan.json` into the folder, in place of an earlier one."""
    folder.write_bytes(PLAN_FILE, json.dumps(summary.to_json()).encode())


def read_plan_summary(folder: StudyFolder) -> PlanSummary | None:
    """The plan in the folder; None where no run has written one.

    Raises:
        ResultsError: `plan.json` is damaged.
    """
    content = folder.read_bytes(PLAN_FILE)
    if content is None:
        return None
    try:
        return PlanSummary.from_json(json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{folder.uri}: {PLAN_FILE} is damaged; run the study again") from error


@dataclass(frozen=True)
class SearchPoint:
    """A search point that was trained to the end, as tables show it.

    Attributes:
        number: running number of the point within its cell.
        value: accuracy that the search maximises, in [0, 1].
        lr: learning rate.
        epsilon: logit bias; None in a cell without one.
        loss: label of the loss; None where the cell has one loss.
    """

    number: int
    value: float
    lr: float
    epsilon: float | None = None
    loss: str | None = None

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"{self.loss}, "
        bias = "" if self.epsilon is None else f"ε {self.epsilon:.2f}, "
        return f"{self.value:.3f} at {loss}{bias}lr {self.lr:.3g}"


@dataclass(frozen=True)
class SearchState:
    """Progress of the search of one cell.

    Attributes:
        completed: number of trained points.
        planned: number of points in all.
        best: the best point that was not pruned; None where there is none.
    """

    completed: int
    planned: int
    best: SearchPoint | None

    @property
    def best_text(self) -> str:
        """The best point in words, for tables."""
        return "–" if self.best is None else str(self.best)


def best_point(points: Iterable[SearchPoint]) -> SearchPoint | None:
    """The point with the largest value, the earliest of equally good ones; None without points."""
    return max(points, key=lambda point: (point.value, -point.number), default=None)
