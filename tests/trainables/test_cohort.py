"""A member trains as in a plain loop, independently of its neighbours."""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trainables import datasets, models, noise
from trainables.engine.cohort_losses import CohortLosses
from trainables.engine.trainer import (
    CohortRun,
    CohortSpec,
    DataSpec,
    Member,
    MemberResult,
    ModelSpec,
    Recipe,
    State,
    train,
)
from trainables.seeds import derive
from trainables.stacking import matmul
from trainables.status import Status

SPEC = CohortSpec(
    data=DataSpec("digits"),
    model=ModelSpec("mlp", {"width": 24, "depth": 2}),
    recipe=Recipe(epochs=2, batch_size=100),
    members=[],
)


def member(i: int, **changes: object) -> Member:
    loss = ("mae", "ce", "gce")[i % 3]
    plain = Member(
        network_id=f"n{i}",
        loss=loss,
        lr=0.05 * (1 + i % 4),
        epsilon=0.0 if loss == "ce" else 0.5 * (i % 5),
        weight_decay=1e-3 * (i % 2),
        noise_rate=0.2 * (i % 3),
        noise_seed=i,
        init_seed=100 + i,
        order_seed=3 + i % 3,
    )
    return replace(plain, **changes)


def trained(
    members: list[Member], spec: CohortSpec = SPEC, **options: object
) -> dict[str, MemberResult]:
    results = train(replace(spec, members=members), **options)
    assert [r.network_id for r in results] == [m.network_id for m in members]
    return {r.network_id: r for r in results}


def numbers(result: MemberResult) -> list[dict[str, object]]:
    return [{k: v for k, v in epoch.to_row().items() if k != "wall_s"} for epoch in result.epochs]


@pytest.fixture(scope="module", params=matmul.LIBRARIES, autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs with each library that may multiply matrices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(matmul.VARIABLE, request.param)
        matmul.library.cache_clear()
        yield
    matmul.library.cache_clear()


@pytest.fixture(scope="module")
def sixteen(library: None) -> dict[str, MemberResult]:
    torch.set_num_threads(1)
    return trained([member(i) for i in range(16)])


@pytest.mark.parametrize("i", [0, 1, 2, 7])
def test_alone_or_among_sixteen_is_bitwise_the_same(
    i: int, sixteen: dict[str, MemberResult]
) -> None:
    alone = trained([member(i)])[f"n{i}"]
    assert numbers(alone) == numbers(sixteen[f"n{i}"])


def test_order_of_members_does_not_matter(sixteen: dict[str, MemberResult]) -> None:
    shuffled = trained([member(i) for i in (5, 11, 0, 3, 8)])
    for network_id, result in shuffled.items():
        assert numbers(result) == numbers(sixteen[network_id])


def test_own_batches_or_shared_batches_are_bitwise_the_same(
    sixteen: dict[str, MemberResult],
) -> None:
    shared = trained([member(i) for i in (3, 9, 0, 12)])
    for network_id, result in shared.items():
        assert numbers(result) == numbers(sixteen[network_id])


@pytest.mark.parametrize("loss", ["ce", "mae", "gce"])
def test_a_diverged_member_has_floor_accuracy_and_affects_no_other(
    loss: str, sixteen: dict[str, MemberResult]
) -> None:
    results = trained(
        [member(0), member(1), member(9, loss=loss, lr=1e6, network_id="bad"), member(2)]
    )
    bad = results.pop("bad").metrics
    assert bad.status is Status.DIVERGED
    for name in ("train_acc_noisy", "val_acc_noisy", "val_acc_clean", "best_val_acc_noisy"):
        assert getattr(bad, name) == pytest.approx(0.1)
    for network_id, result in results.items():
        assert result.metrics.status is Status.COMPLETE
        assert numbers(result) == numbers(sixteen[network_id])


def test_nan_in_one_member_stays_there(sixteen: dict[str, MemberResult]) -> None:
    results = trained([member(0), member(1, lr=math.nan, network_id="nan"), member(2)])
    assert results["nan"].metrics.status is Status.DIVERGED
    assert numbers(results["n0"]) == numbers(sixteen["n0"])
    assert numbers(results["n2"]) == numbers(sixteen["n2"])


@pytest.mark.parametrize("distance", [1, 3], ids=["own batches", "shared batches"])
@pytest.mark.parametrize("i", range(3))
def test_equals_a_plain_pytorch_loop_in_float64(i: int, distance: int) -> None:
    m = member(i)
    neighbours = [member(i + distance), m, member(i + 2 * distance)]
    ours = trained(neighbours, dtype=torch.float64)[m.network_id]
    plain = plain_loop(m, SPEC)
    assert [epoch.train_loss for epoch in ours.epochs] == pytest.approx(
        plain["train_loss"], rel=1e-8
    )
    assert [epoch.val_acc_noisy for epoch in ours.epochs] == plain["val_acc_noisy"]
    assert [epoch.grad_norm for epoch in ours.epochs] == pytest.approx(plain["grad_norm"], rel=1e-8)


def plain_loop(m: Member, spec: CohortSpec) -> dict[str, list[float]]:
    """The same network as anybody would write it, from the textbook definitions of its loss."""
    data = datasets.load(spec.data.name)

    def inputs(x: np.ndarray) -> torch.Tensor:
        mean, std = torch.as_tensor(data.mean).double(), torch.as_tensor(data.std).double()
        return (torch.tensor(x).double() - mean) / std

    def labels(y: np.ndarray, split: str) -> torch.Tensor:
        seed = derive(m.noise_seed, split)
        return torch.tensor(noise.corrupt(y, 10, m.noise_kind, m.noise_rate, seed).labels)

    x, y = inputs(data.train_x), labels(data.train_y, "train")
    val_x, val_y = inputs(data.val_x), labels(data.val_y, "val")
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10)
    )
    models.initialise(net, torch.Generator().manual_seed(m.init_seed))
    net.double()
    steps = math.ceil(len(x) / spec.recipe.batch_size)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=m.lr, momentum=0.9, weight_decay=m.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * spec.recipe.epochs)
    curves: dict[str, list[float]] = {"train_loss": [], "val_acc_noisy": [], "grad_norm": []}
    for epoch in range(1, spec.recipe.epochs + 1):
        generator = torch.Generator().manual_seed(derive(m.order_seed, "order", epoch))
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).split(spec.recipe.batch_size):
            logits = net(x[batch])
            biased = logits + m.epsilon * nn.functional.one_hot(y[batch], 10)
            p = biased.softmax(-1)[torch.arange(len(batch)), y[batch]]
            loss = {"ce": -p.log(), "mae": 1 - p, "gce": (1 - p**0.7) / 0.7}[m.loss]
            optimiser.zero_grad()
            loss.mean().backward()
            norm = torch.cat([q.grad.flatten() for q in net.parameters()]).norm().item()
            optimiser.step()
            schedule.step()
            total += loss.sum().item()
        curves["train_loss"].append(total / len(x))
        curves["grad_norm"].append(norm)
        with torch.no_grad():
            right = net(val_x).argmax(-1) == val_y
        curves["val_acc_noisy"].append(right.double().mean().item())
    return curves


