"""What holds on a GPU. Without one these tests are skipped."""

import copy
import gc
import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainables import losses
from trainables.engine.recorded_evaluation import RecordedEvaluation
from trainables.engine.recorded_steps import RecordedSteps
from trainables.engine.trainer import (
    CohortRun,
    CohortSpec,
    DataSpec,
    Member,
    MemberResult,
    ModelSpec,
    Recipe,
    Rung,
    train,
)
from trainables.stacking import Arrangement, stack
from trainables.status import Status

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

GPU = "cuda"
MLP = CohortSpec(
    data=DataSpec("digits"),
    model=ModelSpec("mlp", {"width": 32}),
    recipe=Recipe(epochs=3, batch_size=200),  # the last batch is smaller
    members=[],
)
CNN = replace(MLP, model=ModelSpec("resnet20"), recipe=Recipe(epochs=2, batch_size=400))
MODELS = {"mlp": MLP, "grouped": CNN, "streams": replace(CNN, model=ModelSpec("cnn8"))}


@pytest.fixture(autouse=True)
def exact_float32():
    """TF32 rounds factors to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def members(*lrs: float, loss: str = "mae", **same: object) -> list[Member]:
    return [
        Member(f"n{i}", loss=loss, lr=lr, epsilon=1.0, init_seed=i, noise_seed=i, **same)
        for i, lr in enumerate(lrs)
    ]


def numbers(results: list[MemberResult]) -> dict[str, list[dict]]:
    return {
        r.network_id: [
            {k: v for k, v in epoch.to_row().items() if k != "wall_s"} for epoch in r.epochs
        ]
        for r in results
    }


class Eager(RecordedSteps):
    """Never records."""

    def _record(self, *arguments: object) -> None:
        return None


def close(one: list[dict], other: list[dict], rel: float) -> bool:
    expected = [{k: pytest.approx(v, rel=rel, abs=rel) for k, v in row.items()} for row in other]
    return one == expected


@pytest.mark.parametrize(
    "recipe",
    [{"nesterov": True}, {"optimizer": "adamw"}, {"clip_norm": 0.1}, {"precision": "bf16"}],
)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("orders", [1, 2], ids=["shared batches", "own batches"])
def test_a_recorded_step_is_the_step(
    name: str,
    recipe: dict,
    orders: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    three = members(0.01, 0.02, 0.03, weight_decay=0.01, weight_l1=1e-4)
    three = [replace(m, order_seed=i % orders) for i, m in enumerate(three)]
    same = replace(MODELS[name].recipe, deterministic=True, epsilon_schedule="linear", **recipe)
    spec = replace(MODELS[name], members=three, recipe=same)
    graphs, record = [], RecordedSteps._record
    monkeypatch.setattr(
        RecordedSteps, "_record", lambda *arguments: graphs.append(record(*arguments)) or graphs[-1]
    )
    recorded = numbers(train(spec, device=GPU))
    assert graphs
    assert None not in graphs
    assert not caplog.records
    monkeypatch.setattr("trainables.engine.cohort.RecordedSteps", Eager)
    assert recorded == numbers(train(spec, device=GPU))


@pytest.mark.parametrize("name", MODELS)
def test_recorded_evaluation_is_the_evaluation(name: str) -> None:
    spec = replace(MODELS[name], members=members(0.01, 0.02), reads_test=True)
    run = CohortRun(spec, torch.device(GPU), torch.float32)
    for _ in range(2):
        run.train_epoch()
    run.model.eval()
    assert run._steps.pool is not None
    recorded = RecordedEvaluation(run.model, lambda: run._steps.pool)
    never = RecordedEvaluation(run.model, lambda: None)  # no training step could be recorded
    for size in (64, 64, 10, 64, 10):
        inputs = torch.randn(size, *run.data.dataset.input_shape, device=GPU)
        with torch.no_grad():
            expected = run.model(inputs)
        assert torch.equal(recorded(inputs), expected)
        assert torch.equal(never(inputs), expected)
    assert (len(recorded._recordings), len(never._recordings)) == (2, 0)


@pytest.mark.parametrize("name", ["grouped", "streams", "1 × 1 filters"])
def test_filters_and_updates_take_the_fast_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    from trainables.kernels import sgd  # here, because it needs Triton

    monkeypatch.setattr(sgd, "update", lambda parameter, *_: seen.append(parameter.shape))
    others = {"1 × 1 filters": replace(CNN, model=ModelSpec("resnet18"))}
    spec = replace((MODELS | others)[name], members=members(0.01, 0.02))
    run = CohortRun(spec, torch.device(GPU), torch.float32)
    run.try_steps(1)
    assert len(seen) == len(list(run.model.parameters()))


@pytest.mark.parametrize("name", MODELS)
def test_repeated_to_the_bit(name: str) -> None:
    recipe = replace(MODELS[name].recipe, deterministic=True)
    spec = replace(MODELS[name], members=members(0.05, 0.1, 0.2), recipe=recipe)
    assert numbers(train(spec, device=GPU)) == numbers(train(spec, device=GPU))


def test_every_loss_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    spec = replace(
        MLP, members=[Member(name, loss=name, lr=0.01, epsilon=1.0) for name in losses.names()]
    )
    on_gpu = numbers(train(spec, device=GPU))
    assert not caplog.records
    on_cpu = numbers(train(spec))
    for network_id, rows in on_gpu.items():
        assert close(rows, on_cpu[network_id], rel=0.02), network_id


@pytest.mark.parametrize("name", MODELS)
def test_each_member_as_alone(name: str) -> None:
    """The first updates; later, rounding grows as in any network."""
    recipe = replace(MODELS[name].recipe, epochs=1, batch_size=800)
    spec = replace(MODELS[name], recipe=recipe, members=members(*[0.01] * 8))
    together = numbers(train(spec, device=GPU))
    for member in spec.members[::3]:
        (alone,) = numbers(train(replace(spec, members=[member]), device=GPU)).values()
        assert close(together[member.network_id], alone, rel=1e-3)


@pytest.mark.parametrize("arrangement", Arrangement)
@pytest.mark.parametrize("orders", [1, 2], ids=["shared batches", "own batches"])
def test_arrangements_agree_with_the_cpu(arrangement: Arrangement, orders: int) -> None:
    three = members(0.01, 0.02, 0.03)
    spec = replace(CNN, members=[replace(m, order_seed=i % orders) for i, m in enumerate(three)])
    on_cpu = CohortRun(spec, torch.device("cpu"), torch.float64)
    on_gpu = CohortRun(spec, torch.device(GPU), torch.float64)
    assert on_gpu.model.arrangement is Arrangement.GROUPED
    on_gpu.model.arrangement = arrangement
    on_cpu.train_epoch()
    on_gpu.train_epoch()
    for a, b in zip(on_gpu.history, on_cpu.history, strict=True):
        assert a[0].train_loss == pytest.approx(b[0].train_loss, rel=1e-8)
        assert a[0].grad_norm == pytest.approx(b[0].grad_norm, rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_diverged_neighbour_changes_nothing(name: str, precision: str) -> None:
    recipe = replace(MODELS[name].recipe, precision=precision, deterministic=True)
    healthy = members(*[0.05] * 8)
    mixed = [replace(m, lr=math.nan) if i % 3 == 1 else m for i, m in enumerate(healthy)]
    with_healthy = numbers(train(replace(MODELS[name], members=healthy, recipe=recipe), device=GPU))
    results = train(replace(MODELS[name], members=mixed, recipe=recipe), device=GPU)
    with_diverged = numbers(results)
    for i, member in enumerate(mixed):
        if math.isnan(member.lr):
            assert results[i].metrics.status is Status.DIVERGED
        else:
            assert with_diverged[member.network_id] == with_healthy[member.network_id]


@pytest.mark.parametrize("name", MODELS)
def test_pruning_and_restart(name: str) -> None:
    candidates = members(0.05, 0.1, 0.2, 0.4, bracket="r")
    recipe = replace(MODELS[name].recipe, epochs=4, deterministic=True)
    spec = replace(MODELS[name], members=candidates, rungs=[Rung(2, 0.5)], recipe=recipe)
    states = []
    whole = train(spec, device=GPU, save=lambda state: states.append(copy.deepcopy(state())))
    assert sorted(r.metrics.status for r in whole) == ["complete"] * 2 + ["pruned"] * 2
    resumed = train(spec, device=GPU, saved=states[2])
    assert numbers(resumed) == numbers(whole)


def peak_bytes(spec: CohortSpec) -> int:
    """Memory that the process reserves while a cohort trains, whatever trained before it."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train(spec, device=GPU)
    peak = torch.cuda.max_memory_reserved()
    gc.collect()
    torch.cuda.empty_cache()
    return peak


