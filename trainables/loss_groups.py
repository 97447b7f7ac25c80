"""Members of one cohort with different losses: neighbours with the same loss are one slice."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainables import losses
from trainables.dynamics import largest_delta
from trainables.spec import Member


def loss_key(member: Member) -> tuple[str, tuple[str, ...], bool]:
    """Members with the same key can share one evaluation of their loss."""
    return member.loss, tuple(sorted(member.loss_params)), member.rescale is not None


@dataclass(frozen=True)
class LossGroup:
    """Neighbouring members with the same loss function.

    Parameters
    ----------
    epsilon, params, rescale, largest_delta: tensors [k], where k is the number of members.
    """

    loss: losses.Loss
    epsilon: torch.Tensor
    params: dict[str, torch.Tensor]
    largest_delta: torch.Tensor
    rescale: torch.Tensor | None = None

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, epsilon_factor: float
    ) -> torch.Tensor:
        """Loss of each example, [k, B], of logits [k, B, C] and labels [k, B]."""
        epsilon = self.epsilon if epsilon_factor == 1.0 else self.epsilon * epsilon_factor
        biased = losses.add_logit_bias(logits, labels, epsilon)
        if self.rescale is None:
            found = self.loss.function(biased, labels, **self.params)
        else:
            found = losses.evaluate_rescaled(self.loss, biased, labels, self.rescale, **self.params)
        if found.shape != labels.shape:
            raise ValueError(
                f"loss {self.loss.name}: values of shape {tuple(found.shape)}, but one an example "
                f"is wanted, {tuple(labels.shape)}: a loss must not reduce"
            )
        return found


def group_losses(
    members: Sequence[Member], classes: int, device: torch.device, dtype: torch.dtype
) -> list[LossGroup]:
    """Groups of `members`, which must be sorted by `loss_key`."""

    def per_member(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    groups: list[LossGroup] = []
    for (name, param_names, rescaled), same in itertools.groupby(members, key=loss_key):
        some = list(same)
        largest = [_largest_delta(name, tuple(m.loss_params.items()), classes) for m in some]
        groups.append(
            LossGroup(
                loss=losses.get(name),
                epsilon=per_member([m.epsilon for m in some]),
                params={p: per_member([m.loss_params[p] for m in some]) for p in param_names},
                rescale=per_member([m.rescale or 1.0 for m in some]) if rescaled else None,
                largest_delta=per_member(largest),
            )
        )
    return groups


def losses_of_examples(
    groups: Sequence[LossGroup], logits: torch.Tensor, labels: torch.Tensor, epsilon_factor: float
) -> torch.Tensor:
    """Every member's loss of each example, [K, B], of logits [K, B, C] and labels [K, B]."""
    if len(groups) == 1:
        return groups[0](logits, labels, epsilon_factor)
    # Split once: slices would each make a gradient of all members.
    sizes = [len(group.epsilon) for group in groups]
    parts = zip(groups, logits.split(sizes), labels.split(sizes), strict=True)
    return torch.cat([group(z, y, epsilon_factor) for group, z, y in parts])


@functools.lru_cache(maxsize=256)
def _largest_delta(loss: str, params: tuple[tuple[str, float], ...], classes: int) -> float:
    function = losses.get(loss).function
    return largest_delta(lambda logits, labels: function(logits, labels, **dict(params)), classes)
