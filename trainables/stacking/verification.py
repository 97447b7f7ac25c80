"""Whether a stacked model computes the same as each of its members separately."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from trainables.stacking.arrangements import Arrangement
from trainables.stacking.layout import UnsupportedLayerError

if TYPE_CHECKING:
    from trainables.stacking.stacked_model import StackedModel

_MEMBERS, _EXAMPLES = 2, 3  # different, so that neither can be mistaken for the other
_TOLERANCE = 1e-2  # far above rounding in float32, far below the difference of two members
_log = logging.getLogger(__name__)


def check_stacking(model: StackedModel, input_shape: tuple[int, ...]) -> None:
    """Evaluate a model on a few random inputs to make sure that it can train in a cohort.

    Args:
        model: left unchanged.
        input_shape: shape of one example.

    Raises:
        UnsupportedLayerError: the model's forward draws random numbers, leaves a parameter out, or
            computes something along the batch axis.
    """
    random_state = torch.get_rng_state()
    trial, x = _different_members(model, input_shape)
    separate = _outcome(trial, Arrangement.STREAMS, x)
    if not torch.equal(random_state, torch.get_rng_state()):
        raise UnsupportedLayerError(
            "its forward draws random numbers, which would depend on the cohort"
        )
    for name, parameter in trial.network.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise UnsupportedLayerError(
                f"parameter {name} takes no part in its output; remove it or freeze it "
                "(requires_grad = False)"
            )
    if not _are_close(_outcome(trial, Arrangement.BATCH, x), separate):
        raise UnsupportedLayerError(
            "several members in one batch give other results than each member alone; its forward "
            "must treat examples one by one"
        )


def why_not_grouped(model: StackedModel, shape: torch.Size) -> str | None:
    """Why the members of a model cannot lie in the channel axis.

    For example, they cannot if the model's own `forward` concatenates, splits or averages channels.

    Args:
        model: left unchanged.
        shape: of a batch of inputs, [B, …].

    Returns:
        one line, or None where they can.
    """
    trial, x = _different_members(model, tuple(shape[1:]))
    try:
        grouped = _outcome(trial, Arrangement.GROUPED, x)
        if _are_close(grouped, _outcome(trial, Arrangement.STREAMS, x)):
            return None
        reason = "its results differ"
    except Exception as error:  # a user's forward may raise anything at an unexpected shape
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    _log.warning(
        "this model's own forward works on channels, so its members are evaluated separately, "
        "which is slower than grouped convolutions (%s)",
        reason,
    )
    return reason


def _different_members(
    model: StackedModel, input_shape: tuple[int, ...]
) -> tuple[StackedModel, torch.Tensor]:
    """Two members with random parameters, and a batch for them, in float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    trial = model.select([0] * _MEMBERS).to("cpu", torch.float32)
    trial.compiles = False
    with torch.no_grad():
        for parameter in trial.parameters():
            factor, term = (torch.randn(parameter.shape, generator=generator) for _ in range(2))
            parameter.mul_(1 + 0.3 * factor).add_(0.05 * term)
    return trial, torch.randn(_EXAMPLES, *input_shape, generator=generator)


def _outcome(model: StackedModel, arrangement: Arrangement, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits in training mode, logits in evaluation mode, and all gradients as one vector."""
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


def _are_close(outcome: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(
        a.shape == b.shape and bool((a - b).norm() <= _TOLERANCE * b.norm())
        for a, b in zip(outcome, expected, strict=True)
    )
