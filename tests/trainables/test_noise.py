import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from trainables import noise
from trainables.noise import NoiseError, UnknownNoiseError, corrupt, transition_matrix

GOLDEN = {
    "symmetric": "72c7e890ed46967e1240f66f17e2c42c80bae03c353f04c2d0b6f0dd05531a69",
    "pair": "b1aadc3fc61aa77f67fa774a6883d9a24344875980f42465e872da4b6cfa6f0c",
}


def balanced(classes, each):
    return np.tile(np.arange(classes), each)


@pytest.mark.parametrize("kind", GOLDEN)
def test_the_same_labels_on_every_machine(kind):
    labels = corrupt(balanced(10, 100), 10, kind, 0.4, seed=7).labels
    assert hashlib.sha256(labels.tobytes()).hexdigest() == GOLDEN[kind]


@pytest.mark.parametrize("kind", noise.names())
@given(
    classes=st.integers(2, 12),
    rate=st.floats(0, 1),
    each=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=50, deadline=None)
def test_what_holds_for_any_noise(kind, classes, rate, each, seed):
    clean = balanced(classes, each)
    before, state = clean.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    made = corrupt(clean, classes, kind, rate, seed)
    np.testing.assert_array_equal(clean, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert made.labels.dtype == np.int64
    assert made.labels.min() >= 0
    assert made.labels.max() < classes
    assert made.rate == (made.labels != clean).mean()
    np.testing.assert_allclose(made.transition.sum(axis=1), 1)
    np.testing.assert_allclose(made.per_class_rate, 1 - np.diag(made.transition), atol=1e-12)
    np.testing.assert_array_equal(corrupt(clean, classes, kind, rate, seed).labels, made.labels)
    if rate == 0:
        np.testing.assert_array_equal(made.labels, clean)
    defined = transition_matrix(kind, classes, rate)
    np.testing.assert_allclose(defined.sum(axis=1), 1)
    assert not made.transition[defined == 0].any()  # what cannot happen did not


@pytest.mark.parametrize("kind", noise.names())
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("rate", [0.2, 0.8, 1.0])
def test_realised_matrix_is_the_defined_one(kind, classes, rate):
    each = 200_000 // classes
    made = corrupt(balanced(classes, each), classes, kind, rate, seed=3)
    defined = transition_matrix(kind, classes, rate)
    # Two-sided, over all entries together: one false alarm in 10,000.
    tail = 0.5e-4 / classes**2
    low, high = binom.ppf(tail, each, defined), binom.isf(tail, each, defined)
    counts = made.transition * each
    assert (counts >= low - 1e-6).all()
    assert (counts <= high + 1e-6).all()


def test_symmetric_rate_is_the_share_of_wrong_labels():
    # Over the other classes: 0.8 asked is 0.8 had, not 0.72.
    made = corrupt(balanced(10, 5000), 10, "symmetric", 0.8, seed=0)
    assert made.rate == pytest.approx(0.8, abs=4 * (0.16 / 50_000) ** 0.5)


def test_pair_goes_to_the_next_class():
    made = corrupt(np.array([0, 1, 2]), 3, "pair", 1.0, seed=0)
    np.testing.assert_array_equal(made.labels, [1, 2, 0])


@pytest.mark.parametrize("kind", noise.names())
def test_a_lower_rate_flips_a_subset(kind):
    clean = balanced(10, 500)
    low = corrupt(clean, 10, kind, 0.2, seed=5).labels
    high = corrupt(clean, 10, kind, 0.6, seed=5).labels
    flipped = low != clean
    assert flipped.any()
    np.testing.assert_array_equal(low[flipped], high[flipped])


def test_another_seed_is_another_draw():
    clean = balanced(10, 500)
    one, two = (corrupt(clean, 10, "symmetric", 0.4, seed=s).labels != clean for s in (1, 2))
    assert 0.1 < (one & two).mean() < 0.22  # independent: 0.16


def test_a_class_without_examples_has_no_rate():
    made = corrupt(np.array([0, 0, 2]), 3, "symmetric", 0.5, seed=0)
    assert np.isnan(made.per_class_rate[1])
    assert np.isnan(made.transition[1]).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([0, 1], 2, "symmetric", 1.3, 0), r"rate = 1.3; allowed: 0 to 1"),
        (([0, 1], 2, "symmetric", float("nan"), 0), r"rate = nan"),
        (([0, 5, 1], 2, "symmetric", 0.1, 0), r"label 5 in row 1; allowed: 0 to 1"),
        (([0, -1], 2, "symmetric", 0.1, 0), r"label -1 in row 1"),
        (([0.0, 1.0], 2, "symmetric", 0.1, 0), r"whole numbers"),
        (([0, 0], 1, "symmetric", 0.1, 0), r"at least 2 classes"),
        (([0, 1], 2, "symmetric", 0.1, -1), r"seed = -1"),
        (([0, 1], 2, "simmetric", 0.1, 0), r"did you mean 'symmetric'.*pair"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, says):
    labels, *rest = arguments
    with pytest.raises(NoiseError, match=says) as error:
        corrupt(np.array(labels), *rest)
    assert "\n" not in str(error.value)


def test_an_option_that_a_kind_does_not_have():
    with pytest.raises(NoiseError, match="no option 'colour'"):
        corrupt(np.array([0, 1]), 2, "pair", 0.1, 0, colour="red")


def test_unknown_kind_is_told_apart():
    with pytest.raises(UnknownNoiseError):
        transition_matrix("nothing", 10, 0.1)
