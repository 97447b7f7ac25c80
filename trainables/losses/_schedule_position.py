"""Where the ε schedule of a criterion stands: a module, so that a checkpoint contains it."""

from __future__ import annotations

from trainables.errors import did_you_mean
from trainables.losses._torch import Tensor, torch
from trainables.losses.schedules import EPSILON_SCHEDULES, epsilon_factor


class SchedulePosition(torch.nn.Module):
    """Where a criterion's schedule stands; part of its state.

    Args:
        name: a name in `EPSILON_SCHEDULES`.
        steps: number of training steps, at least 1.

    Attributes:
        done: number of steps done, at most `steps`.
        factor: the present factor of ε.
        factor_tensor: the same as a tensor of shape [].
    """

    def __init__(self, name: str, steps: int) -> None:
        super().__init__()
        self.name, self.steps = name, steps
        # Neither a buffer nor a parameter: `half()` must not round it.
        self.factor_tensor = torch.ones((), dtype=torch.float64)
        self._move_to(0)

    def step(self) -> None:
        """Count one step; after the last one the position stays at the end."""
        self._move_to(self.done + 1)

    def get_extra_state(self) -> Tensor:
        """The number of steps done."""
        return torch.tensor(self.done)

    def set_extra_state(self, state: Tensor) -> None:
        """Go to a saved position.

        Args:
            state: what `get_extra_state` returned.
        """
        self._move_to(int(state))

    def extra_repr(self) -> str:
        """Name and position."""
        return f"{self.name!r}, {self.done} of {self.steps} steps"

    def _move_to(self, done: int) -> None:
        self.done = min(done, self.steps)
        self.factor = epsilon_factor(self.name, self.done / self.steps)
        self.factor_tensor.fill_(self.factor)


def schedule_position(name: str, steps: int | None) -> SchedulePosition | None:
    """The start of a schedule.

    Args:
        name: a name in `EPSILON_SCHEDULES`.
        steps: number of training steps.

    Returns:
        The position, or None for `constant`.

    Raises:
        ValueError: unknown schedule, or `steps` is not an integer of at least 1.
    """
    if name not in EPSILON_SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}{did_you_mean(name, EPSILON_SCHEDULES)}")
    if name == "constant":
        return None
    if steps is None or isinstance(steps, bool) or int(steps) != steps or steps < 1:
        raise ValueError(f"schedule {name!r}: steps = {steps}: must be an integer of at least 1")
    return SchedulePosition(name, int(steps))
