"""How long a study would take on a GPU that is not here, from measurements that were kept.

`gpu_measurements.json` holds them: training examples per second of all networks together, for one
kind of model on one device. The cost of a network is taken from the measurement of its kind:

    seconds = training examples · epochs / examples_per_s · max(launching, computing)
    launching = batch size of the measurement / batch size of the study
    computing = multiply-adds of the model for one example / those of the measured model

A GPU is limited by launching operations or by computing them, and which it is was not measured
between the measured models. The larger of the two is the estimate. The true time may be as small
as the smaller of the two, and the host, the number of networks in a cohort and Ray change it by a
factor of about 2. Where that makes more than `_LARGEST_FACTOR`, there is no estimate.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from study.planning.cells import Cell
from study.planning.plan import Plan
from trainables import models
from trainables.errors import BadInputError, did_you_mean

_HOST = 2.0  # factor by which host, cohort size and Ray may change the time
_LARGEST_FACTOR = 10.0
_NARROW = 64  # channels up to which the engine groups convolutions; stacking.arrangements


class NoMeasurementError(ValueError):
    """No kept measurement is near enough; the message is one line for the user."""


@dataclass(frozen=True)
class Measurement:
    """A throughput that was measured.

    Attributes:
        device: name for `plan --device`.
        kind: kind of model.
        precision: as in the recipe.
        examples_per_s: training examples per second, all networks together.
        multiply_adds: of the model's forward pass, for one example.
        batch_size: examples per step of each network.
        what: what was measured.
        hardware: where.
        provenance: versions, date, and where it is written down.
    """

    device: str
    kind: str
    precision: str
    examples_per_s: float
    multiply_adds: int
    batch_size: int
    what: str
    hardware: str
    provenance: str


@dataclass(frozen=True)
class GpuEstimate:
    """Hours on a GPU that is not here.

    Attributes:
        hours: the estimate.
        factor: by which it may be too large or too small.
        measurements: what it was computed from.
    """

    hours: float
    factor: float
    measurements: tuple[Measurement, ...]


@functools.cache
def measurements() -> tuple[Measurement, ...]:
    """All kept measurements."""
    text = (resources.files("study.planning") / "gpu_measurements.json").read_text("utf-8")
    return tuple(Measurement(**entry) for entry in json.loads(text))


def measured_devices() -> list[str]:
    """Names of the devices that have measurements."""
    return sorted({measurement.device for measurement in measurements()})


def check_device(device: str) -> None:
    """Refuse a device without measurements.

    Raises:
        BadInputError: it has none.
    """
    if device not in measured_devices():
        raise BadInputError(
            f"--device {device}: no kept measurements"
            f"{did_you_mean(device, ['cpu', *measured_devices()])}"
        )


def hours_on(plan: Plan, device: str) -> GpuEstimate:
    """Hours of a study on one GPU, from kept measurements; trains nothing.

    Args:
        plan: the study's plan.
        device: one of `measured_devices()`.

    Raises:
        NoMeasurementError: a model, or the precision, is too far from every measurement.
    """
    config = plan.config
    search_s = other_s = 0.0
    factor, used = _HOST, dict[Measurement, None]()
    for group in dict.fromkeys(cell.group_id for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.group_id == group]
        kind, multiply_adds = _work(cells[0])
        near = _measurement(device, kind, config.recipe.precision, cells[0].model.label)
        computing = multiply_adds / near.multiply_adds
        launching = near.batch_size / config.recipe.batch_size
        of_group = _HOST * max(computing, launching) / min(computing, launching)
        if of_group > _LARGEST_FACTOR:
            raise NoMeasurementError(
                f"{cells[0].model.label} on {cells[0].dataset.label} with batches of "
                f"{config.recipe.batch_size} is too far from what was measured on {device} "
                f"({near.what}): the hours could be off by a factor of {of_group:.0f}"
            )
        examples = cells[0].dataset.info.train_size * config.recipe.epochs
        each_s = examples / near.examples_per_s * max(computing, launching)
        search_s += sum(map(plan.search_points, cells)) * each_s
        other_s += each_s * sum(
            len(plan.sweep_networks(cell)) + plan.confirm_networks(cell) for cell in cells
        )
        factor = max(factor, of_group)
        used[near] = None
    if config.search.worker_hours is not None:
        search_s = min(search_s, 3600 * config.search.worker_hours)
    return GpuEstimate((search_s + other_s) / 3600, factor, tuple(used))


def _measurement(device: str, kind: str, precision: str, model: str) -> Measurement:
    """The measurement of a kind of model."""
    of_kind = [m for m in measurements() if m.device == device and m.kind == kind]
    for measurement in of_kind:
        if measurement.precision == precision:
            return measurement
    have = _listed(f"{m.kind} in {m.precision}" for m in measurements() if m.device == device)
    raise NoMeasurementError(
        f"{model} ({kind}) in {precision} was not measured on {device}; measured: {have}"
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _work(cell: Cell) -> tuple[str, int]:
    """The kind of a cell's model, and the multiply-adds of its forward pass for one example."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shape = cell.dataset.info.input_shape
    with torch.device("meta"):
        network = models.build(cell.model.name, shape, cell.classes, cell.model.options).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, *shape))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    if not convolutions:
        kind = "linear layers"
    elif max(convolution.out_channels for convolution in convolutions) <= _NARROW:
        kind = f"convolutions of at most {_NARROW} channels"
    else:
        kind = f"convolutions of more than {_NARROW} channels"
    return kind, max(1, counter.get_total_flops() // 2)
