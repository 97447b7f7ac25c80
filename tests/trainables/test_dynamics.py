"""What is counted each epoch, against the definitions written out."""

import pytest
import torch

from trainables.dynamics import EpochDynamics, predictions
from trainables.optimisation import norms


@pytest.mark.parametrize("classes", [2, 10, 32, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_predictions_are_the_first_of_the_largest(classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(classes)
    # Few different values, so that there are many ties.
    logits = torch.randint(-2, 3, (3, 50, classes), generator=generator).to(dtype)
    assert torch.equal(predictions(logits), logits.argmax(-1))
    assert torch.equal(predictions(logits[0]), logits[0].argmax(-1))
    assert predictions(torch.full((1, 2, classes), -torch.inf, dtype=dtype)).tolist() == [[0, 0]]
    with_nan = logits.clone()
    with_nan[1] = torch.nan
    found = predictions(with_nan)
    assert torch.equal(found[[0, 2]], logits[[0, 2]].argmax(-1))


@pytest.mark.parametrize("classes", [3, 200])
def test_means_over_an_epoch_of_unequal_batches(classes: int) -> None:
    members, sizes = 2, (64,) * 40 + (11,)
    generator = torch.Generator().manual_seed(0)
    dynamics = EpochDynamics(torch.tensor([1.0, 0.25]))
    expected = torch.zeros(6, members, dtype=torch.float64)
    for size in sizes:
        logits = 3 * torch.randn(members, size, classes, generator=generator)
        logits.requires_grad_()
        noisy = torch.randint(classes, (members, size), generator=generator)
        clean = torch.randint(classes, (size,), generator=generator)
        probability = logits.softmax(-1).gather(-1, noisy[..., None])[..., 0]
        loss = 1 - probability
        dynamics.add(logits, loss, noisy, clean)
        loss.backward(torch.full_like(loss, 1 / size))
        p = probability.detach()
        delta = p * (1 - p)
        right = logits.argmax(-1)
        small = delta < torch.tensor([[0.01], [0.0025]])
        each = (p.neg() + 1, right == noisy, right == clean, delta, p, small)
        expected += torch.stack([value.double().sum(-1) for value in each])
    found = dynamics.means()
    for name, wanted in zip(found, expected / sum(sizes), strict=True):
        assert found[name] == pytest.approx(wanted.tolist(), rel=1e-5), name


def test_norms_are_each_members_own_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(128, 64), (128,), (100, 128), (3, 5, 3, 3)]
    stacked = [torch.randn(16, *shape, generator=generator) for shape in shapes]
    together = norms(stacked)
    flat = torch.cat([tensor.flatten(1) for tensor in stacked], dim=1)
    torch.testing.assert_close(together, flat.norm(dim=1))
    for k in range(16):
        assert torch.equal(norms([tensor[k : k + 1] for tensor in stacked])[0], together[k])
