"""Whether a model can lie wide: its members in the channel axis."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainables.stacking import StackedModel

_EXAMPLES = 4
_log = logging.getLogger(__name__)


@torch.no_grad()
def computes_the_same_wide(model: StackedModel, shape: torch.Size) -> bool:
    """Whether two members with unlike parameters have the same logits in both layouts.

    Tried in float64 on the CPU, on a few random inputs of shape [B, …]. Not so where the model's
    own `forward` concatenates, splits or averages channels, for example.
    """
    generator = torch.Generator().manual_seed(0)
    two = model.select([0, 1]).to("cpu", torch.float64).train()
    for parameter in two.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = torch.randn(_EXAMPLES, *shape[1:], generator=generator, dtype=torch.float64)
    two.arrangement = "folded"
    folded = two(x)
    two.arrangement = "wide"
    try:
        same = torch.allclose(two(x), folded, rtol=1e-6, atol=1e-6 * float(folded.abs().max()))
    except Exception as error:  # a user's forward may raise anything at shapes it does not expect
        same = False
        _log.debug("wide: %s", error)
    if not same:
        _log.warning(
            "this model does something with channels by itself, so its members are evaluated one "
            "beside the other, which is slower than together"
        )
    return same
