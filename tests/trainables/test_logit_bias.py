"""The activation rule against its exact values, direct quadrature, and Monte Carlo."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from trainables.theory.logit_bias import anchor_target, expected_activation, solve_epsilon

CLASSES = (2, 3, 10, 100, 10_000, 1_000_000)
SIGMAS = (0.01, 0.3, 0.49, 0.51, 1.0, 2.0, 5.0)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_without_bias_the_mean_activation_is_one_over_c(classes, sigma):
    assert expected_activation(0.0, classes, sigma) == pytest.approx(1 / classes, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("epsilon", [-20.0, -5.0, 0.3, 1.0, 6.0, 20.0])
def test_two_classes_against_direct_quadrature(epsilon, sigma):
    spread = sigma * math.sqrt(2)  # of z_k − z_1
    reach = 12 * spread + 2 * spread**2
    kink = -epsilon if abs(epsilon) < reach else 0.0

    def integrand(x):
        return expit(x + epsilon) * math.exp(-((x / spread) ** 2) / 2)

    total = sum(
        quad(integrand, a, b, epsabs=0, epsrel=1e-11, limit=500)[0]
        for a, b in ((-reach, kink), (kink, reach))
    ) / (spread * math.sqrt(2 * math.pi))
    assert expected_activation(epsilon, 2, sigma) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (10, {0.10: 0.00, 0.15: 0.53, 0.20: 0.93, 0.30: 1.58}),
        (100, {0.10: 2.51, 0.15: 3.03, 0.20: 3.43, 0.30: 4.06}),
        (1000, {0.10: 4.84, 0.15: 5.35, 0.20: 5.75, 0.30: 6.38}),
    ],
)
def test_published_check_values(classes, expected):
    for target, epsilon in expected.items():
        assert solve_epsilon(classes, target) == pytest.approx(epsilon, abs=0.01)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_solution_reaches_its_target_quickly(classes, sigma):
    for target in (1e-9, 0.01, 0.15, 0.5, 0.999):
        start = time.perf_counter()
        epsilon = solve_epsilon(classes, target, sigma)
        elapsed = time.perf_counter() - start
        assert expected_activation(epsilon, classes, sigma) == pytest.approx(target, rel=1e-9)
        assert elapsed < 0.1  # 2 ms on an idle core; the bound leaves room for a busy one


def test_default_target_is_the_papers_anchor():
    assert anchor_target() == pytest.approx(0.1473, abs=1e-4)
    assert solve_epsilon(10) == pytest.approx(0.5, abs=1e-10)
    assert solve_epsilon(1000) > solve_epsilon(100) > 2.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 1}, "classes = 1"),
        ({"classes": 2.5}, "classes = 2.5"),
        ({"classes": 10, "sigma": 0.0}, "sigma = 0"),
        ({"classes": 10, "sigma": float("nan")}, "sigma = nan"),
        ({"classes": 10, "target": 0.0}, "target = 0"),
        ({"classes": 10, "target": 1.0}, "target = 1"),
        ({"classes": 10, "target": float("nan")}, "target = nan"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        solve_epsilon(**arguments)
    assert "\n" not in str(caught.value)


def test_importing_the_theory_does_not_import_torch():
    code = (
        "import sys, trainables.theory.logit_bias as t; t.solve_epsilon(100);"
        "sys.exit(bool({'torch', 'ray', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "sigma"), [(10, 1.0), (100, 0.3), (100, 2.0), (1000, 1.0)])
def test_against_monte_carlo(classes, sigma):
    rng = np.random.default_rng(classes)
    epsilon = solve_epsilon(classes, 0.15, sigma)
    values = np.concatenate(
        [
            expit(z[:, 0] + epsilon - np.log(np.exp(z[:, 1:]).sum(1)))
            for z in (rng.normal(0, sigma, (20_000, classes)) for _ in range(50))
        ]
    )
    error = values.std() / math.sqrt(len(values))
    assert values.mean() == pytest.approx(0.15, abs=5 * error)
