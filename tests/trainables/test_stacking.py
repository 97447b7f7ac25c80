"""Stacking takes any module apart and puts it together again, or says why it cannot."""

import pytest
import torch
from torch import nn

from trainables.stacking import UnsupportedLayerError, stack


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
