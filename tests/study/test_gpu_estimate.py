"""Hours on a GPU that is not here: from kept measurements, or refused."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import yaml

from study.config.loader import parse_study
from study.planning import gpu_estimate
from study.planning.gpu_estimate import NoMeasurementError, hours_on, measurements
from study.planning.plan import Plan, make_plan
from trainables.errors import BadInputError

STUDY: dict[str, Any] = {
    "name": "narrow",
    "grid": {
        "dataset": ["cifar10"],
        "noise": [{"kind": "symmetric", "rate": 0.4}],
        "model": ["resnet32"],
        "loss": ["mae"],
    },
    "recipe": {"epochs": 10, "batch_size": 128, "precision": "bf16"},
    "search": {
        "networks_per_cell": 4,
        "epsilon": {"low": 0, "high": 8},
        "lr": {"low": 0.01, "high": 1},
    },
    "confirm": {"seeds": 2, "arms": ["tuned", "analytic:activation"]},
}


def plan_of(**changes: Any) -> Plan:
    study = copy.deepcopy(STUDY)
    for key, value in changes.items():
        section = next(part for part in (study["grid"], study["recipe"]) if key in part)
        section[key] = value
    return make_plan(parse_study(yaml.safe_dump(study).encode(), "narrow"))


def test_the_measured_model_takes_the_measured_time() -> None:
    plan = plan_of()
    estimate = hours_on(plan, "h100")
    networks = sum(plan.networks().values())
    assert estimate.hours * 3600 == pytest.approx(networks * 10 * 45_000 / 140_000, rel=0.001)
    assert estimate.factor == pytest.approx(2.0, rel=0.001)
    (used,) = estimate.measurements
    assert "ResNet-32" in used.what
    assert "ebc2f57" in used.provenance


def test_a_model_with_more_arithmetic_takes_longer_and_is_less_certain() -> None:
    known, deeper = hours_on(plan_of(), "h100"), hours_on(plan_of(model=["resnet56"]), "h100")
    ratio = deeper.hours / known.hours
    assert 1.7 < ratio < 1.9
    assert deeper.factor == pytest.approx(2 * ratio, rel=0.01)


def test_a_smaller_batch_is_limited_by_launching() -> None:
    known, smaller = hours_on(plan_of(), "h100"), hours_on(plan_of(batch_size=64), "h100")
    assert smaller.hours == pytest.approx(2 * known.hours, rel=0.001)
    assert smaller.factor == pytest.approx(4.0, rel=0.001)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "float32"}, "in float32 was not measured on h100"),
        ({"batch_size": 2}, "too far from what was measured"),
    ],
)
def test_what_was_not_measured_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(NoMeasurementError, match=says) as caught:
        hours_on(plan_of(**changes), "h100")
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"--device a100: no kept .*allowed: cpu, h100, h200"):
        gpu_estimate.check_device("a100")


@pytest.mark.parametrize("index", range(len(measurements())))
def test_kept_multiply_adds_are_those_of_the_measured_model(index: int) -> None:
    kept = measurements()[index]
    if "quickstart" in kept.what:  # means over two data sets, by training examples
        cells = [plan_of(dataset=["digit-pairs"], model=[{"name": "mlp", "width": 128}]).cells[0]]
        cells.append(
            plan_of(
                dataset=[{"name": "digit-pairs", "classes": 30}],
                model=[{"name": "mlp", "width": 128}],
            ).cells[0]
        )
        sizes = [cell.dataset.info.train_size for cell in cells]
        work = [gpu_estimate._work(cell)[1] for cell in cells]
        mean = sum(s * w for s, w in zip(sizes, work, strict=True)) / sum(sizes)
        assert kept.multiply_adds == pytest.approx(mean, rel=0.01)
        assert kept.examples_per_s == pytest.approx(4453 / 60 * 8 * sum(sizes) / 2, rel=0.01)
        return
    model: list[Any] = ["resnet32" if "ResNet-32" in kept.what else "resnet34"]
    if kept.kind == "linear layers":
        model = [{"name": "mlp", "width": 256}]
    cell = plan_of(dataset=["cifar100"], model=model).cells[0]
    assert gpu_estimate._work(cell) == (kept.kind, kept.multiply_adds)


def test_hours_of_the_search_are_limited() -> None:
    plan = plan_of()
    search = plan.config.search.model_copy(update={"worker_hours": 1e-6})
    limited = replace(plan, config=plan.config.model_copy(update={"search": search}))
    confirm = sum(map(plan.confirm_networks, plan.cells)) / sum(plan.networks().values())
    assert hours_on(limited, "h100").hours == pytest.approx(
        hours_on(plan, "h100").hours * confirm, rel=0.01
    )
