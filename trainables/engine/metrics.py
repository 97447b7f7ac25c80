"""What is recorded of every member in every epoch, accumulated on the device.

Training metrics come from the epoch's own forward passes: each example counts once, just before the
update that it takes part in. An example on which another logit equals the label's counts as wrong.
Nothing here reads a value from the device before the epoch ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from trainables.engine.cohort_losses import ExampleLosses

SUMMED_AT_ONCE = 32
"""Batches that are added to an epoch's sums together, which is faster than one by one."""

_VANISHING = 0.01  # an example's gradient "vanishes" below this share of its loss's largest |δ|


class Observed(NamedTuple):
    """What is recorded of one batch, each [K, B] and without a graph.

    Attributes:
        loss: as in `ExampleLosses`.
        log_odds: as in `ExampleLosses`.
        largest_other: as in `ExampleLosses`.
        labelled: logit of the label that is trained on.
        true: logit of the true label.
        agree: whether these two labels are equal.
        delta: gradient of the logit bias, which is ∂L/∂z_y of the mean over the batch; empty until
            the backward pass.
    """

    loss: torch.Tensor
    log_odds: torch.Tensor
    largest_other: torch.Tensor
    labelled: torch.Tensor
    true: torch.Tensor
    agree: torch.Tensor
    delta: torch.Tensor


@torch.no_grad()
def observe(
    logits: torch.Tensor, examples: ExampleLosses, noisy: torch.Tensor, clean: torch.Tensor
) -> Observed:
    """Collect what is recorded of a batch, except `delta`, which is empty.

    Args:
        logits: without the logit bias, [K, B, C].
        examples: the losses at these logits.
        noisy: labels that are trained on, [K, B].
        clean: true labels, [B] or [K, B].
    """
    clean = clean.expand_as(noisy)
    labelled, true = (
        logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) for labels in (noisy, clean)
    )
    # Detached, because the loss would otherwise keep the graph of the whole step.
    loss, log_odds, largest_other = (values.detach() for values in examples)
    return Observed(
        loss, log_odds, largest_other, labelled, true, noisy == clean, loss.new_empty(0)
    )


class EpochDynamics:
    """Sums over one epoch for K members.

    Args:
        largest_delta: the largest |∂L/∂z_y| that each member's loss can have, [K].
    """

    def __init__(self, largest_delta: torch.Tensor) -> None:
        self._threshold = (_VANISHING * largest_delta).unsqueeze(1)
        self._sums = torch.zeros(6, *largest_delta.shape, dtype=torch.float64)
        self._sums = self._sums.to(largest_delta.device)
        self._batches: list[Observed] = []  # added, not yet summed
        self._examples = 0

    def add(self, observed: Observed) -> None:
        """Add one batch.

        Args:
            observed: from `observe`, with `delta` filled in.
        """
        self._batches.append(observed)
        if len(self._batches) == SUMMED_AT_ONCE:
            self._sum()

    @torch.no_grad()
    def _sum(self) -> None:
        """Add the collected batches to the sums, in an order that does not depend on K."""
        sizes = [batch.delta.shape[1] for batch in self._batches]
        columns = zip(*self._batches, strict=True)
        self._batches = []
        loss, log_odds, largest_other, labelled, true, agree, delta = (
            torch.cat(c, 1) for c in columns
        )
        right = labelled > largest_other
        # No argmax is needed: the prediction is another class than the label where the largest of
        # the other logits is above the label's.
        right_clean = (right & (agree != 0)) | ((true > labelled) & (true == largest_other))
        for batch_delta, size in zip(torch.split(delta, sizes, dim=1), sizes, strict=True):
            batch_delta.mul_(size)
        delta.abs_()
        vanishing = delta < self._threshold
        # Not `sigmoid`, which differs in the last bit at the end of a tensor and so with K.
        activation = log_odds.neg_().exp_().add_(1.0).reciprocal_()
        values = (loss, right, right_clean, delta, activation, vanishing)
        self._sums += torch.stack([v.sum(-1, dtype=torch.float64) for v in values])
        self._examples += loss.shape[-1]

    @torch.no_grad()
    def means(self) -> dict[str, list[float]]:
        """Means over the epoch's examples.

        Returns:
            {column of `epochs`: one value per member}.
        """
        if self._batches:
            self._sum()
        names = (
            "train_loss",
            "train_acc_noisy",
            "train_acc_clean",
            "mean_delta",
            "mean_activation",
            "vanishing_share",
        )
        return dict(zip(names, (self._sums / self._examples).tolist(), strict=True))


def predictions(logits: torch.Tensor) -> torch.Tensor:
    """The class with the largest logit, the first of equal ones.

    The same as `argmax(-1)`, for which torch takes up to ten times as long as NumPy on a CPU. Where
    a logit is NaN, the class is arbitrary.

    Args:
        logits: shape [..., classes].

    Returns:
        shape [...].
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.argmax(-1)
    return torch.from_numpy(logits.detach().numpy().argmax(-1))


@torch.no_grad()
def is_right(
    model: Callable[[torch.Tensor], torch.Tensor],
    inputs: Callable[[slice], torch.Tensor],
    labels: torch.Tensor,
    batch_size: int,
) -> torch.Tensor:
    """Whether each member's prediction is the label, for every example.

    Args:
        model: maps inputs [B, …] to logits [K, B, C].
        inputs: maps a slice of the examples to inputs [B, …].
        labels: shape [N].
        batch_size: examples that are evaluated at once.

    Returns:
        bool, shape [K, N].
    """
    batches = []
    for start in range(0, len(labels), batch_size):
        rows = slice(start, min(start + batch_size, len(labels)))
        batches.append(predictions(model(inputs(rows))) == labels[rows])
    return torch.cat(batches, dim=-1)


@torch.no_grad()
def accuracy(
    model: Callable[[torch.Tensor], torch.Tensor],
    inputs: Callable[[slice], torch.Tensor],
    labels: list[torch.Tensor],
    batch_size: int,
) -> list[list[float]]:
    """Accuracy of each member for several labellings of the same examples.

    Args:
        model: maps inputs [B, …] to logits [K, B, C].
        inputs: maps a slice of the examples to inputs [B, …].
        labels: each of shape [N], or [K, N] where members have different labels.
        batch_size: examples that are evaluated at once.

    Returns:
        for each labelling one fraction per member.
    """
    examples = labels[0].shape[-1]
    right: list[torch.Tensor | int] = [0] * len(labels)
    for start in range(0, examples, batch_size):
        rows = slice(start, min(start + batch_size, examples))
        predicted = predictions(model(inputs(rows)))
        for i, expected in enumerate(labels):
            right[i] = right[i] + (predicted == expected[..., rows]).sum(-1)
    return [(r.double() / examples).tolist() for r in right if isinstance(r, torch.Tensor)]
