"""Every family has one top and no other, and says truly where a peaked top is."""

import numpy as np
import pytest

from analysis.response import shapes as domes

X = np.linspace(0, 1, 400)
FAMILIES = {family.shape.__name__: family for family in domes.FAMILIES}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_shape_has_one_top_and_no_other(name):
    family = FAMILIES[name]
    z = np.random.default_rng(0).standard_normal((300, family.dim))
    steps = np.diff(family.shape(z, X), axis=1)
    scale = np.abs(steps).max(axis=1, keepdims=True)
    sign = np.where(steps > 1e-9 * scale, 1, np.where(steps < -1e-9 * scale, -1, 0))
    for row in sign:
        moves = row[row != 0]
        assert np.sum(np.diff(moves) < 0) <= 1  # from rising to falling


@pytest.mark.parametrize("name", sorted(n for n, f in FAMILIES.items() if f.peaked))
def test_a_peaked_shapes_top_is_at_its_place(name):
    family = FAMILIES[name]
    z = np.random.default_rng(1).standard_normal((200, family.dim))
    top = domes.place(z[:, 0])
    inside = (top > 0.02) & (top < 0.98)
    found = X[family.shape(z, X).argmax(axis=1)]
    assert inside.sum() > 100
    assert np.abs(found - top)[inside].max() < X[1]


def test_tops_are_uniform_inside_and_beyond_either_end_now_and_then():
    top = domes.place(np.random.default_rng(2).standard_normal(100_000))
    assert np.mean(top < 0) == pytest.approx(0.1, abs=0.005)
    assert np.mean(top > 1) == pytest.approx(0.1, abs=0.005)
    inside = np.histogram(top[(top >= 0) & (top <= 1)], bins=10, range=(0, 1))[0]
    assert inside / inside.sum() == pytest.approx([0.1] * 10, abs=0.01)
    order = np.linspace(-8, 8, 1000)
    assert (np.diff(domes.place(order)) >= 0).all()
    assert np.isfinite(domes.place(np.array([-40.0, 40.0]))).all()
