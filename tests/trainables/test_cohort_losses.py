"""Losses of a cohort: to the bit the same for each member with and without its neighbours."""

import pytest
import torch

from trainables import losses
from trainables.engine.cohort_losses import CohortLosses, loss_key
from trainables.engine.spec import Member
from trainables.losses import conformance

CPU = torch.device("cpu")


def evaluated(
    members: list[Member], logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Loss, log-odds, largest_other and the gradients of bias and logits, each [K, …]."""
    cohort = CohortLosses(members, logits.shape[-1], CPU, logits.dtype)
    leaf, bias = logits.clone().requires_grad_(), cohort.bias(1.0, logits.shape[1])
    examples = cohort(leaf, labels, bias)
    examples.loss.backward(torch.full_like(examples.loss, 1.0 / logits.shape[1]))
    assert bias.grad is not None
    assert leaf.grad is not None
    return (*(values.detach() for values in examples), bias.grad, leaf.grad)


@pytest.mark.parametrize("classes", [2, 10, 17, 100])
@pytest.mark.parametrize("name", losses.names())
def test_neighbours_change_no_bit(name: str, classes: int) -> None:
    """Torch computes the last numbers of a tensor by other instructions than the rest.

    With a batch of 45 these are other examples for each number of members.
    """
    generator = torch.Generator().manual_seed(classes)
    members = [
        Member(
            str(k),
            loss,
            0.1,
            epsilon=0.5 * k,
            loss_params=conformance.draw_params(losses.get(loss), generator),
        )
        for k, loss in enumerate([name, name, "mae", name, "nce"])
    ]
    members.sort(key=loss_key)
    logits = 3 * torch.randn(len(members), 45, classes, generator=generator)
    labels = torch.randint(classes, (len(members), 45), generator=generator)
    together = evaluated(members, logits, labels)
    for k, member in enumerate(members):
        alone = evaluated([member], logits[k : k + 1], labels[k : k + 1])
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_[k])
