"""Rules on the logits of a real untrained network."""

import numpy as np
import pytest

from trainables.engine.initial_logits import measure_logits
from trainables.theory.logit_bias import solve_epsilon
from trainables.theory.rules import analytic_rules


def test_rules_on_a_real_network():
    measured = measure_logits("digit-pairs", "mlp", networks=2, examples=300)
    assert measured.logits.shape == (600, 100)
    assert 0.1 < measured.sigma < 3.0
    rows = {row.rule: row.value for row in analytic_rules(100, measured=measured)}
    # A real network's logits are close to Gaussian: the measured spread alone says nearly as much.
    assert rows["activation-measured"] == pytest.approx(
        solve_epsilon(100, sigma=measured.sigma), abs=0.15
    )


def test_measuring_is_deterministic_and_its_seed_matters():
    one, two, other = (
        measure_logits("digits", "mlp", networks=1, examples=100, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(one.logits, two.logits)
    assert not np.array_equal(one.logits, other.logits)
    assert set(one.labels) <= set(range(10))
    with pytest.raises(ValueError, match="networks = 0"):
        measure_logits("digits", "mlp", networks=0)
