"""What is recorded each epoch, against the written-out definitions."""

import weakref

import pytest
import torch

from trainables import losses
from trainables.engine.cohort_losses import CohortLosses, loss_key
from trainables.engine.metrics import EpochDynamics, observe, predictions
from trainables.engine.optimizers import norms
from trainables.engine.spec import Member


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
    predicted = predictions(with_nan)
    assert torch.equal(predicted[[0, 2]], logits[[0, 2]].argmax(-1))


MEMBERS = [
    Member("a", "mae", 0.1, epsilon=1.0),
    Member("b", "gce", 0.1, epsilon=2.0, loss_params={"q": 0.3}),
    Member("c", "nce", 0.1, epsilon=0.5),
    Member("d", "mae", 0.1, epsilon=0.0, rescale=0.5),
    Member("e", "nce_mae", 0.1, epsilon=1.5, loss_params={"beta": 2.0}),
]


@pytest.mark.parametrize("names", ["a", "abd", "c", "ce", "abcde"])
@pytest.mark.parametrize("classes", [2, 3, 16, 17, 200])
def test_means_over_an_epoch_of_unequal_batches(names: str, classes: int) -> None:
    """For losses of p alone, others and both, against each member's own loss and gradient."""
    members = sorted((m for m in MEMBERS if m.network_id in names), key=loss_key)
    cohort = CohortLosses(members, classes, torch.device("cpu"), torch.float64)
    dynamics, sizes = EpochDynamics(cohort.largest_delta), (64,) * 40 + (11,)
    expected = torch.zeros(6, len(members), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        shape = (len(members), size)
        logits = 3 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64)
        logits.requires_grad_()
        clean = torch.randint(classes, (size,), generator=generator)
        wrong = torch.randint(classes, shape, generator=generator)
        noisy = torch.where(torch.rand(shape, generator=generator) < 0.4, wrong, clean)
        bias = cohort.bias(0.5, size)
        examples = cohort(logits, noisy, bias)
        observed = observe(logits, examples, noisy, clean)
        examples.loss.backward(torch.full_like(examples.loss, 1 / size))
        dynamics.add(observed._replace(delta=bias.grad))
        for k, member in enumerate(members):
            leaf, y, loss = logits[k].detach().requires_grad_(), noisy[k], losses.get(member.loss)
            biased = losses.add_logit_bias(leaf, y, 0.5 * member.epsilon)
            if member.rescale is None:
                values = loss.function(biased, y, **member.loss_params)
            else:
                values = losses.evaluate_rescaled(loss, biased, y, member.rescale)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
            torch.testing.assert_close(logits.grad[k] * size, gradient, rtol=1e-9, atol=1e-12)
            delta = gradient.gather(-1, y[:, None])[:, 0].abs()
            right = leaf.argmax(-1)
            p = leaf.softmax(-1).gather(-1, y[:, None])[:, 0]
            small = delta < 0.01 * cohort.largest_delta[k]
            each = (values, right == y, right == clean, delta, p, small)
            expected[:, k] += torch.stack([v.detach().double().sum() for v in each])
    means = dynamics.means()
    for name, mean in zip(means, expected / sum(sizes), strict=True):
        assert means[name] == pytest.approx(mean.tolist(), rel=1e-9), name


def test_a_member_with_equal_logits_is_never_right() -> None:
    """A network whose logits are all the same predicts nothing."""
    cohort = CohortLosses(MEMBERS[:1], 3, torch.device("cpu"), torch.float32)
    dynamics, logits = EpochDynamics(cohort.largest_delta), torch.zeros(1, 3, 3).requires_grad_()
    noisy, clean, bias = torch.tensor([[0, 1, 0]]), torch.tensor([0, 1, 2]), cohort.bias(1.0, 3)
    examples = cohort(logits, noisy, bias)
    observed = observe(logits, examples, noisy, clean)
    examples.loss.backward(torch.ones(1, 3))
    dynamics.add(observed._replace(delta=bias.grad))
    means = dynamics.means()
    assert means["train_acc_noisy"] == means["train_acc_clean"] == [0.0]


def test_recording_keeps_no_graph_alive() -> None:
    """Otherwise a network's activations would stay in memory for 32 batches."""
    cohort = CohortLosses(MEMBERS[:1], 3, torch.device("cpu"), torch.float32)
    dynamics, logits = EpochDynamics(cohort.largest_delta), torch.randn(1, 2, 3).requires_grad_()
    labels, bias = torch.zeros(1, 2, dtype=torch.int64), cohort.bias(1.0, 2)
    examples, reference = cohort(logits, labels, bias), weakref.ref(logits)
    observed = observe(logits, examples, labels, labels[0])
    examples.loss.backward(torch.ones(1, 2))
    dynamics.add(observed._replace(delta=bias.grad))
    del examples, logits
    assert reference() is None
    dynamics.means()


def test_rescale_needs_a_loss_of_the_labelled_probability_alone() -> None:
    members = [Member("a", "nce", 0.1, rescale=0.5)]
    cohort = CohortLosses(members, 3, torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="nce"):
        cohort(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64), cohort.bias(1.0, 2))


def test_norms_do_not_depend_on_the_other_members() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(128, 64), (128,), (100, 128), (3, 5, 3, 3)]
    stacked = [torch.randn(16, *shape, generator=generator) for shape in shapes]
    together = norms(stacked)
    flat = torch.cat([tensor.flatten(1) for tensor in stacked], dim=1)
    torch.testing.assert_close(together, flat.norm(dim=1))
    for k in range(16):
        assert torch.equal(norms([tensor[k : k + 1] for tensor in stacked])[0], together[k])
