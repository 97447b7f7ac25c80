"""`Criterion` does what users of `torch.nn.CrossEntropyLoss` expect, and equals the pure losses."""

import itertools
import pickle
from typing import Any

import pytest
import torch
from criterion_support import (
    CLASSES,
    HARD_ONLY,
    LABELS,
    LOGITS,
    SOFT,
    batch,
    soft_labels,
    value_and_gradient,
    weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainables import losses
from trainables.losses import Criterion
from trainables.theory.logit_bias import solve_epsilon
from trainables.theory.rules import analytic_rules

SHAPES = {
    "[C]": (CLASSES,),
    "[B, C]": (5, CLASSES),
    "[B, C, d]": (3, CLASSES, 4),
    "[B, C, d, d]": (2, CLASSES, 3, 2),
    "no examples": (0, CLASSES),
}


def assert_same(ours: nn.Module, torchs: nn.Module, logits: torch.Tensor, labels: Any) -> None:
    for mine, reference in zip(
        value_and_gradient(ours, logits, labels),
        value_and_gradient(torchs, logits, labels),
        strict=True,
    ):
        assert mine.shape == reference.shape
        assert mine.dtype == reference.dtype
        torch.testing.assert_close(mine, reference, equal_nan=True, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weight"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestCrossEntropyLoss:
    """With the loss `ce` and ε = 0, everything is as in `torch.nn.CrossEntropyLoss`."""

    @pytest.mark.parametrize("ignore_index", [-100, -1, 2])
    def test_class_indices(self, shape, weighted, reduction, ignore_index):
        options: dict[str, Any] = {
            "weight": weights() if weighted else None,
            "ignore_index": ignore_index,
            "reduction": reduction,
        }
        logits, labels = batch(shape)
        ours, torchs = Criterion("ce", epsilon=0, **options), nn.CrossEntropyLoss(**options)
        assert_same(ours, torchs, logits, labels)
        if labels.ndim:
            labels[::2] = ignore_index
            assert_same(ours, torchs, logits, labels)
        assert_same(ours, torchs, logits, torch.full_like(labels, ignore_index))

    def test_soft_labels(self, shape, weighted, reduction):
        options: dict[str, Any] = {
            "weight": weights() if weighted else None,
            "reduction": reduction,
        }
        ours, torchs = Criterion("ce", epsilon=0, **options), nn.CrossEntropyLoss(**options)
        assert_same(ours, torchs, batch(shape)[0], soft_labels(shape))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(1, 3)),
    seed=st.integers(0, 1000),
    ignored=st.integers(-3, 8),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_cross_entropy_of_any_shape(sizes, seed, ignored, weighted, reduction):
    logits, labels = batch(sizes, seed)
    labels[:, ::2] = ignored if ignored < 0 else labels[:, ::2]
    options: dict[str, Any] = {
        "weight": torch.rand(sizes[1]) if weighted else None,
        "ignore_index": ignored,
        "reduction": reduction,
    }
    assert_same(Criterion("ce", **options), nn.CrossEntropyLoss(**options), logits, labels)


def test_label_smoothing_is_a_loss_of_the_bank():
    logits, labels = batch()
    ours = Criterion("label_smoothing", params={"smoothing": 0.2})
    assert_same(ours, nn.CrossEntropyLoss(label_smoothing=0.2), logits, labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", losses.names())
def test_equals_the_pure_loss_to_the_bit(name, dtype):
    loss = losses.get(name)
    for shape in [(16, CLASSES), (64, 33)]:
        logits, labels = batch(shape, dtype=dtype)
        criterion = Criterion(name, classes=shape[1], reduction="none")
        assert criterion.epsilon == (solve_epsilon(shape[1]) if loss.searches_epsilon else 0.0)
        assert criterion.params == loss.defaults

        def pure(z: torch.Tensor, y: torch.Tensor, criterion=criterion) -> torch.Tensor:
            return losses.evaluate(loss, z, y, criterion.epsilon, **criterion.params)

        expected = value_and_gradient(pure, logits, labels)
        assert all(map(torch.equal, value_and_gradient(criterion, logits, labels), expected))
        criterion.reduction = "mean"
        mean = value_and_gradient(lambda z, y, pure=pure: pure(z, y).mean(), logits, labels)
        assert all(map(torch.equal, value_and_gradient(criterion, logits, labels), mean))
        criterion.reduction = "sum"
        total = value_and_gradient(lambda z, y, pure=pure: pure(z, y).sum(), logits, labels)
        assert all(map(torch.equal, value_and_gradient(criterion, logits, labels), total))


@pytest.mark.parametrize(
    ("name", "preset"),
    [(name, preset.name) for name in losses.names() for preset in losses.get(name).presets],
)
def test_presets(name, preset):
    loss = losses.get(name)
    (source,) = [p for p in loss.presets if p.name == preset]
    criterion = Criterion(name, classes=CLASSES, preset=preset).eval()
    assert criterion.weight_l1 == source.weight_l1
    logits, labels = batch()
    pure = losses.evaluate(loss, logits, labels, criterion.epsilon, **loss.preset(preset)).mean()
    assert torch.equal(criterion(logits, labels), pure)
    assert preset in repr(criterion)


def test_epsilon_and_parameters_from_the_class_count():
    assert Criterion("mae", classes=1000).epsilon == pytest.approx(5.333, abs=1e-3)
    assert Criterion("mae", epsilon=2.5).epsilon == 2.5
    for rule in ("activation", "gradient", "shift"):
        (row,) = analytic_rules(100, loss="gce", rules=[rule])
        assert Criterion("gce", classes=100, epsilon=rule).epsilon == row.value
    (row,) = analytic_rules(100, loss="gce", parameter="q")
    by_class_count = Criterion("gce", classes=100, params={"q": "gradient"})
    assert (by_class_count.params["q"], by_class_count.epsilon) == (row.value, 0.0)
    (row,) = analytic_rules(100, loss="gce", parameter="q", params={"epsilon": 1.0})
    with_both = Criterion("gce", classes=100, epsilon=1, params={"q": "gradient"})
    assert (with_both.params["q"], with_both.epsilon) == (row.value, 1.0)
    preset_and_own = Criterion("agce", classes=9, preset="alfs-mnist", params={"q": 2})
    assert preset_and_own.params == losses.get("agce").preset("alfs-mnist") | {"q": 2.0}


def test_a_loss_of_ones_own():
    own = "tests_support:by_matrix_product"
    criterion = Criterion(own, classes=CLASSES)
    assert criterion.epsilon == solve_epsilon(CLASSES)
    pure = losses.evaluate(losses.get(own), LOGITS, LABELS, criterion.epsilon).mean()
    assert torch.equal(pickle.loads(pickle.dumps(criterion))(LOGITS, LABELS), pure)
    with pytest.raises(ValueError, match="a loss must not reduce"):
        Criterion("tests_support:reducing_loss", classes=CLASSES)(*batch())


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("epsilon", [0.0, 2.0, -1.0])
def test_every_label_at_once(name, epsilon):
    logits, _ = batch(dtype=torch.float64)
    loss = losses.get(name)
    every = losses.evaluate_every_label(loss, logits, epsilon, **loss.defaults)
    for k in range(CLASSES):
        labels = torch.full((len(logits),), k)
        alone = losses.evaluate(loss, logits, labels, epsilon, **loss.defaults)
        torch.testing.assert_close(every[:, k], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SOFT)
def test_soft_labels_mix_the_losses_of_their_classes(name):
    shape = (4, CLASSES, 3)
    logits, labels = batch(shape)
    other = labels.roll(1, 0)
    criterion = Criterion(name, classes=CLASSES)
    one_hot, other_hot = (
        nn.functional.one_hot(y, CLASSES).movedim(-1, 1).float() for y in (labels, other)
    )
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(criterion(logits, one_hot), criterion(logits, labels), **close)
    torch.testing.assert_close(
        criterion(logits, 0.3 * one_hot + 0.7 * other_hot),
        criterion.mixup(logits, labels, other, 0.3),
        **close,
    )


@pytest.mark.parametrize("name", losses.names())
def test_mixup(name):
    logits, labels = batch()
    other = labels.flip(0)
    criterion = Criterion(name, classes=CLASSES, weight=weights())
    mixed = 0.25 * criterion(logits, labels) + 0.75 * criterion(logits, other)
    assert torch.equal(criterion.mixup(logits, labels, other, 0.25), mixed)


def test_soft_labels_of_extreme_logits_are_finite():
    for name in SOFT:
        for dtype, scale in itertools.product((torch.float32, torch.float64), (1e2, 1e4)):
            logits, _ = batch((8, CLASSES), dtype=dtype)
            for epsilon in (0.0, 5.0):
                criterion = Criterion(name, epsilon=epsilon)
                results = value_and_gradient(criterion, scale * logits, soft_labels((8, CLASSES)))
                assert all(result.isfinite().all() for result in results), name


@pytest.mark.parametrize("name", HARD_ONLY)
def test_losses_that_define_soft_labels_otherwise_refuse_them(name):
    with pytest.raises(ValueError, match=r"no soft labels here.*mixup"):
        Criterion(name, classes=CLASSES)(batch()[0], soft_labels((16, CLASSES)))


REFUSED: dict[str, tuple[Any, ...]] = {
    "column": (LOGITS, LABELS[:, None], r"integer labels of shape \(16, 1\) do not fit"),
    "classes last": (LOGITS[None], LABELS[None], "have 16 classes, the criterion has 7"),
    "swapped": (LABELS, LOGITS, r"the order is \(logits, labels\)"),
    "soft shape": (LOGITS, LABELS.float(), r"soft labels of shape \(16,\) do not fit"),
    "bool": (LOGITS, LABELS > 2, "labels of dtype torch.bool"),
    "numpy": (LOGITS, LABELS.numpy(), "labels must be a tensor, not ndarray"),
    "too large": (LOGITS, LABELS + 1, "label 7: must be 0 to 6, or ignore_index = -100"),
    "negative": (LOGITS, LABELS - 1, "label -1: must be 0 to 6"),
    "scalar": (LOGITS[0, 0], LABELS[0], r"logits of shape \(\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_tensors(case):
    logits, labels, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError, IndexError), match=message) as caught:
        Criterion("mae", classes=CLASSES)(logits, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "maee"}, "did you mean mae"),
        ({}, "epsilon follows from the number of classes"),
        ({"classes": "10"}, "classes = '10': must be an integer"),
        ({"classes": 1}, "classes = 1"),
        ({"classes": 9, "epsilon": "paper"}, "unknown rule 'paper' for epsilon; allowed"),
        ({"classes": 9, "epsilon": "activation-measured"}, "needs the logits of your"),
        ({"epsilon": float("nan")}, "epsilon = nan: must be a finite number"),
        ({"epsilon": True}, "epsilon = True"),
        ({"classes": 9, "params": {"q": 1}}, "mae has no parameter q"),
        ({"classes": 9, "params": {"epsilon": 1}}, "mae has no parameter epsilon"),
        ({"classes": 9, "params": {"scale": -1}}, "scale = -1 must lie in"),
        ({"classes": 9, "params": {"scale": "shift"}}, "a number or 'gradient'"),
        ({"loss": "gce", "params": {"q": "gradient"}}, "q follows from the number of classes"),
        (
            {"loss": "gce", "classes": 9, "epsilon": "shift", "params": {"q": "gradient"}},
            "epsilon and q cannot all follow",
        ),
        ({"classes": 9, "preset": "cifar"}, "no preset 'cifar'; allowed: alfs"),
        ({"classes": 9, "schedule": "linaer"}, "did you mean linear"),
        ({"classes": 9, "schedule": "linear"}, "steps = None"),
        ({"classes": 9, "reduction": "avg"}, "unknown reduction 'avg'; allowed: mean, sum, none"),
        ({"classes": 9, "weight": [1.0, 2.0]}, r"weight of shape \[2\]: must be \[9\]"),
        (
            {"loss": "anl_ce", "classes": 9, "preset": "anl-mnist", "reduction": "sum"},
            "reduction must be 'mean'",
        ),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Criterion(**{"loss": "mae", **arguments})
    assert "\n" not in str(caught.value)


def test_other_refusals():
    soft = soft_labels((16, CLASSES))
    with pytest.raises(ValueError, match="ignore_index = 3 has no meaning for soft labels"):
        Criterion("mae", classes=CLASSES, ignore_index=3)(LOGITS, soft)
    with pytest.raises(ValueError, match="use smaller batches"):
        Criterion("nce", classes=1000)(torch.zeros(128, 1000), torch.zeros(128, 1000))
    with pytest.raises(ValueError, match=r"share = 1.5: must lie in \[0, 1\]"):
        Criterion("mae", classes=CLASSES).mixup(LOGITS, LABELS, LABELS, 1.5)
    with pytest.raises(ValueError, match="weight has 7"):
        Criterion("mae", epsilon=0, weight=weights())(torch.zeros(2, 8), LABELS[:2])


def test_l1_term_of_a_preset():
    network = nn.Linear(3, CLASSES)
    criterion = Criterion("anl_ce", classes=CLASSES, preset="anl-cifar10")
    with pytest.raises(ValueError, match=r"5e-05 ‖θ‖₁: give parameters=model.parameters\(\)"):
        criterion(LOGITS, LABELS)
    with_term = criterion(LOGITS, LABELS, parameters=network.parameters())
    mixed = criterion.mixup(LOGITS, LABELS, LABELS, 0.5, parameters=network.parameters())
    without = criterion.eval()(LOGITS, LABELS)
    norm = sum(p.abs().sum().item() for p in network.parameters())
    for value in (with_term, mixed):
        assert (value - without).item() == pytest.approx(5e-5 * norm, rel=1e-2)
