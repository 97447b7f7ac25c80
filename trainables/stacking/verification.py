"""Whether a model computes the same stacked as each of its members by itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from trainables.stacking.layout import UnsupportedLayerError

if TYPE_CHECKING:
    from trainables.stacking import StackedModel

_MEMBERS, _EXAMPLES = 2, 3  # unlike, so that neither can pass for the other
_TOLERANCE = 1e-2  # rounding in float32 stays far below, another member's numbers far above
_log = logging.getLogger(__name__)


def check_stacking(model: StackedModel, input_shape: tuple[int, ...]) -> None:
    """Make sure, on a few random inputs, that a model's forward suits a cohort.

    Raises
    ------
    UnsupportedLayerError: it draws random numbers, leaves a parameter out, or does something with
        the batch axis that depends on what else is in it.
    """
    before = torch.get_rng_state()
    two, x = _two_unlike_members(model, input_shape)
    apart = _outcome(two, "apart", x)
    if not torch.equal(before, torch.get_rng_state()):
        raise UnsupportedLayerError(
            "its forward draws random numbers, which would depend on the cohort"
        )
    for name, parameter in two.network.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise UnsupportedLayerError(
                f"parameter {name} takes no part in its output; remove it or freeze it "
                "(requires_grad = False)"
            )
    if not _alike(_outcome(two, "folded", x), apart):
        raise UnsupportedLayerError(
            "with several members in the batch axis it computes something else than each by "
            "itself; its forward must treat examples one by one"
        )


def why_not_wide(model: StackedModel, shape: torch.Size) -> str | None:
    """Why a model cannot lie wide, for inputs [B, …] of a shape; None where it can.

    It cannot where its own `forward` concatenates, splits or averages channels, for example.
    """
    two, x = _two_unlike_members(model, tuple(shape[1:]))
    try:
        if _alike(_outcome(two, "wide", x), _outcome(two, "apart", x)):
            return None
        reason = "it computes something else"
    except Exception as error:  # a user's forward may raise anything at shapes it does not expect
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    _log.warning(
        "this model does something with channels by itself, so its members are evaluated one "
        "beside the other, which is slower than together (%s)",
        reason,
    )
    return reason


def _two_unlike_members(
    model: StackedModel, input_shape: tuple[int, ...]
) -> tuple[StackedModel, torch.Tensor]:
    """Two members with random parameters and a batch for them, in float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    two = model.select([0] * _MEMBERS).to("cpu", torch.float32)
    two.compiles = False
    with torch.no_grad():
        for parameter in two.parameters():
            factor, term = (torch.randn(parameter.shape, generator=generator) for _ in range(2))
            parameter.mul_(1 + 0.3 * factor).add_(0.05 * term)
    return two, torch.randn(_EXAMPLES, *input_shape, generator=generator)


def _outcome(model: StackedModel, arrangement: str, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits while training and not, and all gradients in one."""
    model.arrangement = arrangement
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.enable_grad():
        logits = model.train()(x)
        model.zero_grad()
        logits.sin().sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
        return [logits.detach(), model.eval()(x), torch.cat(gradients)]


def _alike(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return all(
        f.shape == w.shape and bool((f - w).norm() <= _TOLERANCE * w.norm())
        for f, w in zip(found, wanted, strict=True)
    )
