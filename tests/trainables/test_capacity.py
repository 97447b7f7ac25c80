"""How many members train at once; what happens when they do not fit."""

import logging
import time
from dataclasses import replace

import pytest
import torch

from trainables.engine import capacity
from trainables.engine.capacity import members_that_fit
from trainables.engine.trainer import (
    CohortRun,
    CohortSpec,
    DataSpec,
    Member,
    ModelSpec,
    Recipe,
    Rung,
    seconds_per_epoch,
    train,
)

MLP = CohortSpec(
    data=DataSpec("digits"),
    model=ModelSpec("mlp", {"width": 8, "depth": 1}),
    recipe=Recipe(epochs=2, batch_size=128),
    members=[Member(f"n{i}", "mae", 0.1, epsilon=1.0, init_seed=i, bracket="r") for i in range(20)],
)
GIB = 2**30


def unused(spec: CohortSpec) -> int:
    raise AssertionError("a CPU's memory is not measured")


def test_on_a_cpu_the_model_decides() -> None:
    assert members_that_fit(MLP, "cpu", unused) == 16
    assert members_that_fit(replace(MLP, model=ModelSpec("resnet20")), "cpu", unused) == 1
    assert members_that_fit(replace(MLP, rungs=[Rung(1, 0.5)]), "cpu", unused) == 20


@pytest.mark.parametrize(
    ("free_gib", "two_gib", "four_gib", "fit"),
    [
        (10.0, 1.5, 2.5, 15),  # 0.5 fixed, 0.5 per member, 80 % of the free memory
        (100.0, 1.5, 2.5, 20),  # never more than the cohort has
        (1.0, 4.0, 8.0, 1),  # at least one
        (100.0, 1.5, None, 2),  # four do not fit
        (100.0, None, None, 1),
    ],
)
def test_on_a_gpu_trial_steps_decide(
    free_gib: float,
    two_gib: float | None,
    four_gib: float | None,
    fit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "free_bytes", lambda device: int(free_gib * GIB))
    monkeypatch.setattr(capacity, "_measured", {})
    needs, sizes = {2: two_gib, 4: four_gib}, []

    def step_bytes(spec: CohortSpec) -> int:
        needed = needs[len(spec.members)]
        if needed is None:
            raise torch.cuda.OutOfMemoryError("out of memory")
        sizes.append(len(spec.members))
        extra = 1.0 if len(sizes) == 1 else 0.0  # the data set, loaded once
        return int((needed + extra) * GIB)

    assert members_that_fit(MLP, "cuda", step_bytes) == fit
    measured = len(sizes)
    assert members_that_fit(MLP, "cuda", step_bytes) == fit
    assert len(sizes) == measured  # once per group
    wider = replace(MLP, model=ModelSpec("mlp", {"width": 9, "depth": 1}))
    sizes.clear()
    assert members_that_fit(wider, "cuda", step_bytes) == fit
    assert len(sizes) == measured


def test_cohorts_of_one_and_two_are_measured_for_few_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "free_bytes", lambda device: 10 * GIB)
    monkeypatch.setattr(capacity, "_measured", {})
    three = replace(MLP, members=MLP.members[:3])
    assert members_that_fit(three, "cuda", lambda spec: len(spec.members) * 4 * GIB) == 2


def numbers(spec: CohortSpec) -> list[list[dict]]:
    return [
        [{k: v for k, v in epoch.to_row().items() if k != "wall_s"} for epoch in result.epochs]
        for result in train(spec)
    ]


class SmallDevice(CohortRun):
    """Runs out of memory with more than five members."""

    def train_epoch(self) -> None:
        if len(self.members) > 5:
            raise torch.cuda.OutOfMemoryError("out of memory")
        super().train_epoch()


def test_out_of_memory_halves_the_number_and_keeps_the_results(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = numbers(MLP)
    monkeypatch.setattr("trainables.engine.trainer.CohortRun", SmallDevice)
    with caplog.at_level(logging.WARNING):
        assert numbers(MLP) == whole
    assert [r.message for r in caplog.records] == [
        "16 networks together do not fit cpu; trying 8",
        "8 networks together do not fit cpu; trying 4",
    ]


def test_a_bracket_that_does_not_fit_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.engine.trainer.CohortRun", SmallDevice)
    with pytest.raises(ValueError, match="a bracket is never split; let fewer points compete"):
        train(replace(MLP, rungs=[Rung(1, 0.5)]))


def test_one_interrupted_step_does_not_spoil_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0

    class Interrupted(CohortRun):
        def try_steps(self, *arguments: int, **options: bool) -> int:
            nonlocal steps
            steps += 1
            if steps == 2:  # the first that is timed
                started = time.process_time()
                while time.process_time() < started + 0.5:  # asleep, it would not be timed
                    pass
            return super().try_steps(*arguments, **options)

    monkeypatch.setattr("trainables.engine.trainer.CohortRun", Interrupted)
    # With 0.5 s for 8 examples, an epoch of 1,197 would take more than a minute.
    assert seconds_per_epoch(MLP, budget_s=2.0) < 20
    assert steps > 2
