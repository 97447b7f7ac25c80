"""`Criterion` as a module: precision, state, copies, compiling, several processes, a GPU."""

import copy
import io
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from criterion_support import (
    CLASSES,
    HARD_ONLY,
    LABELS,
    LOGITS,
    soft_labels,
    value_and_gradient,
    weights,
)
from torch import nn

from trainables import losses
from trainables.losses import Criterion


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_single_precision(low):
    logits = LOGITS.to(low)
    single = Criterion("mae", classes=CLASSES)(logits.float(), LABELS)
    assert single.dtype == torch.float32
    criterion = Criterion("mae", classes=CLASSES).to(low)
    assert torch.equal(criterion(logits, LABELS), single)
    leaf = logits.clone().requires_grad_()
    criterion(leaf, LABELS).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == low


def test_autocast():
    criterion = Criterion("tests_support:by_matrix_product", epsilon=1.0)
    single = criterion(LOGITS, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.mm(LOGITS, LOGITS.T).dtype == torch.bfloat16
        under_autocast = criterion(LOGITS, LABELS)
    assert torch.equal(under_autocast, single)


def test_schedule_multiplies_epsilon():
    criterion = Criterion("gce", classes=CLASSES, epsilon=2.0, schedule="linear", steps=4)
    for done in range(6):
        epsilon = 2.0 * (1.0 - min(done, 4) / 4)
        assert criterion.epsilon == epsilon
        expected = losses.evaluate(losses.get("gce"), LOGITS, LABELS, epsilon, q=0.7).mean()
        assert torch.equal(criterion(LOGITS, LABELS), expected)
        criterion.step()
    constant = Criterion("mae", classes=CLASSES)
    constant.step()
    assert constant.epsilon == constant.initial_epsilon


def scheduled() -> Criterion:
    criterion = Criterion("mae", classes=CLASSES, schedule="cosine", steps=10, weight=weights())
    for _ in range(3):
        criterion.step()
    return criterion


def through_torch_save(criterion: Criterion) -> Criterion:
    file = io.BytesIO()
    torch.save(criterion, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    assert isinstance(copied, Criterion)
    return copied


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c)), through_torch_save],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies(duplicate):
    criterion = scheduled()
    copied = duplicate(criterion)
    assert repr(copied) == repr(criterion)
    assert torch.equal(copied(LOGITS, LABELS), criterion(LOGITS, LABELS))
    copied.step()
    assert copied.epsilon < criterion.epsilon
    for name in losses.names():
        duplicate(Criterion(name, classes=CLASSES))


def test_state_dict():
    # As that of CrossEntropyLoss, so that a checkpoint fits after the loss is exchanged.
    plain = Criterion("mae", classes=CLASSES, weight=weights())
    assert not Criterion("mae", classes=CLASSES).state_dict()
    plain.load_state_dict(nn.CrossEntropyLoss(weight=2 * weights()).state_dict())
    assert torch.equal(plain.weight, 2 * weights())
    criterion = scheduled()
    resumed = Criterion("mae", classes=CLASSES, schedule="cosine", steps=10, weight=[1.0] * CLASSES)
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.epsilon == criterion.epsilon < criterion.initial_epsilon
    assert torch.equal(resumed(LOGITS, LABELS), criterion(LOGITS, LABELS))


def test_conversions_leave_epsilon_alone():
    criterion = scheduled()
    before = criterion.epsilon
    assert not list(criterion.parameters())
    for converted in (criterion.half(), criterion.double(), criterion.to("cpu")):
        assert converted.epsilon == before
    assert criterion.weight is not None
    assert criterion.to("meta").weight.device.type == "meta"


