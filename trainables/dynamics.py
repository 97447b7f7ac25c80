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
_COUNTED_AT_ONCE = 8_192  # logits of a member; fewer cost more time in calls than in counting
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
        self._waiting: list[tuple[torch.Tensor, ...]] = []
        self._examples = 0

    @torch.no_grad()
    def add(
        self,
        logits: torch.Tensor,
        loss: torch.Tensor,
        logit_gradient: torch.Tensor,
        noisy: torch.Tensor,
        clean: torch.Tensor,
    ) -> None:
        """Count one batch.

        Parameters
        ----------
        logits: [K, B, C], without bias. loss: [K, B]. logit_gradient: [K, B, C], that of the mean
        over the batch. noisy: labels trained on, [K, B]. clean: true labels, [B].
        """
        examples, classes = len(clean), logits.shape[-1]
        if self._waiting and len(self._waiting[0][-1]) != examples:
            self._count()
        self._waiting.append((logits, loss, logit_gradient, noisy, clean))
        # How many are counted together must not depend on the number of members: their sums would.
        if len(self._waiting) * examples * classes >= _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        """Add what waits, batches of one size, to the sums."""
        each = len(self._waiting[0][-1])
        together = (
            parts[0] if len(parts) == 1 else torch.cat(parts, dim=min(1, parts[0].ndim - 1))
            for parts in zip(*self._waiting, strict=True)
        )
        logits, loss, logit_gradient, noisy, clean = together
        self._waiting = []
        index = noisy.unsqueeze(-1)
        delta = logit_gradient.gather(-1, index).squeeze(-1).abs() * each
        activation = log_probability(logits, noisy).exp()
        predicted = predictions(logits)
        per_example = (
            loss,
            predicted == noisy,
            predicted == clean,
            delta,
            activation,
            delta < self._threshold,
        )
        stacked = torch.stack([value.to(loss.dtype) for value in per_example])
        self._sums += stacked.sum(-1, dtype=torch.float64)
        self._examples += len(clean)

    @torch.no_grad()
    def means(self) -> dict[str, list[float]]:
        """Means over the epoch's examples, a list of K for each column of `epochs`."""
        if self._waiting:
            self._count()
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
