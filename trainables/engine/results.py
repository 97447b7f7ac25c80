"""What training a network gives: a row of `trials` and its rows of `epochs`.

The column names, which other programs rely on, are those of `to_row`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainables.status import Status


@dataclass(frozen=True)
class EpochMetrics:
    """One network in one epoch; None stands for a number that is not finite.

    Attributes:
        network_id: the network.
        epoch: from 1.
        train_loss: mean loss over the epoch's training examples, with the logit bias.
        train_acc_noisy: accuracy on the training labels, from the epoch's own forward passes.
        train_acc_clean: the same on the true labels.
        mean_delta: mean |∂L/∂z_y| of the labelled class.
        mean_activation: mean softmax probability of the labelled class, without the bias.
        vanishing_share: share of examples with |∂L/∂z_y| below 1 % of its maximum.
        lr: learning rate at the epoch's last step.
        grad_norm: norm of the gradient at the epoch's last step.
        val_acc_noisy: accuracy on the noisy validation labels.
        val_acc_clean: accuracy on the true validation labels.
        test_acc: accuracy on the test set; None where it is not read.
        input_stall_share: share of the epoch spent waiting for images.
        wall_s: seconds that the whole cohort took for the epoch.
    """

    network_id: str
    epoch: int
    train_loss: float | None
    train_acc_noisy: float
    train_acc_clean: float
    mean_delta: float | None
    mean_activation: float | None
    vanishing_share: float | None
    lr: float | None
    grad_norm: float | None
    val_acc_noisy: float
    val_acc_clean: float
    test_acc: float | None
    input_stall_share: float
    wall_s: float

    def to_row(self) -> dict[str, Any]:
        """Values by the columns of `epochs`."""
        return asdict(self)


@dataclass(frozen=True)
class TrialMetrics:
    """One network after its last epoch.

    Attributes:
        status: how training ended.
        epochs: number of epochs trained.
        train_acc_noisy: of the last epoch, as in `EpochMetrics`.
        train_acc_clean: likewise.
        val_acc_noisy: likewise.
        val_acc_clean: likewise.
        test_acc: likewise.
        best_val_acc_noisy: maximum over the epochs.
        noise_rate_realised: share of the training labels that are wrong.
        noise_rate_per_class: the same share of each true class.
        logit_std_init: spread over classes of the untrained network's logits.
        classes: number of classes.
        train_size: number of training examples.
        wall_s: seconds that training the whole cohort took; None until all of it is trained.
        networks_in_cohort: number of networks in the cohort; None until all of it is trained.
        test_correct: whether the network is right on each test example after the last epoch: bits
            packed as by `numpy.packbits`; None where the test set is not read or the network
            diverged.
    """

    status: Status
    epochs: int
    train_acc_noisy: float
    train_acc_clean: float
    val_acc_noisy: float
    val_acc_clean: float
    test_acc: float | None
    best_val_acc_noisy: float
    noise_rate_realised: float
    noise_rate_per_class: list[float]
    logit_std_init: float
    classes: int
    train_size: int
    wall_s: float | None = None
    networks_in_cohort: int | None = None
    test_correct: bytes | None = None

    def to_row(self) -> dict[str, Any]:
        """Values by the columns of `trials` that training fills."""
        row = {**asdict(self), "status": self.status.value}
        row["noise_rate_real"] = row.pop("noise_rate_realised")
        return row


@dataclass(frozen=True)
class MemberResult:
    """The result of one network.

    Attributes:
        network_id: the network.
        metrics: the values after the last epoch.
        epochs: one record per epoch trained.
    """

    network_id: str
    metrics: TrialMetrics
    epochs: list[EpochMetrics]

    def to_state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        state = asdict(self)
        state["metrics"]["status"] = self.metrics.status.value
        if self.metrics.test_correct is not None:
            state["metrics"]["test_correct"] = self.metrics.test_correct.hex()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MemberResult:
        """The inverse of `to_state`."""
        metrics = {**state["metrics"], "status": Status(state["metrics"]["status"])}
        if metrics["test_correct"] is not None:
            metrics["test_correct"] = bytes.fromhex(metrics["test_correct"])
        return cls(
            network_id=state["network_id"],
            metrics=TrialMetrics(**metrics),
            epochs=[EpochMetrics(**epoch) for epoch in state["epochs"]],
        )
