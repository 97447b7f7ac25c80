import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from trainables import datasets, noise
from trainables.noise import (
    MatrixKind,
    NoiseError,
    UnknownNoiseError,
    corrupt,
    transition_matrix,
)
from trainables.noise.kinds.superclass import CIFAR100_SUPERCLASSES
from trainables.seeds import derive

GOLDEN = {
    ("symmetric", "iid"): "72c7e890ed46967e1240f66f17e2c42c80bae03c353f04c2d0b6f0dd05531a69",
    ("symmetric", "exact"): "d7427effc54d5826082f8f90a3e13855a8a97904961378c66e8ed827202882a6",
    ("pair", "iid"): "b1aadc3fc61aa77f67fa774a6883d9a24344875980f42465e872da4b6cfa6f0c",
    ("pdn", "iid"): "e6a247abeee83c1dcd2813ce1be0bc51684b3b1d7c9adc122ff0fff91eb46004",
}
# Kinds that are a matrix, for any even number of classes, with the options that they need.
ANY_CLASSES = {
    "symmetric": lambda c: {},
    "symmetric-inclusive": lambda c: {},
    "pair": lambda c: {},
    "asymmetric": lambda c: {"flips": {0: 1, 1: 0}},
    "asymmetric-sequential": lambda c: {"flips": {0: 1, 1: 0}},
    "superclass": lambda c: {"groups": [k % (c // 2) for k in range(c)]},
    "block-rotation": lambda c: {"block": 2},
}
DRAWS = ("iid", "exact")


def balanced(classes, each):
    return np.tile(np.arange(classes), each)


def features(clean):
    """Ten numbers per example, the same on every machine."""
    return np.random.default_rng(1).random((len(clean), 10)) - 0.5


def sha256(kind, draw):
    clean = balanced(10, 100)
    options = {"features": features(clean)} if kind == "pdn" else {}
    made = corrupt(clean, 10, kind, 0.4, seed=7, draw=draw, **options)
    return hashlib.sha256(made.labels.tobytes()).hexdigest()


@pytest.mark.parametrize(("kind", "draw"), GOLDEN)
def test_the_same_labels_on_every_machine(kind, draw):
    assert sha256(kind, draw) == GOLDEN[kind, draw]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", ANY_CLASSES)
@given(
    half=st.integers(1, 6),
    rate=st.floats(0, 1),
    labels=st.data(),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=25, deadline=None)
def test_what_holds_for_any_noise(kind, draw, half, rate, labels, seed):
    classes = 2 * half
    given_labels = labels.draw(st.lists(st.integers(0, classes - 1), max_size=60))
    clean = np.array(given_labels, dtype=np.int64)
    options = ANY_CLASSES[kind](classes)
    before, state = clean.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    made = corrupt(clean, classes, kind, rate, seed, draw=draw, **options)
    np.testing.assert_array_equal(clean, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert made.labels.dtype == np.int64
    assert made.labels.shape == clean.shape
    assert ((made.labels >= 0) & (made.labels < classes)).all()
    assert made.rate == ((made.labels != clean).mean() if len(clean) else 0)
    present = np.bincount(clean, minlength=classes) > 0
    np.testing.assert_allclose(made.transition[present].sum(axis=1), 1)
    wrong = 1 - np.diag(made.transition)
    np.testing.assert_allclose(made.per_class_rate[present], wrong[present], atol=1e-12)
    again = corrupt(clean, classes, kind, rate, seed, draw=draw, **options)
    np.testing.assert_array_equal(again.labels, made.labels)
    if rate == 0:
        np.testing.assert_array_equal(made.labels, clean)
    defined = transition_matrix(kind, classes, rate, **options)
    np.testing.assert_allclose(defined.sum(axis=1), 1)
    possible = defined[clean, made.labels]
    assert (possible > 0).all()  # no flip of probability 0 occurs


def assert_within_binomial_bounds(made, defined, each):
    # Two-sided, over all entries: one false alarm in 10,000.
    tail = 0.5e-4 / defined.size
    low, high = binom.ppf(tail, each, defined), binom.isf(tail, each, defined)
    counts = made.transition * each
    assert (counts >= low - 1e-6).all()
    assert (counts <= high + 1e-6).all()


@pytest.mark.parametrize("kind", ANY_CLASSES)
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("rate", [0.2, 0.8, 1.0])
def test_realised_matrix_is_the_defined_one(kind, classes, rate):
    each, options = 200_000 // classes, ANY_CLASSES[kind](classes)
    made = corrupt(balanced(classes, each), classes, kind, rate, seed=3, **options)
    assert_within_binomial_bounds(made, transition_matrix(kind, classes, rate, **options), each)


@pytest.mark.parametrize("kind", ANY_CLASSES)
def test_exact_numbers(kind):
    each, options = 250, ANY_CLASSES[kind](10)
    for rate in (0.1, 0.333, 1.0):
        made = corrupt(balanced(10, each), 10, kind, rate, seed=3, draw="exact", **options)
        defined = transition_matrix(kind, 10, rate, **options)
        counts, expected = made.transition * each, defined * each
        np.testing.assert_allclose(np.diag(counts), np.diag(expected), atol=0.5 + 1e-9)
        assert (np.abs(counts - expected) < 1.5).all()


def test_exact_numbers_are_unbiased_where_targets_are_rarer_than_one():
    # 4 flips per class over 9 targets: each target is hit 4/9 of the time, none twice.
    hits = np.zeros((10, 10))
    for seed in range(2000):
        made = corrupt(balanced(10, 10), 10, "symmetric", 0.4, seed, draw="exact")
        off = made.transition * 10 * (1 - np.eye(10))
        assert off.max() <= 1 + 1e-9
        hits += off
    off_diagonal = hits[~np.eye(10, dtype=bool)] / 2000
    np.testing.assert_allclose(off_diagonal, 4 / 9, atol=5 * (0.25 / 2000) ** 0.5)


def test_symmetric_rate_is_the_share_of_wrong_labels_and_inclusive_is_less():
    clean = balanced(10, 5000)
    bound = 4 * (0.25 / 50_000) ** 0.5
    assert corrupt(clean, 10, "symmetric", 0.8, 0).rate == pytest.approx(0.8, abs=bound)
    assert corrupt(clean, 10, "symmetric-inclusive", 0.8, 0).rate == pytest.approx(0.72, abs=bound)
    assert corrupt(clean, 10, "symmetric", 0.8, 0, draw="exact").rate == 0.8


def test_pair_goes_to_the_next_class():
    made = corrupt(np.array([0, 1, 2]), 3, "pair", 1.0, seed=0)
    np.testing.assert_array_equal(made.labels, [1, 2, 0])


@pytest.mark.parametrize("kind", sorted(set(ANY_CLASSES) - {"asymmetric-sequential"}))
def test_a_lower_rate_flips_a_subset(kind):
    clean, options = balanced(10, 500), ANY_CLASSES[kind](10)
    low = corrupt(clean, 10, kind, 0.2, seed=5, **options).labels
    high = corrupt(clean, 10, kind, 0.6, seed=5, **options).labels
    flipped = low != clean
    assert flipped.any()
    np.testing.assert_array_equal(low[flipped], high[flipped])


def test_another_seed_is_another_draw():
    clean = balanced(10, 500)
    one, two = (corrupt(clean, 10, "symmetric", 0.4, seed=s).labels != clean for s in (1, 2))
    assert 0.1 < (one & two).mean() < 0.22  # independent: 0.16


def test_a_class_without_examples_has_no_rate():
    for draw in DRAWS:
        made = corrupt(np.array([0, 0, 2]), 3, "symmetric", 0.5, seed=0, draw=draw)
        assert np.isnan(made.per_class_rate[1])
        assert np.isnan(made.transition[1]).all()


@pytest.mark.parametrize(
    ("dataset", "flips"),
    [
        (
            "cifar10",
            {
                "truck": "automobile",
                "bird": "airplane",
                "cat": "dog",
                "dog": "cat",
                "deer": "horse",
            },
        ),
        (
            "fashion-mnist",
            {
                "Ankle boot": "Sneaker",
                "Sneaker": "Sandal",
                "Pullover": "Shirt",
                "Coat": "Dress",
                "Dress": "Coat",
            },
        ),
        ("mnist", {"7": "1", "2": "7", "5": "6", "6": "5", "3": "8"}),
    ],
)
def test_asymmetric_flips_what_looks_alike(dataset, flips):
    from torchvision.datasets import FashionMNIST

    names = {
        "cifar10": [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ],
        "fashion-mnist": FashionMNIST.classes,
        "mnist": list("0123456789"),
    }[dataset]
    matrix = transition_matrix("asymmetric", 10, 0.4, dataset=dataset)
    matrix_flips = {names[i]: names[j] for i, j in np.argwhere(matrix == 0.4)}
    assert matrix_flips == flips
    assert (1 - np.diag(matrix)).mean() == pytest.approx(0.2)


def test_sequential_flipping_gives_flipped_cats_back():
    matrix = transition_matrix("asymmetric-sequential", 10, 0.4, dataset="cifar10")
    assert matrix[3, 5] == pytest.approx(0.24)
    assert matrix[3, 3] == pytest.approx(0.76)
    assert matrix[5, 3] == pytest.approx(0.4)
    assert (1 - np.diag(matrix)).mean() == pytest.approx(0.184)

    # The published code: exact numbers of the examples that carry the label now, class by class.
    rng, clean = np.random.default_rng(0), balanced(10, 5000)
    noisy = clean.copy()
    for source, to in [(9, 1), (2, 0), (3, 5), (5, 3), (4, 7)]:
        rows = np.flatnonzero(noisy == source)
        noisy[rng.choice(rows, int(0.4 * len(rows)), replace=False)] = to
    np.testing.assert_allclose(noise.describe(clean, noisy, 10).transition, matrix, atol=0.03)


def test_superclass_noise_stays_in_the_superclass_and_block_rotation_does_not():
    groups = np.array(CIFAR100_SUPERCLASSES)
    assert set(np.bincount(groups)) == {5}
    true = transition_matrix("superclass", 100, 1.0, dataset="cifar100").argmax(axis=1)
    np.testing.assert_array_equal(groups[true], groups)
    assert sorted(true) == list(range(100))
    assert (true != np.arange(100)).all()
    hops = np.arange(100)
    for _ in range(5):
        hops = true[hops]
    np.testing.assert_array_equal(hops, np.arange(100))  # a circle of five

    blocks = transition_matrix("block-rotation", 100, 1.0).argmax(axis=1)
    np.testing.assert_array_equal(blocks[:7], [1, 2, 3, 4, 0, 6, 7])
    assert (groups[blocks] == groups).sum() == 6


def test_user_defined_matrix(tmp_path):
    matrix = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    clean = balanced(3, 20_000)
    np.save(tmp_path / "t.npy", matrix)
    np.savetxt(tmp_path / "t.csv", matrix, delimiter=",")
    drawn = [
        corrupt(clean, 3, "matrix", None, 0, matrix=source)
        for source in (matrix, tmp_path / "t.npy", str(tmp_path / "t.csv"))
    ]
    assert_within_binomial_bounds(drawn[0], matrix, 20_000)
    for other in drawn[1:]:
        np.testing.assert_array_equal(other.labels, drawn[0].labels)

    np.savetxt(tmp_path / "short.csv", matrix * [[1], [0.5], [1]], delimiter=",")
    with pytest.raises(NoiseError, match=r"short.csv, row 1: sum 0.5"):
        transition_matrix("matrix", 3, None, matrix=tmp_path / "short.csv")
    with pytest.raises(NoiseError, match=r"row 0"):
        transition_matrix("matrix", 2, None, matrix=np.array([[1.5, -0.5], [0, 1]]))
    with pytest.raises(NoiseError, match=r"row 1"):
        transition_matrix("matrix", 2, None, matrix=np.array([[1, 0], [np.nan, 1]]))
    with pytest.raises(NoiseError, match=r"t.csv has shape \(3, 3\); 4 classes"):
        transition_matrix("matrix", 4, None, matrix=tmp_path / "t.csv")
    (tmp_path / "words.csv").write_text("1,0\nzero,1\n")
    with pytest.raises(NoiseError, match=r"words.csv: not a readable transition matrix: .*zero"):
        transition_matrix("matrix", 2, None, matrix=tmp_path / "words.csv")
    with pytest.raises(NoiseError, match=r"absent.npy"):
        transition_matrix("matrix", 2, None, matrix=tmp_path / "absent.npy")


def test_instance_noise_follows_the_instance():
    rng = np.random.default_rng(0)
    x, clean = rng.standard_normal((2000, 20)), np.tile(np.arange(4), 500)
    made = corrupt(clean, 4, "pdn", 0.4, 1, features=x)
    # Flip rates are normal around 0.4 and within [0, 1]: the mean of all is 0.4.
    assert made.rate == pytest.approx(0.4, abs=4 * (0.24 / 2000) ** 0.5)
    np.testing.assert_allclose(made.per_class_rate, 0.4, atol=0.12)

    # Many copies of one image: its features determine the noisy class, mostly one class.
    same = corrupt(np.zeros(3000, int), 4, "pdn", 0.5, 1, features=np.repeat(x[:1], 3000, axis=0))
    share = same.transition[0, 1:] / same.rate
    logits = x[0] @ instance_weights(1, 0, 20, 4)
    expected = np.exp(logits[1:] - logits[1:].max())
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.05)
    # Another image of the same class flips elsewhere, or in other shares.
    other = corrupt(np.zeros(3000, int), 4, "pdn", 0.5, 1, features=np.repeat(x[4:5], 3000, axis=0))
    assert np.abs(other.transition[0, 1:] / other.rate - share).max() > 0.2


def instance_weights(seed, label, size, classes):
    from scipy.stats import norm

    return norm.ppf(np.random.default_rng([seed, label]).random((size, classes)))


def test_instance_noise_at_the_extreme_rates_and_a_lower_rate_flips_a_subset():
    x, clean = features(balanced(4, 300)), balanced(4, 300)
    np.testing.assert_array_equal(corrupt(clean, 4, "pdn", 0, 1, features=x).labels, clean)
    assert corrupt(clean, 4, "pdn", 1.0, 1, features=x).rate > 0.85
    low = corrupt(clean, 4, "pdn", 0.2, 1, features=x).labels
    high = corrupt(clean, 4, "pdn", 0.6, 1, features=x).labels
    flipped = low != clean
    np.testing.assert_array_equal(low[flipped], high[flipped])
    with pytest.raises(NoiseError, match="1199 rows of features, 1200 labels"):
        corrupt(clean, 4, "pdn", 0.2, 1, features=x[1:])


@pytest.mark.parametrize(
    ("kind", "rate"), [("symmetric", 0.4), ("asymmetric", 0.4), ("pair", 0.3), ("pdn", 0.4)]
)
def test_noise_on_a_data_set_spares_the_test_set_and_treats_validation_alike(kind, rate):
    data = datasets.load("digits")
    before = {split: getattr(data, f"{split}_y").copy() for split in ("train", "val", "test")}
    made = noise.apply(data, kind, rate, 5)
    for split, y in before.items():
        np.testing.assert_array_equal(getattr(data, f"{split}_y"), y)
    assert len(made.train.labels) == len(data.train_y)
    assert len(made.val.labels) == len(data.val_y)
    expected = {"asymmetric": 0.2}.get(kind, rate)
    for noisy in (made.train, made.val):
        n = len(noisy.labels)
        assert noisy.rate == pytest.approx(expected, abs=4 * (0.25 / n) ** 0.5)
    again = noise.apply(data, kind, rate, 5)
    np.testing.assert_array_equal(again.train.labels, made.train.labels)
    # Training and validation draws are unrelated.
    wrong = [made.train.labels != before["train"], made.val.labels != before["val"]]
    assert (wrong[0][:300] != wrong[1]).any()


def test_training_and_validation_draws_have_separate_seeds():
    data = datasets.load("digit-pairs")
    made = noise.apply(data, "symmetric", 0.4, 5)
    for split in ("train", "val"):
        alone = corrupt(getattr(data, f"{split}_y"), 100, "symmetric", 0.4, derive(5, split))
        np.testing.assert_array_equal(getattr(made, split).labels, alone.labels)


def test_instance_noise_is_one_noise_for_training_and_validation():
    data = datasets.load("digits")
    made = noise.apply(data, "pdn", 0.6, 5)
    off = ~np.eye(10, dtype=bool)
    train, val = (noisy.transition[off] for noisy in (made.train, made.val))
    unrelated = noise.apply(data, "pdn", 0.6, 6).val.transition[off]
    assert np.corrcoef(train, val)[0, 1] > 0.7
    assert np.corrcoef(train, unrelated)[0, 1] < 0.4


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (([0, 1], 2, "symmetric", 1.3, 0), {}, r"rate = 1.3; allowed: 0 to 1"),
        (([0, 1], 2, "symmetric", None, 0), {}, r"rate = None; allowed: 0 to 1"),
        (([0, 1], 2, "symmetric", float("nan"), 0), {}, r"rate = nan"),
        (([0, 5, 1], 2, "symmetric", 0.1, 0), {}, r"label 5 in row 1; allowed: 0 to 1"),
        (([0, -1], 2, "symmetric", 0.1, 0), {}, r"label -1 in row 1"),
        (([0.0, 1.0], 2, "symmetric", 0.1, 0), {}, r"whole numbers"),
        (([0, 0], 1, "symmetric", 0.1, 0), {}, r"at least 2 classes"),
        (([0, 1], 2, "symmetric", 0.1, -1), {}, r"seed = -1"),
        (([0, 1], 2, "symmetric", 0.1, 0), {"draw": "even"}, r"allowed: iid, exact"),
        (([0, 1], 2, "simmetric", 0.1, 0), {}, r"allowed: .*pair.*; did you mean symmetric"),
        (([0, 1], 2, "pair", 0.1, 0), {"colour": "red"}, r"no option 'colour'"),
        (([0, 1], 2, "block-rotation", 0.1, 0), {"colour": 1}, r"'colour'; allowed: block"),
        (([0, 1], 2, "block-rotation", 0.1, 0), {}, r"block = 5; allowed: a divisor of 2"),
        (([0, 1], 2, "asymmetric", 0.1, 0), {}, r"give flips, or use one of mnist"),
        (([0, 1], 2, "asymmetric", 0.1, 0), {"flips": {1: 2}}, r"class 1 to 2.*0 to 1"),
        (([0, 1], 5, "asymmetric", 0.1, 0), {"dataset": "cifar10"}, r"the classes 0 to 4"),
        (([0, 1], 2, "asymmetric", 0.1, 0), {"flips": {"cat": "dog"}}, r"map of class numbers"),
        (([0, 1], 2, "asymmetric", 0.1, 0), {"flips": [0, 1]}, r"map of class numbers"),
        (([0, 1], 2, "superclass", 0.1, 0), {"groups": 3}, r"list of each class's superclass"),
        (([0, 1], 2, "matrix", None, 0), {"matrix": [[1], [0, 1]]}, r"2 rows of 2 numbers"),
        (([0, 1], 2, "superclass", 0.1, 0), {}, r"give groups"),
        (([0, 1], 2, "superclass", 0.1, 0), {"groups": "ab"}, r"'a' has one class only"),
        (([0, 1], 50, "superclass", 0.1, 0), {"dataset": "cifar100"}, r"100 classes.*has 50"),
        (([0, 1], 2, "matrix", 0.1, 0), {}, r"leave the rate out"),
        (([0, 1], 2, "matrix", None, 0), {}, r"give matrix"),
        (([0, 1], 2, "pdn", 0.1, 0), {}, r"give features"),
        (([0, 1], 2, "human-worst", None, 0), {}, r"needs a data set"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, options, says):
    labels, *rest = arguments
    with pytest.raises(NoiseError, match=says) as error:
        corrupt(np.array(labels), *rest, **options)
    assert "\n" not in str(error.value)


def test_options_survive_json():
    flips = json.loads(json.dumps({7: 1}))  # keys become text
    matrix = transition_matrix("asymmetric", 10, 0.4, flips=flips)
    assert matrix[7, 1] == 0.4
    rows = transition_matrix("pair", 3, 0.2).tolist()
    np.testing.assert_array_equal(transition_matrix("matrix", 3, None, matrix=rows), rows)


def test_kinds_without_a_matrix():
    with pytest.raises(UnknownNoiseError):
        transition_matrix("nothing", 10, 0.1)
    for kind, rate in (("pdn", 0.1), ("human-worst", None)):
        with pytest.raises(NoiseError, match="no transition matrix"):
            transition_matrix(kind, 10, rate)


def test_a_matrix_as_text_shows_flips_at_their_classes():
    small = noise.matrix_as_text(transition_matrix("asymmetric", 10, 0.4, dataset="cifar10"))
    lines = small.splitlines()
    assert len(lines) == 11
    assert lines[1 + 9].split()[1:4] == ["·", "40.0", "·"]
    large = noise.matrix_as_text(transition_matrix("pair", 100, 1.0)).splitlines()
    assert len(large) == 50
    assert large[0][:6] == "████  "  # blocks of two classes: 0 → 1 inside, 1 → 2 outside


@pytest.mark.parametrize(
    ("dataset", "kind", "rate", "options", "says"),
    [
        ("cifar10", "asymmetric", 0.4, {}, None),
        ("cifar100", "superclass", 0.4, {"draw": "exact"}, None),
        ("cifar100", "human-fine", None, {}, None),
        ("digits", "pdn", 0.4, {}, None),
        ("svhn", "asymmetric", 0.4, {}, "no published map of classes for data set 'svhn'"),
        ("svhn", "superclass", 0.4, {}, "give groups"),
        ("cifar10", "human-fine", None, {}, "belongs to data set 'cifar100'"),
        ("digits", "pdn", 0.4, {"draw": "exact"}, "draw = iid only"),
        ("digits", "pdn", 0.4, {"features": 1}, "no option 'features'"),
        ("digits", "pair", 1.4, {}, "rate = 1.4"),
    ],
)
def test_planning_checks_noise_without_reading_a_data_set(dataset, kind, rate, options, says):
    about = datasets.info(dataset)
    if says is None:
        noise.check(about, kind, rate, **options)
    else:
        with pytest.raises(NoiseError, match=says):
            noise.check(about, kind, rate, **options)


def test_the_matrix_of_a_data_set_needs_its_info_alone():
    about = datasets.info("cifar10")
    np.testing.assert_array_equal(
        noise.matrix_for(about, "asymmetric", 0.4),
        transition_matrix("asymmetric", 10, 0.4, dataset="cifar10"),
    )
    np.testing.assert_array_equal(
        noise.matrix_for(about, "pair", 0.4), transition_matrix("pair", 10, 0.4)
    )


def test_a_new_kind_needs_only_its_registration():
    def reversed_classes(classes, rate, keep=0):
        matrix = (1 - rate) * np.eye(classes) + rate * np.eye(classes)[::-1]
        matrix[:keep] = np.eye(classes)[:keep]
        return matrix

    kind = MatrixKind("reversed", "class i to class C − 1 − i", reversed_classes)
    about = datasets.info("digits")
    with noise.registered(kind):
        assert "reversed" in noise.names()
        assert noise.get("reversed") is kind
        assert corrupt(np.array([0, 1, 3]), 4, "reversed", 1.0, 0).labels.tolist() == [3, 2, 0]
        noise.check(about, "reversed", 0.4, keep=2)
        assert noise.matrix_for(about, "reversed", 0.4, keep=2)[1, 1] == 1
        with pytest.raises(NoiseError, match="no option 'kept'; allowed: keep; did you mean keep"):
            noise.check(about, "reversed", 0.4, kept=2)
        made = noise.apply(datasets.load("digits"), "reversed", 1.0, 0)
        assert made.train.rate == made.val.rate == 1
        with pytest.raises(ValueError, match="the name is taken"):
            noise.register(kind)
    with pytest.raises(UnknownNoiseError):
        noise.get("reversed")


def test_properties_of_the_kinds():
    own_rate = {name for name in noise.names() if noise.get(name).has_own_rate}
    drawn_only = {name for name in noise.names() if noise.get(name).is_drawn_only}
    human = {name for name in noise.names() if name.startswith("human-")}
    assert len(human) == 6
    assert own_rate == human | {"matrix", "as-is"}
    assert drawn_only == human | {"pdn", "as-is"}
    assert set(ANY_CLASSES) == set(noise.names()) - human - {"matrix", "pdn", "as-is"}
