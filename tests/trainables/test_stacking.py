"""Stacking takes any module apart and puts it together again, or says why it cannot."""

import pytest
import torch
from torch import nn

from trainables import models
from trainables.stacking import UnsupportedLayerError, stack
from trainables.stacking.compiling import Compiled
from trainables.stacking.trial import computes_the_same_wide


class Residual(nn.Module):
    """Between its layers a module may do as it likes with an ordinary batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8, bias=False)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x.flatten(1)).relu()
        return self.last(torch.cat([h, h + self.second(h).tanh()], dim=1))


@pytest.mark.parametrize("members", [1, 3])
def test_each_member_equals_its_own_module(members: int) -> None:
    networks = [Residual().double() for _ in range(members)]
    stacked = stack(networks[0], members)
    for k, network in enumerate(networks):
        stacked.load_member(k, network)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    logits = stacked(x)
    assert logits.shape == (members, 5, 3)
    for k, network in enumerate(networks):
        torch.testing.assert_close(logits[k], network(x), rtol=1e-12, atol=1e-12)


class Tapped(nn.Sequential):
    """What comes before a ReLU is used once more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self[1](self[0](x))
        return self[3](self[2](before)) + before[:, :3]


@pytest.mark.parametrize("kind", [nn.Sequential, Tapped])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_relu_before_a_linear_layer(kind: type[nn.Sequential], inplace: bool) -> None:
    if kind is Tapped and inplace:
        pytest.skip("plain PyTorch does not allow it either: the tapped values would be gone")
    layers = [nn.Flatten(), nn.Linear(6, 8), nn.ReLU(inplace), nn.Linear(8, 3)]
    if kind is nn.Sequential:
        layers = [nn.Flatten(), nn.ReLU(inplace), *layers[1:], nn.ReLU(inplace), nn.Linear(3, 3)]
    network = kind(*layers).double()
    stacked = stack(network, 2)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    stacked.load_member(1, network)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    logits, expected = stacked(mine * 1)[1], network(theirs * 1)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    logits.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    for both, one in zip(stacked.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(both.grad[1], one.grad, rtol=1e-12, atol=1e-12)
        assert not both.grad[0].any()


def test_a_layer_that_comes_twice_keeps_its_places() -> None:
    twice = nn.Hardswish()
    network = nn.Sequential(twice, nn.Linear(6, 8), nn.ReLU(), twice, nn.Linear(8, 3)).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(stack(network, 2)(x)[1], network(x), rtol=1e-12, atol=1e-12)


def test_a_member_can_be_taken_out() -> None:
    networks = [Residual() for _ in range(3)]
    stacked = stack(networks[0], 3)
    stacked.load_member(2, networks[1])
    taken = Residual()
    stacked.store_member(2, taken)
    for a, b in zip(taken.parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_template_is_left_alone() -> None:
    network = Residual()
    stack(network, 2)
    assert type(network.first) is nn.Linear


def test_a_layer_without_a_twin_is_named() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"layer 1 \(LSTM\)"):
        stack(nn.Sequential(nn.Flatten(), nn.LSTM(4, 4)), 2)


@pytest.mark.parametrize("name", ["cnn8", "resnet20", "resnet18"])
def test_our_convolutional_models_can_lie_wide(name: str) -> None:
    model = stack(models.build(name, (3, 8, 8), 5, {}), 3)
    assert computes_the_same_wide(model, torch.Size((7, 3, 8, 8)))


class Channels(nn.Module):
    """Does something with channels by itself; `how` has channels second in, features out."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear({"joins": 8}.get(how, 4), 3)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        if self.how == "joins":
            h = torch.cat([h, h.tanh()], dim=1)
        elif self.how == "averages":
            h = h - h.mean(1, keepdim=True)
        elif self.how == "counts":
            h = h.reshape(len(h), 4, -1, 1)
        return self.last(h.mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "can"), [("joins", False), ("averages", False), ("counts", False), ("nothing", True)]
)
def test_a_model_that_would_mix_its_members_up_is_found(
    how: str, can: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert computes_the_same_wide(stack(Channels(how), 3), torch.Size((7, 1, 6, 6))) is can
    assert ["channels by itself" in message for message in caplog.messages] == [True] * (not can)


def test_where_compiling_fails_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(function: object, **options: object) -> object:
        def compiled(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C compiler\nmore")

        return compiled

    monkeypatch.setattr(torch, "compile", fails)
    double = Compiled(lambda x: 2 * x)
    assert double(torch.ones(3)).tolist() == double(torch.ones(3)).tolist() == [2.0] * 3
    assert caplog.messages == ["torch.compile failed; training goes on without it: no C compiler"]


def test_only_the_first_batch_size_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each other size would take as long to compile again."""
    sizes = []
    monkeypatch.setattr(
        torch, "compile", lambda function, **_: lambda x: (sizes.append(len(x)), function(x))[1]
    )
    double = Compiled(lambda x: 2 * x)
    for size in (4, 3, 4):
        assert double(torch.ones(size)).tolist() == [2.0] * size
    assert sizes == [4, 4]
