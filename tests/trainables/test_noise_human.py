import os
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables import datasets, noise
from trainables.noise import NoiseError
from trainables.noise.kinds.superclass import CIFAR100_SUPERCLASSES

REAL = os.environ.get("LOGIT_BIAS_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="LOGIT_BIAS_DATA names no folder of real data")


KINDS = [kind for kind in noise.names() if kind.startswith("human-")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named_with_its_folder(kind, tmp_path):
    with pytest.raises(NoiseError, match=r"_human.pt or .*cifar100?n.npz") as error:
        noise.get(kind).read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_authors_file_format(tmp_path):
    arrays = {name: np.arange(10) for name in ("clean_label", "worse_label")}
    torch.save(arrays, tmp_path / "CIFAR-10_human.pt")
    clean, worst = noise.get("human-worst").read(tmp_path)
    np.testing.assert_array_equal(worst, clean)
    with pytest.raises(NoiseError, match="holds no array 'aggre_label'"):
        noise.get("human-aggregate").read(tmp_path)
    (tmp_path / "CIFAR-10_human.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(NoiseError, match=r"CIFAR-10_human.pt is damaged"):
        noise.get("human-worst").read(tmp_path)


def test_labels_of_other_images_are_refused():
    digits = datasets.load("digits")
    with pytest.raises(NoiseError, match="belongs to data set 'cifar10'"):
        noise.apply(digits, "human-worst", None, 0)
    with pytest.raises(NoiseError, match="needs all classes"):
        noise.check(datasets.info("cifar10", classes=5), "human-worst", None)
    with pytest.raises(NoiseError, match="leave the rate out"):
        noise.apply(digits, "human-worst", 0.4, 0)
    with pytest.raises(NoiseError, match="no option 'draw'"):
        noise.check(datasets.info("cifar10"), "human-worst", None, draw="exact")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGIT_BIAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield {name: datasets.load(name, root=REAL) for name in ("cifar10", "cifar100")}
        datasets.clear_loaded()


@needs_real
@pytest.mark.parametrize(
    ("kind", "dataset", "rate"),
    [  # published shares of wrong labels (aggregate as 9.03 %)
        ("human-aggregate", "cifar10", 0.0901),
        ("human-random1", "cifar10", 0.1723),
        ("human-random2", "cifar10", 0.1812),
        ("human-random3", "cifar10", 0.1764),
        ("human-worst", "cifar10", 0.4021),
        ("human-fine", "cifar100", 0.4020),
    ],
)
def test_real_human_labels(real, kind, dataset, rate):
    made = noise.apply(real[dataset], kind, None, 0, root=REAL)
    assert (9 * made.train.rate + made.val.rate) / 10 == pytest.approx(rate, abs=1e-4)


@needs_real
def test_superclasses_are_those_of_the_files(real):
    import pickle

    with (Path(REAL) / "cifar-100-python" / "train").open("rb") as stream:
        content = pickle.load(stream, encoding="latin1")
    superclasses = np.array(CIFAR100_SUPERCLASSES)
    np.testing.assert_array_equal(superclasses[content["fine_labels"]], content["coarse_labels"])


@needs_real
def test_instance_noise_on_cifar10(real):
    made = noise.apply(real["cifar10"], "pdn", 0.4, 0)
    assert made.train.rate == pytest.approx(0.4, abs=0.01)
    assert made.val.rate == pytest.approx(0.4, abs=0.03)
