"""Losses of the members of a cohort: neighbours with the same loss are evaluated as one slice."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from trainables import losses
from trainables.engine.spec import Member

_LOGITS_AT_ONCE = 1_000_000


def loss_key(member: Member) -> tuple[bool, str, tuple[str, ...], bool]:
    """A sort key; members with the same key can share one evaluation of their loss.

    Losses that depend on the labelled probability alone come first.
    """
    of_probability = losses.get(member.loss).of_probability
    parameters = tuple(sorted(member.loss_params))
    return not of_probability, member.loss, parameters, member.rescale is not None


@dataclass(frozen=True)
class LossGroup:
    """Neighbouring members with the same loss function.

    Attributes:
        loss: the loss.
        members: number of members, k.
        params: parameters of the loss, each of shape [k].
        rescale: factors on Δ, [k]; None where the loss is not rescaled.
    """

    loss: losses.Loss
    members: int
    params: dict[str, torch.Tensor]
    rescale: torch.Tensor | None

    def at_log_odds(self, delta: torch.Tensor) -> torch.Tensor:
        """Evaluate the loss.

        Args:
            delta: log-odds with the logit bias, [k, B].

        Returns:
            loss of each example, [k, B].

        Raises:
            ValueError: the loss does not return one value per example.
        """
        return self._checked(
            losses.evaluate_log_odds(self.loss, delta, self.rescale, **self.params), delta
        )

    def at_logits(
        self, logits: torch.Tensor, labels: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Evaluate the loss.

        Args:
            logits: without the logit bias, [k, B, C].
            labels: [k, B].
            bias: the logit bias, [k, B].

        Returns:
            loss of each example, [k, B].

        Raises:
            ValueError: the loss does not return one value per example, or it is rescaled, which
                only losses of the labelled probability alone can be.
        """
        if self.rescale is not None:
            raise ValueError(
                f"loss {self.loss.name}: rescale needs a loss of the labelled probability alone"
            )
        biased = logits.scatter_add(-1, labels.unsqueeze(-1), bias.unsqueeze(-1))
        return self._checked(self.loss.function(biased, labels, **self.params), labels)

    def _checked(self, values: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        if values.shape != examples.shape:
            raise ValueError(
                f"loss {self.loss.name}: values of shape {tuple(values.shape)} instead of one per "
                f"example, {tuple(examples.shape)}: a loss must not reduce"
            )
        return values


class ExampleLosses(NamedTuple):
    """Values of every member and example, each [K, B].

    Attributes:
        loss: with the logit bias.
        log_odds: Δ of the labelled class, without the bias; has no gradient.
        largest_other: the largest logit of the other classes; has no gradient.
    """

    loss: torch.Tensor
    log_odds: torch.Tensor
    largest_other: torch.Tensor


class CohortLosses:
    """The losses of K members, with their logit biases.

    Args:
        members: sorted by `loss_key`.
        classes: number of classes, C.
        device: of all tensors.
        dtype: type of all tensors.

    Attributes:
        epsilon: logit bias ε of each member, [K].
        largest_delta: the largest |∂L/∂z_y| that each member's loss can have, [K].
    """

    def __init__(
        self, members: Sequence[Member], classes: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        def per_member(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        self.epsilon = per_member([m.epsilon for m in members])
        self.largest_delta = per_member(
            [_largest_delta(m.loss, tuple(m.loss_params.items()), classes) for m in members]
        )
        self._of_probability: list[LossGroup] = []
        self._others: list[LossGroup] = []
        for key, neighbours in itertools.groupby(members, key=loss_key):
            is_other, name, parameters, is_rescaled = key
            group_members = list(neighbours)
            group = LossGroup(
                losses.get(name),
                len(group_members),
                {p: per_member([m.loss_params[p] for m in group_members]) for p in parameters},
                per_member([m.rescale or 1.0 for m in group_members]) if is_rescaled else None,
            )
            (self._others if is_other else self._of_probability).append(group)

    def bias(self, factor: float | torch.Tensor, examples: int) -> torch.Tensor:
        """The logit bias of each example.

        After a backward pass its gradient is that of the labelled logit, ∂L/∂z_y.

        Args:
            factor: on every member's ε, from the schedule.
            examples: number of examples, B.

        Returns:
            ε · `factor`, shape [K, B].
        """
        per_member = (self.epsilon * factor).unsqueeze(1)
        return per_member.expand(-1, examples).contiguous().requires_grad_()

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, bias: torch.Tensor
    ) -> ExampleLosses:
        """Evaluate every member's loss.

        Args:
            logits: without the logit bias, [K, B, C].
            labels: [K, B].
            bias: what `bias` returns, [K, B].
        """
        if not self._others:
            delta, largest_other = losses.log_odds_and_largest_other(logits, labels)
            return ExampleLosses(
                _joined(self._at_log_odds(delta + bias)), delta.detach(), largest_other
            )
        if not self._of_probability:
            with torch.no_grad():
                delta, largest_other = losses.log_odds_and_largest_other(logits, labels)
            return ExampleLosses(
                _joined(self._at_logits(logits, labels, bias)), delta, largest_other
            )
        # Split once: each slice would otherwise have a gradient with the size of all members.
        sizes = [sum(group.members for group in g) for g in (self._of_probability, self._others)]
        (z0, z1), (y0, y1), (b0, b1) = (torch.split(t, sizes) for t in (logits, labels, bias))
        delta0, largest_other0 = losses.log_odds_and_largest_other(z0, y0)
        with torch.no_grad():
            delta1, largest_other1 = losses.log_odds_and_largest_other(z1, y1)
        values = [*self._at_log_odds(delta0 + b0), *self._at_logits(z1, y1, b1)]
        return ExampleLosses(
            torch.cat(values),
            torch.cat([delta0.detach(), delta1]),
            torch.cat([largest_other0, largest_other1]),
        )

    def _at_log_odds(self, delta: torch.Tensor) -> list[torch.Tensor]:
        slices = _by_group(self._of_probability, delta)
        return [g.at_log_odds(d) for g, (d,) in zip(self._of_probability, slices, strict=True)]

    def _at_logits(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        slices = _by_group(self._others, *tensors)
        return [g.at_logits(*s) for g, s in zip(self._others, slices, strict=True)]


def _by_group(
    groups: Sequence[LossGroup], *tensors: torch.Tensor
) -> list[tuple[torch.Tensor, ...]]:
    """The slice of each tensor [K, …] that belongs to each group."""
    if len(groups) == 1:
        return [tensors]
    sizes = [group.members for group in groups]
    return list(zip(*(torch.split(tensor, sizes) for tensor in tensors), strict=True))


def _joined(values: list[torch.Tensor]) -> torch.Tensor:
    return values[0] if len(values) == 1 else torch.cat(values)


@functools.lru_cache(maxsize=256)
def _largest_delta(loss: str, params: tuple[tuple[str, float], ...], classes: int) -> float:
    """The largest |∂L/∂z_y| of a loss over Δ = z_y − log Σ_{i≠y} exp z_i in [−30, 30].

    The other classes are taken as equal, which is exact for losses that depend on the labelled
    class's probability alone. A logit bias moves Δ and does not change the maximum.
    """
    function, largest = losses.get(loss).function, 0.0
    chunk_size = max(1, _LOGITS_AT_ONCE // classes)
    for chunk in torch.split(torch.linspace(-30, 30, 241), chunk_size):
        logits = torch.zeros(len(chunk), classes)
        logits[:, 0] = chunk + math.log(classes - 1)
        logits.requires_grad_()
        labels = torch.zeros(len(chunk), dtype=torch.int64)
        (gradient,) = torch.autograd.grad(function(logits, labels, **dict(params)).sum(), logits)
        largest = max(largest, float(gradient[:, 0].abs().max()))
    return largest
