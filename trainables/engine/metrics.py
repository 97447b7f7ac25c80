"""What is recorded of every member in every epoch, gathered on the device.

Training figures are those of the epoch's own forward passes: each example is counted once, just
before the update it takes part in. Where other logits are as large as the label's, it counts as
wrong. Nothing here asks the device for a number before the epoch ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from trainables.engine.cohort_losses import ExampleLosses

_SUMMED_AT_ONCE = 32  # batches
_VANISHING = 0.01  # an example's gradient "vanishes" below this share of its loss's largest |δ|


class Observed(NamedTuple):
    """What the record needs of one batch, each [K, B], on no graph.

    loss, log_odds, rival: of `ExampleLosses`. labelled, true: logits of the label trained on and of
    the true one. agree: whether these labels are the same. delta: gradient of the logit bias, that
    is ∂L/∂z_y of the mean over the batch; known after the backward pass.
    """

    loss: torch.Tensor
    log_odds: torch.Tensor
    rival: torch.Tensor
    labelled: torch.Tensor
    true: torch.Tensor
    agree: torch.Tensor
    delta: torch.Tensor


@torch.no_grad()
def observe(
    logits: torch.Tensor, examples: ExampleLosses, noisy: torch.Tensor, clean: torch.Tensor
) -> Observed:
    """What the record needs of a batch but for `delta`, which is empty.

    Parameters
    ----------
    logits: [K, B, C], without bias. examples: what `CohortLosses` says of them.
    noisy: labels trained on, [K, B]. clean: true labels, [B].
    """
    clean = clean.expand_as(noisy)
    labelled, true = (
        logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) for labels in (noisy, clean)
    )
    # Detached: the loss would keep the whole graph of its step.
    loss, log_odds, rival = (part.detach() for part in examples)
    return Observed(loss, log_odds, rival, labelled, true, noisy == clean, loss.new_empty(0))


class EpochDynamics:
    """Sums over one epoch for K members.

    Parameters
    ----------
    largest_delta: [K], the largest |∂L/∂z_y| that each member's loss can have.
    """

    def __init__(self, largest_delta: torch.Tensor) -> None:
        self._threshold = (_VANISHING * largest_delta).unsqueeze(1)
        self._sums = torch.zeros(6, *largest_delta.shape, dtype=torch.float64)
        self._sums = self._sums.to(largest_delta.device)
        self._batches: list[Observed] = []  # counted, not yet summed
        self._examples = 0

    def add(self, observed: Observed) -> None:
        """Count one batch."""
        if len(self._batches) == _SUMMED_AT_ONCE:
            self._sum()
        self._batches.append(observed)

    @torch.no_grad()
    def _sum(self) -> None:
        """Add what is counted to the sums. Their order does not depend on the number of members."""
        sizes = [batch.delta.shape[1] for batch in self._batches]
        columns = zip(*self._batches, strict=True)
        self._batches = []
        loss, log_odds, rival, labelled, true, agree, delta = (torch.cat(c, 1) for c in columns)
        right = labelled > rival
        # Without an argmax: a class other than the label is the prediction where it is the largest
        # of the others and above the label's.
        right_clean = (right & (agree != 0)) | ((true > labelled) & (true == rival))
        for part, size in zip(delta.split(sizes, dim=1), sizes, strict=True):
            part.mul_(size)
        delta.abs_()
        vanishing = delta < self._threshold
        # Not `sigmoid`, which differs in the last bit at the end of a tensor, so with K.
        activation = log_odds.neg_().exp_().add_(1.0).reciprocal_()
        values = (loss, right, right_clean, delta, activation, vanishing)
        self._sums += torch.stack([v.sum(-1, dtype=torch.float64) for v in values])
        self._examples += loss.shape[-1]

    @torch.no_grad()
    def means(self) -> dict[str, list[float]]:
        """Means over the epoch's examples, a list of K for each column of `epochs`."""
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
    """The class with the largest logit, the first of equals: [..., classes] → [...].

    As `argmax(-1)`, which takes torch up to ten times as long as NumPy on a CPU. Where a logit is
    not a number, the answer is some class.
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.argmax(-1)
    return torch.from_numpy(logits.detach().numpy().argmax(-1))


@torch.no_grad()
def accuracy(
    model: Callable[[torch.Tensor], torch.Tensor],
    inputs: Callable[[slice], torch.Tensor],
    labels: list[torch.Tensor],
    batch_size: int,
) -> list[list[float]]:
    """Share of right answers of each member, for several labellings of the same examples.

    Parameters
    ----------
    model: [B, …] → logits [K, B, C]. inputs: slice → [B, …].
    labels: each [N], or [K, N] where members have labels of their own.
    batch_size: examples at a time.

    Returns
    -------
    For each labelling, K fractions.
    """
    examples = labels[0].shape[-1]
    right: list[torch.Tensor | int] = [0] * len(labels)
    for start in range(0, examples, batch_size):
        part = slice(start, min(start + batch_size, examples))
        predicted = predictions(model(inputs(part)))
        for i, wanted in enumerate(labels):
            right[i] = right[i] + (predicted == wanted[..., part]).sum(-1)
    return [(r.double() / examples).tolist() for r in right if isinstance(r, torch.Tensor)]