def test_repr():
    criterion = Criterion("gce", classes=1000, params={"q": "gradient"}, weight=[1.0] * 1000)
    assert repr(criterion) == (
        "Criterion('gce', classes=1000, epsilon=0, q=0.2572 (rule gradient), weight=…, "
        "reduction='mean')"
    )
    assert "(schedule): SchedulePosition('cosine', 3 of 10 steps)" in repr(scheduled())


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["mae", "nce_agce", "bi_tempered", "ldr_kl", "js", "logit_clip"])
def test_compiles_into_one_graph(name, backend):
    torch.compiler.reset()
    criterion = Criterion(name, classes=CLASSES, weight=weights())
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    (value, gradient), expected = (
        value_and_gradient(c, LOGITS, LABELS) for c in (compiled, criterion)
    )
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", losses.names())
def test_every_loss_compiles_into_one_graph(name):
    for labels in (LABELS, soft_labels((16, CLASSES))):
        if labels.ndim == 2 and name in HARD_ONLY:
            continue
        torch.compiler.reset()
        criterion = Criterion(name, classes=CLASSES)
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        pairs = [value_and_gradient(c, LOGITS, labels) for c in (compiled, criterion)]
        for ours, expected in zip(*pairs, strict=True):
            torch.testing.assert_close(ours, expected)


def test_a_schedule_needs_no_new_graph():
    torch.compiler.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    criterion = Criterion("mae", classes=CLASSES, schedule="linear", steps=20)
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    for _ in range(22):
        torch.testing.assert_close(compiled(LOGITS, LABELS), criterion(LOGITS, LABELS))
        criterion.step()
    assert len(graphs) == 1


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_losses_imports_no_criterion():
    modules = "[m for m in sys.modules if m.startswith(('trainables', 'scipy'))]"
    before = in_a_new_process(f"import sys, trainables.losses; print({modules})")
    assert "criterion" not in before
    assert "theory" not in before
    assert "scipy" not in before
    after = f"import sys; from trainables.losses import Criterion; print({modules})"
    assert "trainables.theory" in in_a_new_process(after)


def test_without_torch_the_criterion_says_what_is_missing():
    code = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Hide())
from trainables import losses
from trainables.errors import MissingExtraError
try:
    losses.Criterion
except MissingExtraError as error:
    print(error)
"""
    assert in_a_new_process(code).endswith("pip install 'logit-bias-study[train]'\n")


DDP = """
import os, sys, tempfile
import torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from trainables.losses import Criterion

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)

class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 7)
        self.criterion = Criterion("mae", 7, schedule="linear", steps=8, weight=torch.ones(7))
    def forward(self, x, y):
        return self.criterion(self.layer(x), y)

torch.manual_seed(1)
x, y = torch.randn(8, 5), torch.arange(8) % 7
alone, half = WithLoss(), slice(4 * rank, 4 * rank + 4)
network = DistributedDataParallel(WithLoss())
for model, inputs, labels in ((alone, x, y), (network, x[half], y[half])):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs, labels).backward()
        optimizer.step()
        (model.module if model is network else model).criterion.step()
torch.testing.assert_close(network.module.layer.weight, alone.layer.weight)
assert network.module.criterion.epsilon == alone.criterion.epsilon > 0
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_ddp_trains_as_one_process(tmp_path):
    command = [sys.executable, "-c", DDP]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", losses.names())
def test_on_a_gpu(name):
    criterion = Criterion(name, CLASSES, schedule="linear", steps=9, weight=weights())
    criterion.step()
    moved = copy.deepcopy(criterion).to("cuda")
    logits, labels = LOGITS.cuda(), LABELS.cuda()
    expected = value_and_gradient(criterion, LOGITS, LABELS)
    for ours, reference in zip(value_and_gradient(moved, logits, labels), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), reference)
    with torch.autocast("cuda", torch.float16):
        torch.testing.assert_close(
            moved(logits.half(), labels), moved(logits.half().float(), labels)
        )
    torch.cuda.set_sync_debug_mode("error")  # the host never waits for the device
    try:
        moved(logits, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.compiler.reset()
    compiled = torch.compile(moved, fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(logits, labels), moved(logits, labels))
        moved.step()