def test_members_of_a_replicate_are_paired() -> None:
    """Same seeds and different ε: same noise and same initial network, so only ε differs."""
    a, b = (member(0, epsilon=e, noise_rate=0.4, network_id=f"e{e}") for e in (0.0, 2.0))
    results = trained([a, b])
    ma, mb = results["e0.0"].metrics, results["e2.0"].metrics
    assert ma.noise_rate_realised == mb.noise_rate_realised
    assert ma.logit_std_init == mb.logit_std_init
    other = trained([replace(a, noise_seed=77)])["e0.0"].metrics
    assert other.noise_rate_realised != ma.noise_rate_realised


def test_positive_epsilon_lets_mae_learn_many_classes() -> None:
    """The paper's effect; with the wrong sign of ε it would be reversed."""
    spec = replace(
        SPEC,
        data=DataSpec("digit-pairs"),
        model=ModelSpec("mlp", {"width": 64, "depth": 2}),
        recipe=Recipe(epochs=3, batch_size=128),
    )
    members = [Member(f"{e}", loss="mae", lr=0.5, epsilon=e, init_seed=1) for e in (-3.0, 0.0, 3.0)]
    worse, none, better = (r.metrics.val_acc_clean for r in trained(members, spec).values())
    assert better > 0.5
    assert none < 0.2
    assert worse < none


