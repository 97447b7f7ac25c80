"""Every registered loss through the shipped conformance suite, and the suite on broken losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import losses
from trainables.losses import conformance


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__[6:])
@pytest.mark.parametrize("name", losses.names())
def test_conformance(name, check):
    for seed in range(3):
        check(losses.get(name), seed)


@pytest.mark.parametrize("name", losses.names())
def test_a_million_classes(name):
    conformance.check_many_classes(losses.get(name))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(losses.names()),
    seed=st.integers(0, 2**31),
    check=st.sampled_from(
        [
            conformance.check_symmetry,
            conformance.check_permutation,
            conformance.check_logit_bias,
            conformance.check_log_odds,
            conformance.check_members,
            conformance.check_gradient,
        ]
    ),
)
def test_properties_hold_for_any_draw(name, seed, check):
    check(losses.get(name), seed)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([n for n in losses.names() if losses.get(n).bounded]),
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 50),
    scale=st.floats(0.01, 1e4),
)
def test_values_are_finite_for_any_size_of_logits(name, seed, classes, scale):
    loss = losses.get(name)
    logits, labels, params = conformance.draw(loss, seed, 4, classes, scale=scale)
    assert loss.function(logits.float(), labels, **params).isfinite().all()


@pytest.mark.parametrize("epsilon", [0.5, 2.5, 5.35])
def test_logit_bias_breaks_the_symmetry_of_mae_by_the_known_amount(epsilon):
    """At uniform output Σ_k MAE*(z, k) falls short of c − 1 by c e^ε / (e^ε + c − 1) − 1."""
    for classes, shortfall in ((10, {0.5: 0.55}), (100, {2.5: 10.0}), (1000, {5.35: 173.0})):
        logits = torch.zeros(classes, classes, dtype=torch.float64)
        total = losses.evaluate(losses.get("mae"), logits, torch.arange(classes), epsilon).sum()
        expected = classes * math.exp(epsilon) / (math.exp(epsilon) + classes - 1) - 1
        assert classes - 1 - float(total) == pytest.approx(expected, rel=1e-12)
        if epsilon in shortfall:
            assert expected == pytest.approx(shortfall[epsilon], rel=0.03)


@pytest.mark.parametrize("name", [n for n in losses.names() if losses.get(n).symmetric])
def test_a_symmetric_loss_with_bias_is_no_longer_symmetric(name):
    loss = losses.get(name)
    logits, _, params = conformance.draw(loss, 0, 32, 5)
    if "alpha" in params and name == "alpha_mae":
        params["alpha"] = 0.5
    every = torch.arange(5).expand(32, 5).T
    total = losses.evaluate(loss, logits.expand(5, -1, -1), every, 1.5, **params).sum(0)
    if name == "unhinged":  # linear: the bias only adds a constant
        assert float(total.max() - total.min()) < 1e-12
    else:
        assert float(total.max() - total.min()) > 1e-6


def broken(logits, labels):
    return losses.mae(logits, labels) + 0.1 * logits[..., 0]


@pytest.mark.parametrize(
    ("loss", "failing"),
    [
        (losses.Loss("flag", losses.mae, bounded=True), conformance.check_symmetry),
        (losses.Loss("flag", losses.gce, bounded=True, symmetric=True), conformance.check_symmetry),
        (losses.Loss("flag", losses.ce, bounded=True), conformance.check_bounded),
        (losses.Loss("flag", losses.mae, symmetric=True), conformance.check_bounded),
        (losses.Loss("broken", broken), conformance.check_permutation),
        (
            losses.Loss("mean", lambda z, y: losses.mae(z, y).mean(-1)),
            conformance.check_shape,
        ),
        (
            losses.Loss("detached", lambda z, y: losses.mae(z, y) * losses.ce(z, y).detach()),
            conformance.check_gradient,
        ),
        (
            losses.Loss("naive", lambda z, y: losses.mae(z, y) - z.softmax(-1).log().sum(-1)),
            conformance.check_extreme_logits,
        ),
        (
            losses.Loss(
                "members",
                lambda z, y, *, t=1.0: losses.ce(z, y) * (t if isinstance(t, float) else t.mean()),
                (losses.Parameter("t", 1.0, 0.5, 2.0),),
            ),
            conformance.check_members,
        ),
        (
            losses.Loss("default", losses.gce, (losses.Parameter("q", 0.5, 0.1, 1.0),)),
            conformance.check_defaults,
        ),
    ],
)
def test_the_suite_catches(loss, failing):
    with pytest.raises(AssertionError):
        failing(loss, 0)


def test_a_users_loss_passes_in_one_call():
    conformance.check(
        losses.Loss(
            "squared",
            lambda z, y, *, power=2.0: (
                losses.mae(z, y) ** (power if isinstance(power, float) else power.unsqueeze(-1))
            ),
            (losses.Parameter("power", 2.0, 1.5, 3.0),),
            bounded=True,
        ),
        seeds=1,
        textbook=lambda a, y, *, power: (1 - a.gather(-1, y[..., None]).squeeze(-1)) ** power,
    )
