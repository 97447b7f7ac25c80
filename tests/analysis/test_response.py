"""The response curve: the best ε, its interval, and what is flagged."""

import numpy as np
import pytest
from planted import Planted, edge, flat, gaussian, symmetric, two_sided, write_study

from analysis.data.load import load
from analysis.response.fit import (
    fit_response,
    fit_sweep,
    indifference,
    is_flat,
    remove_seed_effect,
    sweep_points,
)


def fitted(folder, response, margin=0.005, **options):
    study = load(
        str(write_study(folder, [Planted(response=response)], stages=("sweep",), **options))
    )
    return fit_response(study.stage("sweep"), margin)


@pytest.mark.parametrize(
    ("response", "off"), [(symmetric(4.4), 0.15), (gaussian(2.7), 0.05), (two_sided(3.0), 0.4)]
)
def test_best_epsilon_is_found(tmp_path, response, off):
    grid = np.linspace(0, 8, 8001)
    truth = grid[np.argmax(response(grid))]
    best = fitted(tmp_path, response, sd=0.002).best
    assert best.low <= truth <= best.high
    assert best.value == pytest.approx(truth, abs=off)
    assert best.high - best.low < 6 * off
    assert not best.on_edge


def test_an_optimum_on_the_edge_is_flagged(tmp_path):
    best = fitted(tmp_path, edge()).best
    assert best.on_edge
    assert best.high == 8.0


def test_a_flat_curve_gives_a_wide_interval(tmp_path):
    response = fitted(tmp_path, flat())
    assert response.best.high - response.best.low > 4
    assert response.indifference[1] - response.indifference[0] > 6


def test_seed_effect_is_removed_exactly():
    rng = np.random.default_rng(0)
    shape, seeds = rng.normal(size=(9, 1)), rng.normal(size=(1, 5))
    y = shape + seeds
    y[2, 3] = np.nan
    adjusted = remove_seed_effect(y)
    assert adjusted.noise == pytest.approx(0, abs=1e-10)
    assert adjusted.variances == pytest.approx(0, abs=1e-20)
    assert np.allclose(adjusted.means - adjusted.means[0], (shape - shape[0])[:, 0], atol=1e-12)


def test_noise_of_failing_points_does_not_blur_the_maximum():
    """Where the loss fails, seeds differ by tens of points; near the maximum by tenths."""
    rng = np.random.default_rng(1)
    spread = np.array([0.1, 0.1, 0.1, *[0.002] * 7])[:, None]
    mean = np.array([0.2, 0.3, 0.5, 0.85, 0.9, 0.93, 0.94, 0.93, 0.91, 0.88])[:, None]
    y = mean + rng.normal(0, 0.05, (1, 5)) + rng.normal(0, spread, (10, 5))
    adjusted = remove_seed_effect(y)
    assert adjusted.noise < 0.004
    assert adjusted.variances[0] > 100 * adjusted.variances[5]


def test_learning_rate_is_tuned_out(tmp_path):
    rows = load(str(write_study(tmp_path, [Planted()], stages=("sweep",)))).stage("sweep")
    worse = rows.assign(lr=1.0, val_acc_clean=rows["val_acc_clean"] - 0.1)
    both = np.concatenate([rows.index, rows.index])
    mixed = rows.loc[both].reset_index(drop=True)
    mixed.loc[len(rows) :, ["lr", "val_acc_clean"]] = worse[["lr", "val_acc_clean"]].to_numpy()
    points = sweep_points(mixed, "val_acc_clean")
    assert (points["lr"] == 0.1).all()
    assert len(points) == len(rows)


def test_indifference_is_the_stretch_around_the_maximum():
    grid = np.linspace(0, 4, 5)
    curve = np.array([0.9, 0.5, 0.89, 0.9, 0.894])
    assert indifference(grid, curve - [0.001, 0, 0, 0, 0], 0.007) == (3.0, 4.0)


def test_too_few_epsilons_give_no_curve(tmp_path):
    rows = load(str(write_study(tmp_path, [Planted()], stages=("sweep",)))).stage("sweep")
    few = rows[rows["epsilon"].isin(sorted(rows["epsilon"].unique())[:3])]
    assert fit_response(few, 0.005) is None


def test_one_seed_gives_no_best_epsilon(tmp_path):
    best = fitted(tmp_path, gaussian(2.7), sweep_seeds=1).best
    assert best.noise_unknown
    assert best.flat
    assert (best.low, best.high) == (0.0, 8.0)


def test_a_narrow_maximum_is_not_flat_and_a_flat_curve_is():
    """Of a dome over two points an F test sees little."""
    x = np.linspace(0, 8, 10)
    dome = 0.06 * np.exp(-0.5 * ((x - 3.4) / 0.6) ** 2)[:, None]
    narrow, level = [], []
    for k in range(200):
        noise = np.random.default_rng(k).normal(0, 0.02, (10, 5))
        narrow.append(is_flat(dome + noise))
        level.append(is_flat(noise))
    assert np.mean(narrow) < 0.04
    assert np.mean(level) > 0.88


def test_the_interval_does_not_move_with_the_random_seed():
    y = gaussian(2.7)(np.linspace(0, 8, 10))[:, None] + np.random.default_rng(0).normal(
        0, 0.01, (10, 3)
    )
    one, two = (fit_sweep(np.linspace(0, 8, 10), y, seed).best for seed in (0, 1))
    assert one == two
