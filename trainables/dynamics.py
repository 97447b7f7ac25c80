"""What is recorded of every member in every epoch, gathered on the device.

Training figures are those of the epoch's own forward passes: each example is counted once, just
before the update it takes part in. Where other logits are as large as the label's, it counts as
wrong. Nothing here asks the device for a number before the epoch ends.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.loss_groups import ExampleLosses

_SUMMED_AT_ONCE = 32  # batches
_VANISHING = 0.01  # an example's gradient "vanishes" below this share of its loss's largest |δ|


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
        self._batches: list[tuple[torch.Tensor, ...]] = []  # counted, not yet summed; each [K, B]
        self._examples = 0

    @torch.no_grad()
    def add(
        self,
        logits: torch.Tensor,
        examples: ExampleLosses,
        bias: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
    ) -> None:
        """Count one batch, after its forward and before its backward pass.

        After that, the logits would have to be fetched from memory again.

        Parameters
        ----------
        logits: [K, B, C], without bias. examples: what `CohortLosses` says of them.
        bias: what it was given, [K, B]; its gradient is to be that of the mean over the batch.
        noisy: labels trained on, [K, B]. clean: true labels, [B].
        """
        if len(self._batches) == _SUMMED_AT_ONCE:
            self._sum()
        clean = clean.expand_as(noisy)
        labelled, true = (
            logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) for labels in (noisy, clean)
        )
        # Detached: the loss would keep the whole graph of its step.
        kept = (part.detach() for part in examples)
        self._batches.append((*kept, labelled, true, noisy == clean, bias))

    def _sum(self) -> None:
        """Add what is counted to the sums. Their order does not depend on the number of members."""
        *columns, biases = zip(*self._batches, strict=True)
        self._batches = []
        loss, log_odds, rival, labelled, true, agree = (torch.cat(c, dim=1) for c in columns)
        right = labelled > rival
        # Without an argmax: a class other than the label is the prediction where it is the largest
        # of the others and above the label's.
        right_clean = (right & agree) | ((true > labelled) & (true == rival))
        gradients = [b.grad * b.shape[1] for b in biases if b.grad is not None]
        delta = torch.cat(gradients, dim=1).abs_()
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