def test_out_of_memory_halves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "trainables.engine.trainer.members_that_fit", lambda spec, *_: len(spec.members)
    )
    _, total = torch.cuda.mem_get_info()
    spec = replace(CNN, recipe=replace(CNN.recipe, epochs=1), members=members(*[0.01] * 12))
    # Between what 6 and what 12 networks need, on any card.
    six = peak_bytes(replace(spec, members=spec.members[:6]))
    twelve = peak_bytes(spec)
    torch.cuda.set_per_process_memory_fraction((six + twelve) / 2 / total)
    try:
        results = train(spec, device=GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len({r.network_id for r in results}) == 12
    assert {r.metrics.status for r in results} == {Status.COMPLETE}
    assert "12 networks together do not fit cuda; trying 6" in caplog.messages


def test_trial_steps_find_the_number_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(CNN, recipe=replace(CNN.recipe, epochs=1), members=members(*[0.01] * 12))
    sizes = []
    original = CohortRun.train_epoch

    def train_epoch(run: CohortRun) -> None:
        sizes.append(len(run.members))
        original(run)

    monkeypatch.setattr(CohortRun, "train_epoch", train_epoch)
    whole = peak_bytes(spec)
    assert sizes == [12]
    sizes.clear()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (whole // 2, whole))
    train(spec, device=GPU)
    assert sum(sizes) == 12
    assert sizes[0] < 12


def reads_a_value(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss that cannot be recorded."""
    values = losses.get("ce").function(logits, labels)
    return values * (1.0 if values.max().item() < 1e9 else 0.0)


def test_a_step_that_cannot_be_recorded_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    reading = losses.Loss("reads", reads_a_value)
    mixed = [*members(0.1, 0.2), *members(0.1, loss="reads")]
    mixed = [replace(m, network_id=f"m{i}") for i, m in enumerate(mixed)]
    with losses.registered(reading):
        results = train(replace(MLP, members=mixed), device=GPU)
    assert [r.metrics.status for r in results] == [Status.COMPLETE] * 3
    assert ["cannot be recorded" in message for message in caplog.messages] == [True]
    caplog.clear()
    train(replace(MLP, members=mixed[:2]), device=GPU)
    assert not caplog.records


@pytest.mark.parametrize("name", ["grouped", "streams"])
def test_compiled_training_is_close(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="trainables")
    spec = replace(MODELS[name], members=members(0.01, 0.02))
    plain = numbers(train(spec, device=GPU))
    recipe = replace(spec.recipe, compile=True)
    compiled = numbers(train(replace(spec, recipe=recipe), device=GPU))
    assert not [r for r in caplog.records if r.name.startswith("trainables")]
    for network_id, rows in compiled.items():
        for row, expected in zip(rows, plain[network_id], strict=True):
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=0.01)


def test_mixed_precision_learns() -> None:
    recipe = replace(CNN.recipe, epochs=6, batch_size=100, precision="bf16")
    spec = replace(CNN, members=members(0.05, 0.1, loss="ce"), recipe=recipe)
    assert min(r.metrics.val_acc_clean for r in train(spec, device=GPU)) > 0.8


def test_a_parameter_can_be_read_from_any_arrangement() -> None:
    model = stack(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)), 2).to(GPU)
    x = torch.randn(5, 1, 8, 8, device=GPU)
    outcomes = {}
    for arrangement in Arrangement:
        model.arrangement = arrangement
        model.zero_grad()
        logits = model(x)
        logits.square().sum().backward()
        outcomes[arrangement] = [logits, *(p.grad.clone() for p in model.parameters())]
    for outcome in outcomes.values():
        torch.testing.assert_close(outcome, outcomes[Arrangement.BATCH], rtol=1e-4, atol=1e-4)
