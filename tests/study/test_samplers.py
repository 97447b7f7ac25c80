"""The registry of samplers."""

import subprocess
import sys

import pytest

from study import samplers
from study.samplers import Sampler, SamplerError


def test_an_unknown_sampler_is_one_line_that_names_the_allowed_ones() -> None:
    with pytest.raises(SamplerError, match=r"'gird'; allowed: .*tpe; did you mean grid\?$"):
        samplers.get("gird")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="sampler tpe: the name is taken"):
        samplers.register(samplers.get("tpe"))


@pytest.mark.parametrize("name", samplers.names())
def test_a_grid_goes_with_the_grid_sampler_only(name: str) -> None:
    sampler: type[Sampler] = samplers.get(name)
    refused = None if name == "grid" else (3, 2)
    with pytest.raises(SamplerError, match="goes with `sampler: grid`"):
        sampler.check(refused)
    sampler.check((3, 2) if name == "grid" else None)


def test_the_registry_imports_neither_optuna_nor_scipy() -> None:
    code = (
        "import sys, study.samplers\nassert not {'optuna', 'scipy', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
