"""Shapes of the loss beside the maximum: 0 at it, growing away from it, priors that add up."""

import numpy as np
import pytest

from analysis.response.shapes import EXACT_SHAPES, SHAPES, TOP_SHAPES, finer, losses

D = np.linspace(0, 1, 400)[None]
ALL = [SHAPES, EXACT_SHAPES, tuple(finer(EXACT_SHAPES)), TOP_SHAPES]


@pytest.mark.parametrize("shapes", ALL)
def test_a_loss_is_zero_at_the_top_and_does_not_decrease(shapes):
    values = losses(shapes, D)[0]
    assert values.shape == (len(shapes), 400)
    assert np.isfinite(values).all()
    assert (values[:, 0] == 0).all()
    assert (np.diff(values, axis=1) > -1e-12).all()
    assert (values[:, -1] > 0.8).all()


@pytest.mark.parametrize("shapes", ALL)
def test_prior_probabilities_add_up(shapes):
    assert sum(s.weight for s in shapes) == pytest.approx(1)


def test_losses_of_many_are_the_losses_of_each():
    several = losses(SHAPES, D)[0]
    for k, shape in enumerate(SHAPES):
        assert np.array_equal(several[k], shape.loss(D[0]))
