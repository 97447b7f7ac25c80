"""Every family of shapes has a single maximum; a peaked one has it at its parameter."""

import numpy as np
import pytest

from analysis.response import shapes

X = np.linspace(0, 1, 400)
FAMILIES = {family.shape.__name__: family for family in shapes.FAMILIES}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_shape_has_a_single_maximum(name):
    family = FAMILIES[name]
    z = np.random.default_rng(0).standard_normal((300, family.dim))
    steps = np.diff(family.shape(z, X), axis=1)
    scale = np.abs(steps).max(axis=1, keepdims=True)
    sign = np.where(steps > 1e-9 * scale, 1, np.where(steps < -1e-9 * scale, -1, 0))
    for row in sign:
        moves = row[row != 0]
        assert np.sum(np.diff(moves) < 0) <= 1  # from rising to falling


@pytest.mark.parametrize("name", sorted(n for n, f in FAMILIES.items() if f.peaked))
def test_a_peaked_shape_has_its_maximum_at_its_parameter(name):
    family = FAMILIES[name]
    z = np.random.default_rng(1).standard_normal((200, family.dim))
    top = shapes.peak_position(z[:, 0])
    inside = (top > 0.02) & (top < 0.98)
    maximum = X[family.shape(z, X).argmax(axis=1)]
    assert inside.sum() > 100
    assert np.abs(maximum - top)[inside].max() < X[1]


def test_a_tenth_of_maxima_lies_beyond_either_end_and_the_others_are_uniform():
    top = shapes.peak_position(np.random.default_rng(2).standard_normal(100_000))
    assert np.mean(top < 0) == pytest.approx(0.1, abs=0.005)
    assert np.mean(top > 1) == pytest.approx(0.1, abs=0.005)
    inside = np.histogram(top[(top >= 0) & (top <= 1)], bins=10, range=(0, 1))[0]
    assert inside / inside.sum() == pytest.approx([0.1] * 10, abs=0.01)
    order = np.linspace(-8, 8, 1000)
    assert (np.diff(shapes.peak_position(order)) >= 0).all()
    assert np.isfinite(shapes.peak_position(np.array([-40.0, 40.0]))).all()
