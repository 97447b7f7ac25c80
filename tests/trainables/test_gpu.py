"""What holds on a GPU. Without one these tests are skipped."""

import copy
import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainables import losses
from trainables.engine.step import GraphedStep
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
from trainables.stacking import stack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

GPU = "cuda"
MLP = CohortSpec(
    data=DataSpec("digits"),
    model=ModelSpec("mlp", {"width": 32}),
    recipe=Recipe(epochs=3, batch_size=200),  # the last batch is smaller
    members=[],
)
CNN = replace(MLP, model=ModelSpec("resnet20"), recipe=Recipe(epochs=2, batch_size=400))
MODELS = {"mlp": MLP, "wide": CNN, "apart": replace(CNN, model=ModelSpec("cnn8"))}


@pytest.fixture(autouse=True)
def exact_float32():
    """TF32 rounds to ten bits what it multiplies."""
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
        r.network_id: [{k: v for k, v in row.items() if k != "wall_s"} for row in r.epochs]
        for r in results
    }


class Eager(GraphedStep):
    """Records nothing."""

    def _record(self, *arguments: object) -> None:
        return None


def close(one: list[dict], other: list[dict], rel: float) -> bool:
    wanted = [{k: pytest.approx(v, rel=rel, abs=rel) for k, v in row.items()} for row in other]
    return one == wanted


