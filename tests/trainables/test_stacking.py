"""Stacking replaces the layers of any module, or names the layer that it cannot replace."""

import copy

import pytest
import torch
from torch import nn

from trainables import models
from trainables.stacking import STACKED_LAYERS, Arrangement, UnsupportedLayerError, stack, stacks
from trainables.stacking.arrangements import fastest_arrangement
from trainables.stacking.compiling import Compiled
from trainables.stacking.layout import Layout, stacked_parameter
from trainables.stacking.verification import check_stacking, why_not_grouped


class Residual(nn.Module):
    """Between its layers a module may compute anything on an ordinary batch."""

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
    """The input of a ReLU is used a second time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self[1](self[0](x))
        return self[3](self[2](before)) + before[:, :3]


@pytest.mark.parametrize("kind", [nn.Sequential, Tapped])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_relu_before_a_linear_layer(kind: type[nn.Sequential], inplace: bool) -> None:
    if kind is Tapped and inplace:
        pytest.skip(
            "plain PyTorch does not allow it either: the tapped values would be overwritten"
        )
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
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    logits, expected = stacked(ours * 1)[1], network(theirs * 1)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    logits.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    for both, one in zip(stacked.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(both.grad[1], one.grad, rtol=1e-12, atol=1e-12)
        assert not both.grad[0].any()


def test_a_layer_that_occurs_twice_keeps_both_places() -> None:
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


@pytest.mark.parametrize("arrangement", Arrangement)
def test_filters_can_be_stored_channels_last(arrangement: Arrangement) -> None:
    usual = stack(models.build("resnet20", (3, 8, 8), 5, {}), 2).double()
    reordered = copy.deepcopy(usual)
    reordered.store_filters_channels_last()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    outcomes = []
    for model in (usual, reordered, reordered.select([0, 1])):
        model.arrangement = arrangement
        logits = model(x)
        outcomes.append([logits, *torch.autograd.grad(logits.square().sum(), model.parameters())])
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome, outcomes[0], rtol=1e-12, atol=1e-12)
    moved = [p for p in reordered.parameters() if not p.is_contiguous()]
    assert {p.dim() for p in moved} == {5}


def test_the_template_is_left_alone() -> None:
    network = Residual()
    stack(network, 2)
    assert type(network.first) is nn.Linear


def test_a_layer_without_a_stacked_form_is_named() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"layer 1 \(LSTM\)"):
        stack(nn.Sequential(nn.Flatten(), nn.LSTM(4, 4)), 2)


@pytest.mark.parametrize("name", ["cnn8", "resnet20", "resnet18"])
def test_the_shipped_convolutional_models_can_be_grouped(name: str) -> None:
    model = stack(models.build(name, (3, 8, 8), 5, {}), 3)
    assert why_not_grouped(model, torch.Size((7, 3, 8, 8))) is None


class Channels(nn.Module):
    """A forward that works on channels in the way `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear({"concatenates": 8}.get(how, 4), 3)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        if self.how == "concatenates":
            h = torch.cat([h, h.tanh()], dim=1)
        elif self.how == "averages":
            h = h - h.mean(1, keepdim=True)
        elif self.how == "reshapes":
            h = h.reshape(len(h), 4, -1, 1)
        return self.last(h.mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "can"),
    [("concatenates", False), ("averages", False), ("reshapes", False), ("nothing", True)],
)
def test_a_model_whose_members_would_mix_is_detected(
    how: str, can: bool, caplog: pytest.LogCaptureFixture
) -> None:
    reason = why_not_grouped(stack(Channels(how), 3), torch.Size((7, 1, 6, 6)))
    assert (reason is None) is can
    assert ["forward works on channels" in message for message in caplog.messages] == [True] * (
        not can
    )


class UserModel(nn.Module):
    """A user's model that treats its batch in the way `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.last, self.how = nn.Linear(4, 8), nn.Linear(8, 3), how
        self.spare = nn.Linear(2, 2)
        self.spare.requires_grad_(how != "frozen")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x.flatten(1)) if "tokens" not in self.how else None
        if self.how == "random":
            h = h + torch.rand_like(h)
        elif self.how == "over the batch":
            h = h / h.norm()
        elif h is None:  # each token is an example to the layer
            tokens = int(self.how.split()[0])
            return self.last(
                self.first(x.reshape(len(x) * tokens, 4)).view(len(x), tokens, 8).mean(1)
            )
        if self.how != "unused":
            h = h + 0 * self.spare(h[:, :2]).sum(-1, keepdim=True)
        return self.last(h)


@pytest.mark.parametrize(
    ("how", "shape", "why"),
    [
        ("plain", (4,), None),
        ("frozen", (4,), None),
        ("unused", (4,), r"parameter spare.weight takes no part in its output; .* freeze it"),
        ("random", (4,), "draws random numbers"),
        ("over the batch", (4,), "must treat examples one by one"),
        ("2 tokens", (2, 4), "must treat examples one by one"),  # as many as members in the check
        ("3 tokens", (3, 4), "invalid for input of size"),  # as many as examples
    ],
)
def test_a_users_model_is_checked_before_anything_runs(
    how: str, shape: tuple[int, ...], why: str | None
) -> None:
    model = stack(UserModel(how), 1)
    if "tokens" in how:
        model.network.spare.requires_grad_(False)
        model._template[0].spare.requires_grad_(False)
    if why is None:
        check_stacking(model, shape)
    else:
        with pytest.raises((UnsupportedLayerError, RuntimeError), match=why):
            check_stacking(model, shape)


