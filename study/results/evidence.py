"""What a cell's search and sweep show: the material from which pooled arms are chosen.

`study.planning` collects it, and `analysis.response.surface` chooses from it. Neither imports the
other; both import this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from study.results.schema import Stage, Status


@dataclass(frozen=True)
class EvidenceRow:
    """One trained network of the search or of the sweep.

    Attributes:
        stage: `search` or `sweep`.
        arm: name of the arm that searched; None in the sweep.
        seed: noise draw, initialisation and order follow from it. Networks with the same seed
            therefore share an offset. Search replicates and sweep seeds have different numbers.
        loss: label of the loss.
        epsilon: logit bias; 0 without one.
        lr: learning rate.
        accuracy: the validation accuracy that the search maximises, in [0, 1]; that of guessing
            where the network diverged.
        status: `complete` or `diverged`; pruned networks are no evidence.
    """

    stage: Stage
    arm: str | None
    seed: int
    loss: str
    epsilon: float
    lr: float
    accuracy: float
    status: Status = Status.COMPLETE


@dataclass(frozen=True)
class CellEvidence:
    """All evidence of one cell about one family of networks, in an order that does not vary.

    Attributes:
        rows: at least one trained network.
        losses: {label of a loss that may be chosen: whether it takes a logit bias}. Networks of a
            loss without a bias have ε = 0, so such a loss has a curve over the learning rate only.
        epsilon: lowest and highest ε of the search. The sweep and an arm may lie outside it.
        lr: lowest and highest learning rate of the search.
    """

    rows: tuple[EvidenceRow, ...]
    losses: Mapping[str, bool]
    epsilon: tuple[float, float]
    lr: tuple[float, float]


class ChosenPoint(NamedTuple):
    """Where an arm is confirmed.

    Attributes:
        loss: label of the loss.
        epsilon: logit bias; 0 for a loss that takes none.
        lr: learning rate.
    """

    loss: str
    epsilon: float
    lr: float


class ChoosePoints(Protocol):
    """Chooses where the pooled arms of a cell are confirmed."""

    def __call__(
        self, evidence: CellEvidence, arms: Mapping[str, float | None]
    ) -> dict[str, ChosenPoint]:
        """Choose a point for every arm.

        Args:
            evidence: the cell's evidence.
            arms: {arm: the ε that it fixes; None where ε is to be chosen too}.

        Returns:
            {arm: its point}, one for every arm. The same evidence gives the same points.
        """
