"""Initial errors and rules: against autograd, exact values, Monte Carlo, and each other."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.special import expit

from trainables import losses
from trainables.losses import conformance
from trainables.theory import sampled
from trainables.theory.errors import ERRORS, ParameterRange, error_curve, initial_error, mean_error
from trainables.theory.logit_bias import (
    expected_activation,
    mean_log_odds,
    rescale_factor,
    shift_epsilon,
    solve_epsilon,
)
from trainables.theory.logits import GaussianLogits, MeasuredLogits
from trainables.theory.rules import RULES, NoSolutionError, analytic_rules


@pytest.mark.parametrize("name", ERRORS)
def test_closed_errors_agree_with_autograd(name):
    loss = losses.get(name)
    for seed in range(5):
        logits, labels, params = conformance.draw(loss, seed, 64, 6)
        logits.requires_grad_()
        values = losses.evaluate(loss, logits, labels, 0.8, **params)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        expected = gradient.gather(1, labels[:, None]).squeeze(1).numpy()
        delta = losses.log_odds(logits, labels).detach().numpy()
        computed = ERRORS[name].function(delta + 0.8, 6, **params)
        np.testing.assert_allclose(computed, expected, rtol=1e-9, atol=1e-12)


def test_closed_errors_have_the_defaults_and_ranges_of_the_losses():
    closed = {n for n in losses.names() if losses.get(n).of_probability}
    assert closed <= set(ERRORS)
    for name, formula in ERRORS.items():
        registered = {
            p.name: ParameterRange(p.default, p.low, p.high, p.minimum, p.maximum)
            for p in losses.get(name).parameters
        }
        ranges = dict(formula.parameters)
        assert ranges == registered, name


@pytest.mark.parametrize("sigma", [0.02, 0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000, 100_000])
def test_log_odds_agree_with_the_independent_quadrature(classes, sigma):
    """Two methods that share nothing: Gumbel maxima, and doubling with Gauss compression."""
    for epsilon in (0.0, math.log(classes) / 2, math.log(classes) + 1):
        points, weights = GaussianLogits(classes, sigma).log_odds(epsilon)
        computed = weights @ expit(points)
        assert computed == pytest.approx(expected_activation(epsilon, classes, sigma), rel=2e-6)


def test_mean_error_of_mae_is_the_published_one():
    """E[a(1 − a)] at initialisation: 0.080, 0.0098 and 0.0010 for 10, 100 and 1000 classes."""
    for classes, expected in ((10, 0.080), (100, 0.0098), (1000, 0.0010)):
        computed = mean_error("mae", GaussianLogits(classes))
        assert computed == pytest.approx(-expected, rel=0.01)


def test_mean_error_is_the_mean_of_the_curve_and_of_cross_entropy_it_is_known():
    logits = GaussianLogits(50, 1.2)
    assert mean_error("ce", logits, 2.0) == pytest.approx(
        expected_activation(2.0, 50, 1.2) - 1, rel=1e-9
    )
    for name in ("mae", "phuber_ce", "truncated_gce"):
        curve = error_curve(name, logits, 2.0)
        mean = curve.error @ curve.density / curve.density.sum()
        assert mean == pytest.approx(mean_error(name, logits, 2.0), rel=5e-3)
        summary = initial_error(name, logits, 2.0)
        assert summary.mean == pytest.approx(mean_error(name, logits, 2.0), rel=1e-12)
        assert summary.quantiles[0] <= summary.quantiles[1] <= summary.quantiles[2] <= 0


def test_overlap_of_mae_is_lost_with_many_classes_and_restored_by_the_logit_bias():
    few, many = (initial_error("mae", GaussianLogits(c)).overlap for c in (10, 1000))
    restored = initial_error("mae", GaussianLogits(1000), solve_epsilon(1000)).overlap
    assert many < 0.01 < 0.3 < few < restored < 1


def monte_carlo(classes, sigma, epsilon, examples, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, sigma, (examples, classes))
    return z[:, 0] - np.log(np.exp(z[:, 1:]).sum(1)) + epsilon


@pytest.mark.parametrize("name", ERRORS)
def test_mean_and_spread_against_monte_carlo(name):
    logits = GaussianLogits(20, 0.8)
    values = ERRORS[name].function(monte_carlo(20, 0.8, 1.5, 200_000), 20, **ERRORS[name].defaults)
    computed = initial_error(name, logits, 1.5)
    error = 5 * values.std() / math.sqrt(len(values)) + 1e-12
    assert computed.mean == pytest.approx(values.mean(), abs=error)
    assert computed.std == pytest.approx(values.std(), rel=0.02, abs=1e-9)
    assert computed.quantiles == pytest.approx(
        np.quantile(values, [0.05, 0.5, 0.95]), rel=0.03, abs=2e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "sigma"), [(10, 1.0), (100, 2.0), (300, 0.3)])
def test_mean_errors_against_much_monte_carlo(classes, sigma):
    epsilon = solve_epsilon(classes, 0.15, sigma)
    delta = np.concatenate(
        [monte_carlo(classes, sigma, epsilon, 20_000, seed) for seed in range(100)]
    )
    for name, formula in ERRORS.items():
        values = formula.function(delta, classes, **formula.defaults)
        error = 5 * values.std() / math.sqrt(len(values)) + 1e-7  # for events too rare to be drawn
        computed = mean_error(name, GaussianLogits(classes, sigma), epsilon)
        assert computed == pytest.approx(values.mean(), abs=error), name


@pytest.mark.parametrize("name", ["gce", "bounded_ce", "focal"])
def test_sampled_errors_agree_with_closed_ones(name):
    logits = GaussianLogits(30, 1.0)
    computed, error = sampled.mean_error(name, logits, 1.5)
    assert error < 1e-3 * abs(computed)
    assert computed == pytest.approx(mean_error(name, logits, 1.5), abs=5 * error + 1e-9)


def test_sampled_errors_against_monte_carlo():
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(200_000, 12, generator=generator, dtype=torch.float64)
    labels = torch.zeros(len(z), dtype=torch.int64)
    for name in ("nce", "nfl_mae", "ldr_kl", "bi_tempered"):
        leaf = z.clone().requires_grad_()
        values = losses.evaluate(losses.get(name), leaf, labels, 1.0)
        sample = torch.autograd.grad(values.sum(), leaf)[0][:, 0].numpy()
        computed, error = sampled.mean_error(name, GaussianLogits(12), 1.0)
        tolerance = 5 * math.hypot(error, sample.std() / math.sqrt(len(sample)))
        assert computed == pytest.approx(sample.mean(), abs=tolerance), name


def test_sampled_distributions_agree_with_closed_ones():
    rng = np.random.default_rng(0)
    for logits in (GaussianLogits(30, 0.8), MeasuredLogits(rng.normal(0, 0.8, (5000, 30)))):
        computed = sampled.initial_error("gce", logits, 1.5)
        closed = initial_error("gce", logits, 1.5)
        assert computed.mean == pytest.approx(closed.mean, rel=0.03)
        assert computed.std == pytest.approx(closed.std, rel=0.05)
        assert computed.quantiles == pytest.approx(closed.quantiles, rel=0.05)
        assert computed.overlap == pytest.approx(closed.overlap, rel=0.05)
        curve, exact = (
            function("gce", logits, 1.5) for function in (sampled.error_curve, error_curve)
        )
        middle = exact.density > 0.2 * exact.density.max()
        np.testing.assert_allclose(curve.error[middle], exact.error[middle], rtol=0.05)


def test_measured_gaussian_logits_agree_with_the_gaussian():
    rng = np.random.default_rng(3)
    measured = MeasuredLogits(rng.normal(5.0, 0.7, (4000, 40)))  # a common shift changes nothing
    assert measured.sigma == pytest.approx(0.7, rel=0.02)
    logits = GaussianLogits(40, 0.7)
    for name in ("mae", "gce"):
        assert mean_error(name, measured, 2.0) == pytest.approx(
            mean_error(name, logits, 2.0), rel=0.02
        )
    computed, error = sampled.mean_error("gce", measured, 2.0)
    assert computed == pytest.approx(mean_error("gce", logits, 2.0), abs=5 * error)
    labels = rng.integers(0, 40, 4000)
    one = MeasuredLogits(measured.logits, labels)
    assert mean_error("mae", one, 2.0) == pytest.approx(mean_error("mae", logits, 2.0), rel=0.1)
    curve = error_curve("mae", measured, 2.0)
    assert (curve.density > 0).sum() > 50
    row, _ = analytic_rules(40, measured=measured, rules=["activation-measured", "gradient"])
    assert row.value == pytest.approx(solve_epsilon(40, None, 0.7), abs=0.02)
    with pytest.raises(ValueError, match="40 classes, but classes = 41"):
        analytic_rules(41, measured=measured)
    with pytest.raises(ValueError, match="shape"):
        MeasuredLogits(np.zeros(5))


def test_closed_form_of_the_mean_log_odds():
    for classes in (10, 100, 1000):
        points, weights = GaussianLogits(classes).log_odds(0.0)
        assert mean_log_odds(classes) == pytest.approx(weights @ points, abs=0.02)
    assert shift_epsilon(100, a=2.6) == pytest.approx(2.49, abs=0.005)
    assert shift_epsilon(10) == pytest.approx(0.5, abs=1e-12)
    assert rescale_factor(100, a=2.6) == pytest.approx(2.6 / 5.086, rel=1e-3)
    with pytest.raises(ValueError, match="below 1, here it is"):
        mean_log_odds(100, sigma=3.0)
    with pytest.raises(ValueError, match="a = 0"):
        rescale_factor(100, a=0.0)


def test_rules_side_by_side():
    start = time.perf_counter()
    rows = {row.rule: row for row in analytic_rules(100)}
    assert time.perf_counter() - start < 1.0
    assert list(rows) == ["activation", "gradient", "shift"]
    assert rows["activation"].value == pytest.approx(solve_epsilon(100))
    assert rows["shift"].value == pytest.approx(shift_epsilon(100))
    gradient = rows["gradient"]
    at = mean_error("mae", GaussianLogits(100), gradient.value)
    assert at == pytest.approx(mean_error("mae", GaussianLogits(10), 0.5), rel=1e-8)
    assert gradient.value < gradient.others[0]  # the rising branch, not the saturated one
    assert all((row.formula, row.assumption) == RULES[row.rule] for row in rows.values())
    every = analytic_rules(100, measured=0.5)
    assert [row.rule for row in every] == list(RULES)
    assert every[1].value == pytest.approx(solve_epsilon(100, sigma=0.5))


@pytest.mark.parametrize("loss", sorted(set(ERRORS) - {"unhinged"}))
def test_at_ten_classes_every_rule_returns_its_reference(loss):
    for row in analytic_rules(10, loss=loss):
        assert row.value == pytest.approx(0.5, abs=1e-6), row.rule
    for name, range_ in ERRORS[loss].parameters.items():
        if range_.low < range_.high:
            (row,) = analytic_rules(10, loss=loss, parameter=name)
            assert row.value == pytest.approx(range_.default, rel=1e-5)


def test_gce_needs_a_smaller_q_with_more_classes():
    values = [analytic_rules(c, loss="gce", parameter="q")[0].value for c in (10, 100, 1000)]
    assert values[0] == pytest.approx(0.7)
    assert 0.7 > values[1] > values[2] > 0.2


def test_a_loss_without_closed_error_is_solved_by_sampling():
    (row,) = analytic_rules(20, loss="nce_mae", parameter="beta", rules=["gradient"])
    target, _ = sampled.mean_error("nce_mae", GaussianLogits(10), params={"beta": 1.0})
    computed, _ = sampled.mean_error("nce_mae", GaussianLogits(20), params={"beta": row.value})
    assert computed == pytest.approx(target, rel=1e-3)
    assert 0 < row.standard_error < 1e-2


def test_no_solution_names_the_reachable_range():
    with pytest.raises(
        NoSolutionError, match=r"unhinged at 100 .* reachable is \[-0\.99, -0\.99\]"
    ):
        analytic_rules(100, loss="unhinged", rules=["gradient"])
    row = next(r for r in analytic_rules(100, loss="unhinged") if r.rule == "gradient")
    assert row.value is None
    assert "reachable" in row.note
    rows = {r.rule: r for r in analytic_rules(2)}
    assert rows["shift"].value is None
    assert "closed form" in rows["shift"].note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 1}, "classes = 1"),
        ({"classes": 10, "sigma": -1.0}, "sigma = -1"),
        ({"classes": 10, "loss": "nothing"}, "unknown loss 'nothing'"),
        ({"classes": 10, "parameter": "q"}, "loss mae has no parameter q"),
        ({"classes": 10, "params": {"q": 1.0}}, "no parameter q; allowed: epsilon, scale"),
        ({"classes": 10, "parameter": "scale"}, "scale of loss mae is fixed"),
        ({"classes": 10, "rules": ["magic"]}, "unknown rule 'magic'; allowed: activation"),
        ({"classes": 10, "rules": ["activation-measured"]}, "needs measured logits"),
        ({"classes": 10, "loss": "gce", "parameter": "q", "rules": ["shift"]}, "use gradient"),
        ({"classes": 10, "target": 1.5}, "target = 1.5"),
        ({"classes": 10, "measured": 0.0}, "sigma = 0"),
        ({"classes": 10, "loss": "gce", "parameter": "q", "params": {"q": 1.0}}, "is the unknown"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        analytic_rules(**arguments)
    assert "\n" not in str(caught.value)


def test_rules_for_closed_losses_do_not_import_torch():
    code = (
        "import sys, trainables.theory.rules as t; t.analytic_rules(1000);"
        "t.analytic_rules(100, loss='gce', parameter='q');"
        "sys.exit(bool({'torch', 'ray', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
