"""The sampler against models whose evidence and posterior are known in closed form."""

import numpy as np
import pytest
from scipy import stats

from analysis.response.smc import Particles, sample, systematic_resample

DATA, SD = 1.3, 0.2


class TwoNormals:
    """y = location of the stratum + z · scale of the stratum + noise; z standard normal."""

    location, scale = np.array([0.0, 2.0]), np.array([1.0, 0.5])

    def evaluate(self, particles: Particles) -> None:
        at = self.location[particles.stratum] + self.scale[particles.stratum] * particles.z[:, 0]
        particles.score[:] = stats.norm.logpdf(DATA, at, SD)
        particles.height[:], particles.precision[:] = 0.0, 1.0

    def log_prior(self, particles: Particles) -> np.ndarray:
        return -0.5 * (particles.z[:, 0] ** 2 + particles.log_noise**2)

    def used_columns(self, stratum: np.ndarray) -> np.ndarray:
        return np.array([[1.0, 0.0]]).repeat(len(stratum), axis=0)

    def propose_setting(self, particles: Particles, rng: np.random.Generator) -> np.ndarray:
        return particles.setting


def drawn(seed: int, count: int = 4000) -> Particles:
    rng, target = np.random.default_rng(seed), TwoNormals()
    sizes = np.array([400, 400])
    n = 4 * sizes.sum()
    start = Particles(
        np.repeat([0, 1], 4 * sizes),
        rng.standard_normal((n, 2)),
        np.zeros(n, dtype=bool),
        rng.standard_normal(n),
        np.zeros(n, dtype=int),
        *(np.empty(n) for _ in range(3)),
    )
    target.evaluate(start)
    return sample(target, start, sizes, np.array([0.5, 0.5]), count, rng)


def test_strata_are_drawn_by_their_evidence():
    spread = np.sqrt(TwoNormals.scale**2 + SD**2)
    evidence = stats.norm.pdf(DATA, TwoNormals.location, spread)
    shares = [np.mean(drawn(seed).stratum == 0) for seed in range(8)]
    assert np.mean(shares) == pytest.approx(evidence[0] / evidence.sum(), abs=0.03)


@pytest.mark.parametrize("stratum", [0, 1])
def test_parameters_are_drawn_from_the_posterior(stratum):
    scale, location = TwoNormals.scale[stratum], TwoNormals.location[stratum]
    precision = 1 + (scale / SD) ** 2
    mean = scale / SD**2 * (DATA - location) / precision
    z = np.concatenate([p.z[p.stratum == stratum, 0] for p in map(drawn, range(8))])
    assert z.mean() == pytest.approx(mean, abs=0.03)
    assert z.std() == pytest.approx(precision**-0.5, rel=0.08)


def test_a_parameter_without_data_keeps_its_prior():
    noise = np.concatenate([drawn(seed).log_noise for seed in range(8)])
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(1, abs=0.08)


def test_resampling_is_in_proportion_to_the_weights():
    drawn_rows = systematic_resample(np.array([1.0, 0.0, 3.0, 4.0]), 800, np.random.default_rng(0))
    assert np.bincount(drawn_rows, minlength=4).tolist() == pytest.approx([100, 0, 300, 400], abs=1)