@pytest.mark.parametrize(
    "recipe",
    [{"nesterov": True}, {"optimizer": "adamw"}, {"clip_norm": 0.1}, {"precision": "bf16"}],
)
@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_step_is_the_step(
    name: str, recipe: dict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    some = members(0.01, 0.02, 0.03, weight_decay=0.01, weight_l1=1e-4)
    same = replace(MODELS[name].recipe, deterministic=True, epsilon_schedule="linear", **recipe)
    spec = replace(MODELS[name], members=some, recipe=same)
    graphs, record = [], GraphedStep._record
    monkeypatch.setattr(
        GraphedStep, "_record", lambda *given: graphs.append(record(*given)) or graphs[-1]
    )
    recorded = numbers(train(spec, device=GPU))
    assert graphs
    assert None not in graphs
    assert not caplog.records
    monkeypatch.setattr("trainables.engine.cohort.GraphedStep", Eager)
    assert recorded == numbers(train(spec, device=GPU))


@pytest.mark.parametrize("name", MODELS)
def test_repeated_to_the_bit(name: str) -> None:
    recipe = replace(MODELS[name].recipe, deterministic=True)
    spec = replace(MODELS[name], members=members(0.05, 0.1, 0.2), recipe=recipe)
    assert numbers(train(spec, device=GPU)) == numbers(train(spec, device=GPU))


def test_every_loss_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    some = [Member(name, loss=name, lr=0.01, epsilon=1.0) for name in losses.names()]
    found = train(replace(MLP, members=some), device=GPU)
    assert not caplog.records
    on_cpu = numbers(train(replace(MLP, members=some)))
    for network_id, rows in numbers(found).items():
        assert close(rows, on_cpu[network_id], rel=0.02), network_id


@pytest.mark.parametrize("name", MODELS)
def test_each_member_as_alone(name: str) -> None:
    """First updates: later, rounding grows as it does in any network."""
    recipe = replace(MODELS[name].recipe, epochs=1, batch_size=800)
    spec = replace(MODELS[name], recipe=recipe, members=members(*[0.01] * 8))
    together = numbers(train(spec, device=GPU))
    for member in spec.members[::3]:
        (alone,) = numbers(train(replace(spec, members=[member]), device=GPU)).values()
        assert close(together[member.network_id], alone, rel=1e-3)


@pytest.mark.parametrize("arrangement", ["folded", "wide", "apart"])
def test_arrangements_agree_with_the_cpu(arrangement: str) -> None:
    spec = replace(CNN, members=members(0.01, 0.02, 0.03))
    on_cpu = CohortRun(spec, torch.device("cpu"), torch.float64)
    on_gpu = CohortRun(spec, torch.device(GPU), torch.float64)
    assert on_gpu.model.arrangement == "wide"
    on_gpu.model.arrangement = arrangement
    on_cpu.train_epoch()
    on_gpu.train_epoch()
    for a, b in zip(on_gpu.rows, on_cpu.rows, strict=True):
        assert a[0]["train_loss"] == pytest.approx(b[0]["train_loss"], rel=1e-8)
        assert a[0]["grad_norm"] == pytest.approx(b[0]["grad_norm"], rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_lost_neighbour_changes_nothing(name: str, precision: str) -> None:
    recipe = replace(MODELS[name].recipe, precision=precision, deterministic=True)
    healthy = members(*[0.05] * 8)
    lost = [replace(m, lr=math.nan) if i % 3 == 1 else m for i, m in enumerate(healthy)]
    with_healthy = numbers(train(replace(MODELS[name], members=healthy, recipe=recipe), device=GPU))
    found = train(replace(MODELS[name], members=lost, recipe=recipe), device=GPU)
    with_lost = numbers(found)
    for i, member in enumerate(lost):
        if math.isnan(member.lr):
            assert found[i].metrics["status"] == "diverged"
        else:
            assert with_lost[member.network_id] == with_healthy[member.network_id]


@pytest.mark.parametrize("name", MODELS)
def test_pruning_and_restart(name: str) -> None:
    racing = members(0.05, 0.1, 0.2, 0.4, bracket="r")
    recipe = replace(MODELS[name].recipe, epochs=4, deterministic=True)
    spec = replace(MODELS[name], members=racing, rungs=[Rung(2, 0.5)], recipe=recipe)
    states = []
    whole = train(spec, device=GPU, save=lambda state: states.append(copy.deepcopy(state())))
    assert sorted(r.metrics["status"] for r in whole) == ["complete"] * 2 + ["pruned"] * 2
    again = train(spec, device=GPU, saved=states[2])
    assert numbers(again) == numbers(whole)


def test_out_of_memory_halves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "trainables.engine.trainer.members_that_fit", lambda spec, *_: len(spec.members)
    )
    _, total = torch.cuda.mem_get_info()
    spec = replace(CNN, recipe=replace(CNN.recipe, epochs=1), members=members(*[0.01] * 12))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((2**30) / total)
    try:
        found = train(spec, device=GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len({r.network_id for r in found}) == 12
    assert {r.metrics["status"] for r in found} == {"complete"}
    assert "12 networks together do not fit cuda; trying 6" in caplog.messages


def test_trial_steps_find_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(CNN, recipe=replace(CNN.recipe, epochs=1), members=members(*[0.01] * 12))
    sizes = []
    original = CohortRun.train_epoch

    def noted(run: CohortRun) -> None:
        sizes.append(len(run.members))
        original(run)

    monkeypatch.setattr(CohortRun, "train_epoch", noted)
    torch.cuda.reset_peak_memory_stats()
    train(spec, device=GPU)
    whole = torch.cuda.max_memory_reserved()
    assert sizes == [12]
    sizes.clear()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (whole // 2, whole))
    train(spec, device=GPU)
    assert sum(sizes) == 12
    assert sizes[0] < 12


def asks_the_gpu(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss that cannot be recorded."""
    found = losses.get("ce").function(logits, labels)
    return found * (1.0 if found.max().item() < 1e9 else 0.0)


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    own = losses.Loss("asks", asks_the_gpu)
    some = [*members(0.1, 0.2), *members(0.1, loss="asks")]
    some = [replace(m, network_id=f"m{i}") for i, m in enumerate(some)]
    with losses.registered(own):
        found = train(replace(MLP, members=some), device=GPU)
    assert [r.metrics["status"] for r in found] == ["complete"] * 3
    assert ["cannot be recorded" in message for message in caplog.messages] == [True]
    caplog.clear()
    train(replace(MLP, members=some[:2]), device=GPU)
    assert not caplog.records


@pytest.mark.parametrize("name", ["wide", "apart"])
def test_compiled_training_is_close(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="trainables")
    spec = replace(MODELS[name], members=members(0.01, 0.02))
    plain = numbers(train(spec, device=GPU))
    recipe = replace(spec.recipe, compile=True)
    found = numbers(train(replace(spec, recipe=recipe), device=GPU))
    assert not [r for r in caplog.records if r.name.startswith("trainables")]
    for network_id, rows in found.items():
        for row, wanted in zip(rows, plain[network_id], strict=True):
            assert row["train_loss"] == pytest.approx(wanted["train_loss"], rel=0.01)


def test_mixed_precision_learns() -> None:
    recipe = replace(CNN.recipe, epochs=6, batch_size=100, precision="bf16")
    some = members(0.05, 0.1, loss="ce")
    found = train(replace(CNN, members=some, recipe=recipe), device=GPU)
    assert min(r.metrics["val_acc_clean"] for r in found) > 0.8


def test_a_parameter_can_be_read_from_any_arrangement() -> None:
    model = stack(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3)), 2).to(GPU)
    x = torch.randn(5, 1, 8, 8, device=GPU)
    found = {}
    for arrangement in ("folded", "wide", "apart"):
        model.arrangement = arrangement
        model.zero_grad()
        logits = model(x)
        logits.square().sum().backward()
        found[arrangement] = [logits, *(p.grad.clone() for p in model.parameters())]
    torch.testing.assert_close(found["wide"], found["folded"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["apart"], found["folded"], rtol=1e-4, atol=1e-4)
