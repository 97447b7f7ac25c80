"""What is recorded of every member in every epoch, gathered on the device.

Training figures are those of the epoch's own forward passes: each example is counted once, just
before the update it takes part in. Nothing here asks the device for a number before the epoch ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from trainables.losses import log_probability

_LOGITS_AT_ONCE = 1_000_000
_SUMMED_AT_ONCE = 32  # batches
_SHORT_AXIS = 32  # classes up to which comparing all is faster than looking for the largest
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
        self._deltas: list[torch.Tensor] = []  # theirs, [K, B]
        self._examples = 0

    @torch.no_grad()
    def add(
        self,
        logits: torch.Tensor,
        loss: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
    ) -> None:
        """Count one batch, after its forward and before its backward pass.

        The gradient is counted as it passes: later it would have to be fetched from memory again.

        Parameters
        ----------
        logits: [K, B, C], without bias; the gradient that reaches them is to be that of the mean
            over the batch. loss: [K, B]. noisy: labels trained on, [K, B]. clean: true labels, [B].
        """
        if len(self._batches) == _SUMMED_AT_ONCE:
            self._sum()
        index, examples = noisy.unsqueeze(-1), len(clean)

        def count(gradient: torch.Tensor) -> None:
            self._deltas.append(gradient.gather(-1, index).squeeze(-1).mul_(examples))

        logits.register_hook(count)
        values = logits.detach()
        predicted = predictions(values)
        log_p = log_probability(values, noisy)
        self._batches.append((loss.detach(), predicted == noisy, predicted == clean, log_p))

    def _sum(self) -> None:
        """Add what is counted to the sums. Their order does not depend on the number of members."""
        delta = torch.cat(self._deltas, dim=1).abs_()
        loss, right_noisy, right_clean, log_p = (
            torch.cat(parts, dim=1) for parts in zip(*self._batches, strict=True)
        )
        self._batches, self._deltas = [], []
        vanishing = delta < self._threshold
        values = (loss, right_noisy, right_clean, delta, log_p.exp_(), vanishing)
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

    As `argmax(-1)`, which takes two to ten times as long on a CPU. Where a logit is not a number,
    the answer is some class or none (the number of classes).
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.float32, torch.float64):
        return logits.argmax(-1)
    classes = logits.shape[-1]
    if classes > _SHORT_AXIS:
        return torch.from_numpy(logits.detach().numpy().argmax(-1))
    by_class = logits.transpose(-1, -2).contiguous()
    is_largest = (by_class == by_class.amax(-2, keepdim=True)).view(torch.uint8)
    down = torch.arange(classes, 0, -1, dtype=torch.uint8).unsqueeze(1)
    return classes - (is_largest * down).amax(-2).long()


def largest_delta(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], classes: int
) -> float:
    """The largest |∂L/∂z_y| of a loss over Δ = z_y − log Σ_{i≠y} exp z_i in [−30, 30].

    The other classes are taken as equal, which is exact for losses of the labelled class's
    probability alone. A logit bias moves Δ and leaves the maximum as it is.

    Parameters
    ----------
    loss: (logits [B, C], labels [B]) → [B].
    """
    largest = 0.0
    for part in torch.linspace(-30, 30, 241).split(max(1, _LOGITS_AT_ONCE // classes)):
        logits = torch.zeros(len(part), classes)
        logits[:, 0] = part + math.log(classes - 1)
        logits.requires_grad_()
        labels = torch.zeros(len(part), dtype=torch.int64)
        (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), logits)
        largest = max(largest, float(gradient[:, 0].abs().max()))
    return largest


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
