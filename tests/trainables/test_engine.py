"""Optimisers, schedules, brackets, restarts and convolutional members against plain oracles."""

import copy
import io
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from trainables import losses, models
from trainables.engine.fixed_batches import fixed_batches
from trainables.engine.optimizers import clip, lr_factor, make_optimizer, norms
from trainables.engine.recorded_steps import RecordedSteps
from trainables.engine.runtime import has_bf16
from trainables.engine.step import TrainingStep
from trainables.engine.successive_halving import survivors
from trainables.engine.trainer import (
    STATE_VERSION,
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

CPU = torch.device("cpu")
CLOCKS = ("wall_s", "input_stall_share")
MLP = CohortSpec(
    data=DataSpec("digits"),
    model=ModelSpec("mlp", {"width": 16, "depth": 1}),
    recipe=Recipe(epochs=4, batch_size=128),
    members=[],
)
CNN = replace(
    MLP,
    data=DataSpec("digits", classes=2),
    model=ModelSpec("resnet20"),
    recipe=Recipe(epochs=1, batch_size=80),
)


def members(*lrs: float, **same: object) -> list[Member]:
    return [
        Member(f"n{i}", loss="mae", lr=lr, epsilon=0.5, init_seed=i, noise_seed=i, **same)
        for i, lr in enumerate(lrs)
    ]


def as_file(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def numbers(results: list[MemberResult]) -> dict[str, list[dict]]:
    return {
        r.network_id: [
            {k: v for k, v in epoch.to_row().items() if k not in CLOCKS} for epoch in r.epochs
        ]
        for r in results
    }


@pytest.mark.parametrize(
    ("recipe", "plain"),
    [
        ({"optimizer": "adamw"}, lambda p, lr, wd: torch.optim.AdamW(p, lr, weight_decay=wd)),
        (
            {"momentum": 0.8, "nesterov": True},
            lambda p, lr, wd: torch.optim.SGD(p, lr, 0.8, weight_decay=wd, nesterov=True),
        ),
        ({"momentum": 0.0}, lambda p, lr, wd: torch.optim.SGD(p, lr, weight_decay=wd)),
    ],
    ids=["adamw", "nesterov", "sgd"],
)
def test_each_members_updates_are_those_of_torch_optim(recipe: dict, plain: object) -> None:
    lrs, decays, l1 = [0.1, 0.01, 0.001], [0.0, 0.1, 0.5], [0.0, 0.0, 0.2]
    start = torch.randn(3, 4, 5, dtype=torch.float64)
    stacked = nn.Parameter(start.clone())
    ours = make_optimizer(
        Recipe(epochs=1, batch_size=1, **recipe),
        [stacked],
        torch.tensor(lrs, dtype=torch.float64),
        torch.tensor(decays, dtype=torch.float64),
        torch.tensor(l1, dtype=torch.float64),
    )
    alone = [nn.Parameter(s.clone()) for s in start]
    theirs = [plain([p], lr, wd) for p, lr, wd in zip(alone, lrs, decays, strict=True)]
    for _ in range(20):
        gradient = torch.randn_like(start)
        stacked.grad = gradient.clone()
        ours.step(1.0)
        for p, g, c, optimizer in zip(alone, gradient, l1, theirs, strict=True):
            p.grad = g + c * p.detach().sign()
            optimizer.step()
    torch.testing.assert_close(
        stacked.detach(), torch.stack(list(alone)).detach(), rtol=1e-12, atol=0
    )


def test_clipping_treats_each_member_separately() -> None:
    shapes, factors = [(3, 4), (5,)], [0.01, 1.0, 100.0]
    stacked = [nn.Parameter(torch.zeros(3, *shape)) for shape in shapes]
    for p in stacked:
        p.grad = torch.randn_like(p) * torch.tensor(factors).view(3, *[1] * (p.dim() - 1))
    alone = [[nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in factors]
    for k, parameters in enumerate(alone):
        for p, s in zip(parameters, stacked, strict=True):
            p.grad = s.grad[k].clone()
        nn.utils.clip_grad_norm_(parameters, 5.0)
    clip(stacked, 5.0)
    assert norms([p.grad for p in stacked])[2] == pytest.approx(5.0, rel=1e-4)
    for k, parameters in enumerate(alone):
        for p, s in zip(parameters, stacked, strict=True):
            torch.testing.assert_close(s.grad[k], p.grad)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"schedule": "constant"}, [1] * 10),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * i / 10)) / 2 for i in range(10)]),
        (
            {"schedule": "step", "milestones": [0.5, 0.8], "gamma": 0.1},
            [1] * 5 + [0.1] * 3 + [0.01] * 2,
        ),
        (
            {"schedule": "cosine", "warmup_epochs": 2},
            [1 / 5, 2 / 5, 3 / 5, 4 / 5, *[(1 + math.cos(math.pi * i / 6)) / 2 for i in range(6)]],
        ),
    ],
)
def test_schedules(recipe: dict, expected: list[float]) -> None:
    factors = [lr_factor(Recipe(5, 1, **recipe), i, 10, 2) for i in range(10)]
    assert factors == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.floats(0, 1)), min_size=1),
    st.floats(0.01, 1),
)
def test_survivors_are_the_best_of_their_bracket(candidates: list, keep: float) -> None:
    brackets, scores = zip(*candidates, strict=True)
    kept = survivors(brackets, scores, keep)
    assert kept == sorted(set(kept))
    for bracket in {b for b in brackets if b}:
        inside = [scores[k] for k in kept if brackets[k] == bracket]
        outside = [
            scores[k] for k in range(len(brackets)) if brackets[k] == bracket and k not in kept
        ]
        assert len(inside) >= 1
        assert len(inside) >= keep * (len(inside) + len(outside)) - 1e-6
        assert not outside or min(inside) >= max(outside)
    assert {k for k, b in enumerate(brackets) if b is None} <= set(kept)