class Poison:
    """Replaces test examples that must not be read."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"the test set was read: {name}")


def test_the_test_set_is_read_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned = replace(SPEC, members=[member(0)])
    whole = datasets.load("digits")
    with monkeypatch.context() as patched:
        without = replace(whole, test_x=Poison(), test_y=Poison())
        patched.setattr(datasets, "load", lambda *_, **__: without)
        result = train(poisoned)[0]
        with pytest.raises(AssertionError, match="the test set was read"):
            train(replace(poisoned, reads_test=True))
    assert result.metrics.test_acc is None
    assert all(epoch.test_acc is None for epoch in result.epochs)
    read = train(replace(poisoned, reads_test=True))[0]
    assert 0 <= read.metrics.test_acc <= 1
    assert [e.val_acc_noisy for e in read.epochs] == [e.val_acc_noisy for e in result.epochs]


def test_the_answers_to_each_test_example_are_packed_bits() -> None:
    """Those of the last epoch, in the order of the examples; none where the network diverged."""
    members = [member(0), member(3), member(1, lr=1e6, network_id="diverged")]
    spec = replace(SPEC, members=members, reads_test=True)
    results = train(spec)
    data = datasets.load("digits")
    examples = len(data.test_y)
    for result in results[:2]:
        bits = np.frombuffer(result.metrics.test_correct, np.uint8)
        assert len(bits) == -(-examples // 8)
        right = np.unpackbits(bits, count=examples)
        assert right.sum() / examples == result.metrics.test_acc
    assert results[2].metrics.status == Status.DIVERGED
    assert results[2].metrics.test_correct is None
    assert train(replace(spec, reads_test=False))[0].metrics.test_correct is None
    # Against the network itself.
    run = CohortRun(spec, torch.device("cpu"), torch.float32)
    while not run.is_done:
        run.train_epoch()
    with torch.no_grad():
        logits = run.model(torch.from_numpy(data.normalise(data.test_x)))
    position = [m.network_id for m in run.members].index(members[0].network_id)
    expected = np.packbits(logits[position].numpy().argmax(-1) == data.test_y).tobytes()
    assert results[0].metrics.test_correct == expected


def test_the_answers_survive_a_checkpoint_of_the_last_epoch() -> None:
    spec = replace(SPEC, members=[member(0), member(3)], reads_test=True)
    files: list[bytes] = []

    def save(state: Callable[[], State]) -> None:
        content = io.BytesIO()
        torch.save(state(), content)
        files.append(content.getvalue())

    whole = train(spec, save=save)
    for content in files:
        saved = torch.load(io.BytesIO(content), weights_only=True)
        resumed = train(spec, saved=saved)
        assert [r.metrics.test_correct for r in resumed] == [r.metrics.test_correct for r in whole]
    for result in whole:
        content = io.BytesIO()
        torch.save(result.to_state(), content)
        content.seek(0)
        assert MemberResult.from_state(torch.load(content, weights_only=True)) == result


def test_test_labels_stay_clean_and_validation_labels_are_noisy() -> None:
    metrics = trained(
        [member(1, noise_rate=0.6, lr=0.1, network_id="x")],
        replace(SPEC, reads_test=True, recipe=Recipe(epochs=6, batch_size=50)),
    )["x"].metrics
    assert metrics.noise_rate_realised == pytest.approx(0.6, abs=0.05)
    assert metrics.val_acc_clean > 0.7
    assert metrics.test_acc > 0.7
    assert metrics.val_acc_noisy < 0.5


def test_largest_delta_of_mae_is_a_quarter_and_of_ce_is_one() -> None:
    members = [Member("a", "ce", 0.1), Member("b", "mae", 0.1, loss_params={"scale": 2.0})]
    largest_delta = CohortLosses(members, 7, torch.device("cpu"), torch.float64).largest_delta
    assert largest_delta.tolist() == pytest.approx([1.0, 0.5], rel=1e-3)


def test_a_rescaled_member_trains_with_the_rescaled_loss() -> None:
    """One step of plain SGD against autograd of the textbook formula; neighbours are unaffected."""
    scale = 0.4
    m = member(0, epsilon=0.0, network_id="rescaled", rescale=scale)
    spec = replace(SPEC, recipe=Recipe(epochs=1, batch_size=2000, momentum=0.0))
    results = trained([member(3), m, member(6)], spec, dtype=torch.float64)
    alone = trained([member(3), member(6)], spec, dtype=torch.float64)
    assert numbers(results["n3"]) == numbers(alone["n3"])
    data = datasets.load("digits")
    x = torch.from_numpy(data.normalise(data.train_x)).double().flatten(1)
    y = torch.tensor(data.train_y)
    net = models.build("mlp", data.input_shape, 10, {"width": 24, "depth": 2})
    models.initialise(net, torch.Generator().manual_seed(m.init_seed))
    z = net.double()(x.view(-1, *data.input_shape))
    others = z.masked_fill(nn.functional.one_hot(y, 10).bool(), -math.inf).logsumexp(-1)
    odds = z.gather(1, y[:, None]).squeeze(1) - others
    loss = ((1 - torch.sigmoid(scale * odds)) / scale).mean()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()
    epoch = results["rescaled"].epochs[0]
    assert epoch.train_loss == pytest.approx(loss.item(), rel=1e-6)
    assert epoch.grad_norm == pytest.approx(norm, rel=1e-6)


def test_deterministic_algorithms_are_switched_on_while_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    original = CohortRun.train_epoch
    monkeypatch.setattr(
        CohortRun,
        "train_epoch",
        lambda run: (seen.append(torch.are_deterministic_algorithms_enabled()), original(run))[1],
    )
    recipe = replace(SPEC.recipe, deterministic=True)
    deterministic = trained([member(1)], replace(SPEC, recipe=recipe))["n1"]
    usual = trained([member(1)])["n1"]
    assert seen == [True, True, False, False]
    assert numbers(deterministic) == numbers(usual)
