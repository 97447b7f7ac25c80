"""Members of one cohort with different losses: neighbours with the same loss are one slice."""

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
    """Members with the same key can share one evaluation of their loss.

    In their order, losses of the labelled probability alone come first.
    """
    of_probability = losses.get(member.loss).of_probability
    parameters = tuple(sorted(member.loss_params))
    return not of_probability, member.loss, parameters, member.rescale is not None


@dataclass(frozen=True)
class LossGroup:
    """Neighbouring members with the same loss function.

    Parameters
    ----------
    params, rescale: tensors [k], where k is the number of members.
    """

    loss: losses.Loss
    members: int
    params: dict[str, torch.Tensor]
    rescale: torch.Tensor | None

    def at_log_odds(self, delta: torch.Tensor) -> torch.Tensor:
        """Loss of each example, [k, B], of log-odds [k, B] that carry the logit bias."""
        return self._checked(
            losses.evaluate_log_odds(self.loss, delta, self.rescale, **self.params), delta
        )

    def at_logits(
        self, logits: torch.Tensor, labels: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Loss of each example, [k, B], of logits [k, B, C]; labels and logit bias [k, B]."""
        if self.rescale is not None:
            raise ValueError(
                f"loss {self.loss.name}: rescale needs a loss of the labelled probability alone"
            )
        biased = logits.scatter_add(-1, labels.unsqueeze(-1), bias.unsqueeze(-1))
        return self._checked(self.loss.function(biased, labels, **self.params), labels)

    def _checked(self, found: torch.Tensor, examples: torch.Tensor) -> torch.Tensor:
        if found.shape != examples.shape:
            raise ValueError(
                f"loss {self.loss.name}: values of shape {tuple(found.shape)}, but one an example "
                f"is wanted, {tuple(examples.shape)}: a loss must not reduce"
            )
        return found


class ExampleLosses(NamedTuple):
    """Of every member and example, each [K, B].

    loss: with the logit bias. log_odds: Δ of the labelled class, without bias. rival: the largest
    logit of the other classes. Of the last two no gradient can be asked.
    """

    loss: torch.Tensor
    log_odds: torch.Tensor
    rival: torch.Tensor


class CohortLosses:
    """The losses of K members, which must be sorted by `loss_key`.

    Attributes:
        epsilon: logit bias, [K].
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
        for (other, name, parameters, rescaled), same in itertools.groupby(members, key=loss_key):
            some = list(same)
            group = LossGroup(
                losses.get(name),
                len(some),
                {p: per_member([m.loss_params[p] for m in some]) for p in parameters},
                per_member([m.rescale or 1.0 for m in some]) if rescaled else None,
            )
            (self._others if other else self._of_probability).append(group)

    def bias(self, factor: float | torch.Tensor, examples: int) -> torch.Tensor:
        """The logit bias ε · `factor` of each example, [K, B].

        After a backward pass its gradient is that of the labelled logit, ∂L/∂z_y.
        """
        each = (self.epsilon * factor).unsqueeze(1)
        return each.expand(-1, examples).contiguous().requires_grad_()

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, bias: torch.Tensor
    ) -> ExampleLosses:
        """Every member's loss of each example.

        Parameters
        ----------
        logits: [K, B, C]. labels: [K, B]. bias: what `bias` gives.
        """
        if not self._others:
            delta, rival = losses.log_odds_and_rival(logits, labels)
            return ExampleLosses(_joined(self._at_log_odds(delta + bias)), delta.detach(), rival)
        if not self._of_probability:
            with torch.no_grad():
                delta, rival = losses.log_odds_and_rival(logits, labels)
            return ExampleLosses(_joined(self._at_logits(logits, labels, bias)), delta, rival)
        # Split once: slices would each make a gradient of all members.
        sizes = [sum(group.members for group in g) for g in (self._of_probability, self._others)]
        (z0, z1), (y0, y1), (b0, b1) = (t.split(sizes) for t in (logits, labels, bias))
        delta0, rival0 = losses.log_odds_and_rival(z0, y0)
        with torch.no_grad():
            delta1, rival1 = losses.log_odds_and_rival(z1, y1)
        values = [*self._at_log_odds(delta0 + b0), *self._at_logits(z1, y1, b1)]
        return ExampleLosses(
            torch.cat(values), torch.cat([delta0.detach(), delta1]), torch.cat([rival0, rival1])
        )

    def _at_log_odds(self, delta: torch.Tensor) -> list[torch.Tensor]:
        parts = _parts(self._of_probability, delta)
        return [g.at_log_odds(part) for g, (part,) in zip(self._of_probability, parts, strict=True)]

    def _at_logits(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        parts = _parts(self._others, *tensors)
        return [g.at_logits(*part) for g, part in zip(self._others, parts, strict=True)]


def _parts(groups: Sequence[LossGroup], *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Of tensors [K, …] what belongs to each group."""
    if len(groups) == 1:
        return [tensors]
    sizes = [group.members for group in groups]
    return list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))


def _joined(values: list[torch.Tensor]) -> torch.Tensor:
    return values[0] if len(values) == 1 else torch.cat(values)


@functools.lru_cache(maxsize=256)
def _largest_delta(loss: str, params: tuple[tuple[str, float], ...], classes: int) -> float:
    """The largest |∂L/∂z_y| of a loss over Δ = z_y − log Σ_{i≠y} exp z_i in [−30, 30].

    The other classes are taken as equal, which is exact for losses of the labelled class's
    probability alone. A logit bias moves Δ and leaves the maximum as it is.
    """
    function, largest = losses.get(loss).function, 0.0
    for part in torch.linspace(-30, 30, 241).split(max(1, _LOGITS_AT_ONCE // classes)):
        logits = torch.zeros(len(part), classes)
        logits[:, 0] = part + math.log(classes - 1)
        logits.requires_grad_()
        labels = torch.zeros(len(part), dtype=torch.int64)
        (gradient,) = torch.autograd.grad(function(logits, labels, **dict(params)).sum(), logits)
        largest = max(largest, float(gradient[:, 0].abs().max()))
    return largest