def test_pruned_members_have_that_status_and_do_not_affect_the_others() -> None:
    candidates = members(0.001, 0.3, 0.1, 0.002, bracket="r")
    free = train(replace(MLP, members=[replace(m, bracket=None) for m in candidates]))
    pruned = train(replace(MLP, members=candidates, rungs=[Rung(1, 0.5), Rung(2, 0.5)]))
    status = [(r.metrics.status, r.metrics.epochs) for r in pruned]
    assert sorted(status) == [("complete", 4), ("pruned", 1), ("pruned", 1), ("pruned", 2)]
    at_first_rung = [r.epochs[0].val_acc_noisy for r in free]
    lost = [i for i, s in enumerate(status) if s == ("pruned", 1)]
    assert max(at_first_rung[i] for i in lost) <= min(
        a for i, a in enumerate(at_first_rung) if i not in lost
    )
    a, b = numbers(free), numbers(pruned)
    for network_id, rows in b.items():
        assert rows == a[network_id][: len(rows)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_restart_from_a_saved_state_ends_the_same(stop_after: int, optimizer: str) -> None:
    candidates = members(0.01, 0.02, 0.03, 0.04, bracket="r", weight_decay=0.01)
    spec = replace(
        MLP,
        members=candidates,
        rungs=[Rung(2, 0.5)],
        recipe=replace(MLP.recipe, optimizer=optimizer, epsilon_schedule="linear"),
    )
    files: list[bytes] = []
    whole = train(spec, save=lambda state: files.append(as_file(state())))
    epochs_left: list[bytes] = []
    resumed = train(
        spec,
        saved=torch.load(io.BytesIO(files[stop_after - 1])),
        save=lambda state: epochs_left.append(as_file(state())),
    )
    assert len(epochs_left) == spec.recipe.epochs - stop_after
    assert numbers(resumed) == numbers(whole)
    assert [r.metrics.status for r in resumed] == [r.metrics.status for r in whole]


@pytest.mark.parametrize("version", [None, STATE_VERSION - 1, STATE_VERSION + 1])
def test_a_state_of_another_version_is_ignored(
    version: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(MLP, members=members(0.01, 0.02))
    states: list[dict] = []
    whole = train(spec, save=lambda state: states.append(state()))
    other = {"finished": ["unknown"], "running": {"epoch": 3}}  # with keys of its time
    if version is not None:
        other["version"] = version
    epochs: list[None] = []
    resumed = train(spec, saved=other, save=lambda state: epochs.append(None))
    assert len(epochs) == spec.recipe.epochs  # all of them, from the beginning
    assert numbers(resumed) == numbers(whole)
    assert [f"has version {version};" in message for message in caplog.messages] == [True]
    assert states[0]["version"] == STATE_VERSION


def test_restart_of_members_that_train_one_after_the_other() -> None:
    spec = replace(CNN, members=members(0.1, 0.2), recipe=replace(CNN.recipe, epochs=2))
    files: list[bytes] = []
    whole = train(spec, save=lambda state: files.append(as_file(state())))
    assert len(files) == 4
    assert numbers(train(spec, saved=torch.load(io.BytesIO(files[2])))) == numbers(whole)
    assert {r.metrics.networks_in_cohort for r in whole} == {2}


def test_a_loss_that_reduces_is_refused() -> None:
    reduces = losses.Loss("reduces", lambda z, y: (z.sum(-1) - y).mean())
    spec = replace(MLP, members=[Member("a", loss="reduces", lr=0.1)])
    with losses.registered(reduces), pytest.raises(ValueError, match="must not reduce"):
        train(spec)


def test_convolutional_members_do_not_depend_on_neighbours_or_order() -> None:
    run = CohortRun(replace(CNN, members=members(0.1, 0.2, math.nan)), CPU, torch.float32)
    run.train_epoch()
    together = numbers(run.results())
    reordered = CohortRun(replace(CNN, members=members(0.1, 0.2)[::-1]), CPU, torch.float32)
    reordered.train_epoch()
    alone = numbers(train(replace(CNN, members=members(0.1, 0.2))))  # one by one on a CPU
    for network_id, rows in numbers(reordered.results()).items():
        assert rows == together[network_id] == alone[network_id]
    assert run.results()[2].metrics.status is Status.DIVERGED


@pytest.mark.parametrize("first", [nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(4)])
@pytest.mark.parametrize("arrangement", [Arrangement.GROUPED, Arrangement.STREAMS])
@pytest.mark.parametrize("is_shared", [True, False], ids=["shared inputs", "own inputs"])
def test_the_arrangements_compute_the_same(
    first: nn.Module, arrangement: Arrangement, is_shared: bool
) -> None:
    """Here on the CPU; test_gpu.py has the same on a GPU."""
    torch.manual_seed(0)
    channels = 6 if isinstance(first, nn.Conv2d) else 4
    layers = [
        copy.deepcopy(first),
        nn.Conv2d(channels, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
    ]
    layers += [nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False), nn.Flatten()]
    layers += [nn.LazyLinear(5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 3)]
    model, x = nn.Sequential(*layers), torch.randn(7, 4, 8, 8).double()
    model(x.float())  # the lazy layer's shape
    in_batch = stack(model.double(), members=3)
    with torch.no_grad():
        for parameter in in_batch.parameters():
            parameter.copy_(torch.randn_like(parameter))
    other = copy.deepcopy(in_batch)
    in_batch.arrangement, other.arrangement = Arrangement.BATCH, arrangement
    if not is_shared:
        x = torch.stack([x, x + 1, x.flip(0)])
    outcomes = []
    for stacked in (in_batch, other):
        logits = stacked(x, is_shared=is_shared)
        assert logits.shape == (3, 7, 3)
        logits.square().sum().backward()
        outcomes.append((logits, [p.grad for p in stacked.parameters()], list(stacked.buffers())))
        outcomes[-1] += (stacked.eval()(x, is_shared=is_shared),)
        if not is_shared:
            torch.testing.assert_close(outcomes[-1][-1][2], stacked(x[2])[2], rtol=1e-9, atol=1e-9)
    # A bias before a batch norm has gradient 0 up to rounding, hence `atol`.
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["cnn8", "resnet20", pytest.param("resnet18", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("arrangement", Arrangement)
@pytest.mark.parametrize("is_shared", [True, False], ids=["shared batches", "own batches"])
def test_convolutional_model_equals_its_plain_module(
    name: str, arrangement: Arrangement, is_shared: bool
) -> None:
    first, second = members(0.05, 0.1)
    both = [first if is_shared else replace(first, order_seed=1), second]
    spec = replace(CNN, model=ModelSpec(name, init="kaiming_glorot"), members=both)
    run = CohortRun(spec, CPU, torch.float64)
    run.model.arrangement = arrangement  # as on a GPU
    plain = models.build(name, (1, 8, 8), 2, {}).double()
    run.model.store_member(1, plain)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, 0.9)
    plain.train()
    run.model.train()
    for batch in list(run.data.epoch(1, 24))[:2]:
        assert batch.is_shared == is_shared
        y = batch.noisy
        logits = run.model(batch.inputs, is_shared=is_shared)
        losses = run.losses(logits, y, run.losses.bias(1.0, batch.examples)).loss
        losses.mean(1).sum().backward()
        x = batch.inputs if is_shared else batch.inputs[1]
        biased = plain(x) + 0.5 * nn.functional.one_hot(y[1], 2)
        loss = (1 - biased.softmax(-1).gather(1, y[1, :, None])).mean()
        torch.testing.assert_close(losses[1].mean(), loss, rtol=1e-9, atol=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.optimizer.step(1.0)
    plain.eval()
    run.model.eval()
    x = run.data.val_inputs(slice(0, 20))
    torch.testing.assert_close(run.model(x)[1], plain(x), rtol=1e-8, atol=1e-8)


def test_epsilon_schedule_changes_training_only_where_there_is_a_bias() -> None:
    two = [
        Member("plain", loss="ce", lr=0.1, init_seed=1),
        Member("biased", loss="mae", lr=0.1, epsilon=2.0, init_seed=1),
    ]
    constant = numbers(train(replace(MLP, members=two)))
    annealed = numbers(
        train(replace(MLP, members=two, recipe=replace(MLP.recipe, epsilon_schedule="cosine")))
    )
    assert constant["plain"] == annealed["plain"]
    assert constant["biased"] != annealed["biased"]


@pytest.mark.skipif(not has_bf16("cpu"), reason="this processor does not compute bf16")
def test_mixed_precision_trains_and_stays_near_float32() -> None:
    runs = {
        p: train(replace(MLP, members=members(0.3), recipe=replace(MLP.recipe, precision=p)))[0]
        for p in ("float32", "bf16")
    }
    losses = [r.epochs[0].train_loss for r in runs.values()]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_augmentation_is_seeded_and_spares_validation() -> None:
    spec = replace(MLP, members=members(0.1), recipe=replace(MLP.recipe, augment={"crop": 1}))
    assert numbers(train(spec)) == numbers(train(spec))
    assert numbers(train(spec)) != numbers(train(replace(spec, recipe=MLP.recipe)))
    other = replace(spec, members=members(0.1, order_seed=1))
    assert numbers(train(spec)) != numbers(train(other))
    # Each member of a cohort with two orders has the augmentation of its own.
    both = replace(other, members=[*spec.members, replace(other.members[0], network_id="other")])
    of_both = numbers(train(both))
    assert of_both["n0"] == numbers(train(spec))["n0"]
    without_id = [[{**e, "network_id": ""} for e in epochs] for epochs in of_both.values()]
    assert without_id[1] == [{**e, "network_id": ""} for e in numbers(train(other))["n0"]]


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("cannot compile the backward pass\nmore")


@pytest.mark.parametrize("when", ["never", "forward", "backward"])
def test_training_continues_where_compiling_fails(
    when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiling(function, **options):
        def compiled(*arguments):
            if when == "forward":
                raise RuntimeError("no C compiler\nmore")
            logits = function(*arguments)
            return _FailsBackward.apply(logits) if when == "backward" else logits

        return compiled

    monkeypatch.setattr(torch, "compile", compiling)
    spec = replace(CNN, members=members(0.1, 0.2))
    runs = [CohortRun(spec, CPU, torch.float64) for _ in range(2)]
    for run in runs:
        run.model.arrangement = Arrangement.STREAMS
    runs[0].model.compiles = True
    for run in runs:
        run.train_epoch()
    assert runs[0].history[0][0].train_loss == runs[1].history[0][0].train_loss
    reasons = {
        "never": [],
        "forward": ["no C compiler"],
        "backward": ["cannot compile the backward pass"],
    }[when]
    start = "torch.compile failed; training goes on without it: "
    assert caplog.messages == [start + reason for reason in reasons]
    assert runs[0].model.compiles is (when == "never")


def test_a_frozen_parameter_is_not_trained_and_an_unused_one_is_named() -> None:
    model = ModelSpec("tests_support:Partly")
    run = CohortRun(replace(MLP, model=model, members=members(0.1, 0.2)), CPU, torch.float32)
    before = {name: p.clone() for name, p in run.model.network.named_parameters()}
    run.train_epoch()
    changed = {
        name: not torch.equal(p, before[name]) for name, p in run.model.network.named_parameters()
    }
    assert changed == {"1.weight": False, "1.bias": False, "3.weight": True, "3.bias": True}
    spare = replace(model, options={"spare": True})
    with pytest.raises(ValueError, match=r"parameter of shape \(5, 2\) takes no part"):
        train(replace(MLP, model=spare, members=members(0.1)))


def test_a_running_statistic_that_is_not_finite_ends_a_network() -> None:
    run = CohortRun(replace(CNN, members=members(0.1, 0.2)), CPU, torch.float32)
    run.model.network.stem.norm.running_var[1, 3] = torch.inf
    run.train_epoch()
    assert [r.metrics.status for r in run.results()] == [Status.COMPLETE, Status.DIVERGED]


def as_on_a_gpu(run: CohortRun) -> RecordedSteps:
    step = TrainingStep(run.model, run.losses, run.optimizer, run.spec.recipe, run.dtype)
    size = run.spec.recipe.batch_size
    return RecordedSteps(step, fixed_batches(run.data, size), run.data.sizes(size))


def assert_same_training(one: CohortRun, other: CohortRun) -> None:
    for run in (one, other):
        while not run.is_done:
            run.train_epoch()
    results, expected_results = numbers(one.results()), numbers(other.results())
    for name, rows in expected_results.items():
        for row, expected in zip(results[name], rows, strict=True):
            assert row == {
                k: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v
                for k, v in expected.items()
            }


@pytest.mark.parametrize("orders", [1, 2])
@pytest.mark.parametrize("augment", [{}, {"crop": 1, "flip": True, "rotation": 5, "cutout": 3}])
def test_fixed_batches_are_the_batches(
    orders: int, augment: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's way to its batches, numbers and results, here on the CPU and without graphs."""
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    monkeypatch.setattr(RecordedSteps, "_record", lambda *arguments: None)
    three = [replace(m, order_seed=i % orders) for i, m in enumerate(members(0.01, 0.02, 0.03))]
    recipe = replace(MLP.recipe, augment=augment, epsilon_schedule="linear", batch_size=100)
    spec = replace(MLP, recipe=recipe)
    runs = [CohortRun(replace(spec, members=three), CPU, torch.float64) for _ in range(2)]
    runs[0]._steps = as_on_a_gpu(runs[0])
    assert_same_training(*runs)


def test_fixed_batches_from_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    monkeypatch.setattr(RecordedSteps, "_record", lambda *arguments: None)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = tmp_path / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    recipe = replace(MLP.recipe, batch_size=20, augment={"flip": True}, epochs=2)
    spec = replace(MLP, data=DataSpec(f"{tmp_path}/", options={"size": 8}), recipe=recipe)
    runs = [
        CohortRun(replace(spec, members=members(0.01, 0.02)), CPU, torch.float64) for _ in range(2)
    ]
    assert not runs[0].data.is_in_memory
    runs[0]._steps = as_on_a_gpu(runs[0])
    assert_same_training(*runs)
    assert runs[0].data.stall_share > 0


@pytest.mark.filterwarnings("ignore:called a synchronizing")
def test_a_step_that_cannot_be_recorded_is_the_plain_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a GPU without a CUDA graph, here on the CPU; with graphs: test_gpu.py."""
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    waits = losses.Loss("waits", _waits)
    recipe = replace(MLP.recipe, optimizer="adamw", epsilon_schedule="linear")
    waiting = [replace(m, loss="waits") for m in members(0.01, 0.02)]
    with losses.registered(waits):
        runs = [
            CohortRun(replace(MLP, recipe=recipe, members=waiting), CPU, torch.float64)
            for _ in range(2)
        ]
        runs[0]._steps = as_on_a_gpu(runs[0])
        assert_same_training(*runs)
    assert ["it makes the host wait" in message for message in caplog.messages] == [True]


def _waits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # torch's words
    return losses.get("ce").function(logits, labels)