class LeNet(nn.Module):
    """As tutorials write it: `view` needs the memory format of plain PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.two(nn.functional.relu_(self.one(x))))
        return self.last(h.view(h.size(0), -1))


@pytest.mark.parametrize("arrangement", Arrangement)
@pytest.mark.parametrize("members", [1, 2])
def test_view_and_in_place_after_a_convolution(arrangement: Arrangement, members: int) -> None:
    networks = [LeNet().double() for _ in range(members)]
    model, x = stack(networks[0], members), torch.randn(5, 1, 6, 6).double()
    for k, network in enumerate(networks):
        model.load_member(k, network)
    model.arrangement = arrangement
    logits = model(x)
    logits.square().sum().backward()
    for k, network in enumerate(networks):
        torch.testing.assert_close(logits[k], network(x), rtol=1e-12, atol=1e-12)
        network(x).square().sum().backward()
        for p, q in zip(model.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(p.grad[k], q.grad, rtol=1e-10, atol=1e-10)
    assert why_not_grouped(model, x.shape) is None


def _dense(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Filters of a grouped convolution as filters of a single group, with zeros between."""
    out, inner = len(weight) // groups, weight.shape[1]
    dense = weight.new_zeros(len(weight), inner * groups, *weight.shape[2:])
    for g in range(groups):
        dense[g * out : (g + 1) * out, g * inner : (g + 1) * inner] = weight[
            g * out : (g + 1) * out
        ]
    return dense


@pytest.mark.parametrize("arrangement", [Arrangement.GROUPED, Arrangement.STREAMS])
@pytest.mark.parametrize(
    "layer", ["one", "last"]
)  # detected in the forward and in the backward pass
def test_values_that_are_not_finite_stay_in_their_network(
    arrangement: Arrangement, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may merge several groups into one, with zeros between them: here all of them."""
    forward, backward = nn.functional.conv2d, torch.ops.aten.convolution_backward

    def as_one(x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
        return forward(x, _dense(weight, groups), bias, stride, padding, dilation)

    def backward_as_one(gradient, x, weight, sizes, *options):
        *same, groups, mask = options
        for_x, _, _ = backward(gradient, x, _dense(weight, groups), sizes, *same, 1, mask)
        _, for_weight, for_bias = backward(gradient, x, weight, sizes, *same, groups, mask)
        return for_x, for_weight, for_bias

    monkeypatch.setattr(nn.functional, "conv2d", as_one)
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", backward_as_one)
    model = stack(LeNet(), 3)
    model.arrangement = arrangement
    with torch.no_grad():
        getattr(model.network, layer).weight[1] = torch.nan
    model(torch.randn(5, 1, 6, 6)).square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad[[0, 2]].isfinite().all()


def test_frozen_parameters_stay_frozen() -> None:
    network = UserModel("plain")
    network.first.requires_grad_(False)
    model = stack(network, 2).select([1])
    assert [p.requires_grad for p in model.network.first.parameters()] == [False] * 2
    assert model.network.last.weight.requires_grad


def test_only_the_first_batch_size_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further size would take as long to compile again."""
    sizes = []
    monkeypatch.setattr(
        torch, "compile", lambda function, **_: lambda x: (sizes.append(len(x)), function(x))[1]
    )
    double = Compiled(lambda x: 2 * x)
    for size in (4, 3, 4):
        assert double(torch.ones(size)).tolist() == [2.0] * size
    assert sizes == [4, 4]


@pytest.mark.parametrize(
    ("on_gpu", "members", "widest", "expected"),
    [
        (False, 8, 16, Arrangement.BATCH),
        (True, 8, 0, Arrangement.BATCH),
        (True, 8, 64, Arrangement.GROUPED),
        (True, 8, 65, Arrangement.STREAMS),
        (True, 1, 16, Arrangement.STREAMS),
    ],
)
def test_device_members_and_width_choose_the_arrangement(
    on_gpu: bool, members: int, widest: int, expected: Arrangement
) -> None:
    chosen = fastest_arrangement(
        on_gpu=on_gpu, members=members, widest=widest, can_be_grouped=lambda: True
    )
    assert chosen is expected


def test_a_model_that_cannot_be_grouped_runs_on_streams() -> None:
    chosen = fastest_arrangement(on_gpu=True, members=8, widest=16, can_be_grouped=lambda: False)
    assert chosen is Arrangement.STREAMS


class Scale(nn.Module):
    """One factor per feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def test_a_users_layer_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACKED_LAYERS, Scale, nn.Identity)  # so that the entry is undone

    @stacks(Scale)
    class StackedScale(nn.Module):
        def __init__(self, layer: Scale, layout: Layout) -> None:
            super().__init__()
            self._layout = layout
            self.weight = stacked_parameter(layer.weight, layout.members)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            members = self._layout.split_input(x, self.weight.shape[1])
            return (members * self.weight.unsqueeze(1)).flatten(0, 1)

    networks = [nn.Sequential(Scale(4), nn.Linear(4, 3)).double() for _ in range(2)]
    model = stack(networks[0], 2)
    for k, network in enumerate(networks):
        model.load_member(k, network)
    check_stacking(model, (4,))
    x = torch.randn(5, 4).double()
    for k, network in enumerate(networks):
        torch.testing.assert_close(model(x)[k], network(x), rtol=1e-12, atol=1e-12)
