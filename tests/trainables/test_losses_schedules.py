"""Schedules of the logit bias."""

import itertools

import pytest

from trainables.losses import EPSILON_SCHEDULES, epsilon_factor


@pytest.mark.parametrize("name", EPSILON_SCHEDULES)
def test_factor_starts_at_one_and_never_rises(name):
    factors = [epsilon_factor(name, i / 100) for i in range(101)]
    assert factors[0] == 1.0
    assert all(a >= b >= 0 for a, b in itertools.pairwise(factors))
    assert factors[-1] == pytest.approx(1.0 if name == "constant" else 0.0)


def test_shapes():
    assert epsilon_factor("linear", 0.25) == 0.75
    assert epsilon_factor("cosine", 0.5) == pytest.approx(0.5)
    assert (epsilon_factor("step", 0.49), epsilon_factor("step", 0.5)) == (1.0, 0.0)


def test_bad_input():
    with pytest.raises(
        ValueError, match="allowed: constant, linear, cosine, step; did you mean cosine"
    ):
        epsilon_factor("cosin", 0.5)
    with pytest.raises(ValueError, match="progress"):
        epsilon_factor("linear", 1.5)
