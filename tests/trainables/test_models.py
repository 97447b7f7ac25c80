"""What is known of the models without PyTorch agrees with the models."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch

from trainables import models
from trainables.models.catalogue import _NAMED
from trainables.stacking import stack

SHAPES = [(5,), (1, 3, 9), (3, 4, 4), (3, 7, 9), (1, 8, 8)]


@pytest.mark.parametrize("name", models.names())
def test_a_check_refuses_exactly_the_inputs_that_the_model_refuses(name: str) -> None:
    for shape in SHAPES:
        refusals = []
        for attempt in (_check, _build):
            try:
                attempt(name, shape, {})
                refusals.append(None)
            except models.UnknownModelError as error:
                refusals.append(str(error))
        assert refusals[0] == refusals[1], shape


@pytest.mark.parametrize(
    ("options", "is_allowed"),
    [
        ({"width": 1, "depth": 0}, True),
        ({"width": 0}, False),
        ({"depth": -1}, False),
        ({"width": 2.5}, False),
        ({"width": "8"}, False),
        ({"depth": True}, False),
        ({"width": 10**12}, False),
        ({"depth": 10**6}, False),
    ],
)
def test_options_of_the_perceptron(options: dict[str, Any], is_allowed: bool) -> None:
    for attempt in (_check, _build):
        if is_allowed:
            attempt("mlp", (3, 8, 8), options)
        else:
            with pytest.raises(models.UnknownModelError, match=next(iter(options))):
                attempt("mlp", (3, 8, 8), options)


@pytest.mark.parametrize("name", models.names())
def test_options_and_defaults_are_those_of_the_class(name: str) -> None:
    named = _NAMED[name]
    parameters = list(inspect.signature(named.find()).parameters.values())[2:]
    free = {p.name: p.default for p in parameters if p.name not in named.fixed}
    assert named.options == free


def test_listing_and_checking_models_imports_no_torch() -> None:
    code = (
        "import sys\nfrom trainables import models\n"
        "models.check('mlp', {'width': 4})\n"
        "models.check_inputs('resnet34', (3, 32, 32), {})\n"
        "assert models.names() and models.label('mlp', {}) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _check(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    models.check(name, options)
    models.check_inputs(name, shape, options)


def _build(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = models.build(name, shape, 5, options)
        if shape == (1, 8, 8):
            assert stack(network, 2)(torch.empty(3, *shape)).shape == (2, 3, 5)
    assert models.classifier(network).out_features == 5
