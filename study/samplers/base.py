"""What a sampler is, what it searches, and the registry of all samplers.

This package needs neither Optuna nor SciPy until a sampler is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from trainables.errors import did_you_mean

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

Params = dict[str, float | str]
"""Values of a point: `epsilon`, `lr` and `loss` (a label). Optuna chooses what is missing."""


class SamplerError(ValueError):
    """Unknown sampler, or settings that the sampler cannot use; the message is one line."""


class ValueRange(Protocol):
    """The range of a searched number; `study.config.sections.SearchRange` is one."""

    @property
    def low(self) -> float:
        """Smallest value."""

    @property
    def high(self) -> float:
        """Largest value."""

    @property
    def log(self) -> bool:
        """Whether the logarithm is searched."""

    def at(self, share: float) -> float:
        """The value at a share in [0, 1] of the range."""


@dataclass(frozen=True)
class SearchSpace:
    """The search of one arm in one cell.

    Attributes:
        lr: range of the learning rate.
        epsilon: range of the logit bias ε.
        searches_epsilon: whether the search chooses ε; otherwise the arm fixes it.
        losses: labels of the losses to choose from, at least one.
        losses_with_epsilon: those of them that take a logit bias.
        budget: number of points.
        points_per_round: number of points that are proposed together.
        rounds_in_flight: number of rounds that may be in training at a time.
        seed: seed of the arm's search.
        grid: number of ε values and of learning rates, for samplers that need a grid.
    """

    lr: ValueRange
    epsilon: ValueRange
    searches_epsilon: bool
    losses: tuple[str, ...]
    losses_with_epsilon: frozenset[str]
    budget: int
    points_per_round: int
    rounds_in_flight: int
    seed: int
    grid: tuple[int, int] | None = None


class Sampler(ABC):
    """Chooses the points of a search.

    A point has two sources: `fixed_params` gives the values that do not depend on results, and
    the Optuna sampler chooses the others. Both must follow from their arguments alone, so that an
    interrupted search proposes the same points when it is resumed.

    Attributes:
        name: name in the study file.
        tries_initial_points: whether the search starts with analytic ε and ε = 0.
        space: what is searched.
    """

    name: ClassVar[str]
    tries_initial_points: ClassVar[bool] = True

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @classmethod
    def check(cls, grid: tuple[int, int] | None) -> None:
        """Check the setting `search.grid`; samplers without a grid refuse one.

        Args:
            grid: number of ε values and of learning rates, or None.

        Raises:
            SamplerError: the sampler cannot use this setting.
        """
        if grid is not None:
            raise SamplerError(
                "`grid: {epsilon: …, lr: …}` goes with `sampler: grid`, not with "
                f"`sampler: {cls.name}`"
            )

    @classmethod  # noqa: B027 – an optional hook
    def check_budget(cls, budget: int, grid: tuple[int, int] | None, losses: int) -> None:
        """Check the setting `search.networks_per_cell`; by default every budget is allowed.

        Args:
            budget: number of points per arm.
            grid: number of ε values and of learning rates, or None.
            losses: number of losses that a search chooses from.

        Raises:
            SamplerError: the sampler cannot use this budget.
        """

    @classmethod
    def differs_when_grown(cls, before: int, after: int) -> str | None:
        """How a search that grows differs from one that was planned larger from the start.

        A sampler whose points depend on the budget overrides it.

        Args:
            before: number of points per search so far.
            after: number of points per search from now on.

        Returns:
            The difference in words; None where all points are the same.
        """
        return None

    def fixed_params(self, point: int) -> Params:
        """Values of a point that do not depend on results.

        Args:
            point: number of the point in the arm's search, from 0.
        """
        return {}

    @abstractmethod
    def optuna_sampler(self, seed: int) -> BaseSampler:
        """The Optuna sampler of one point.

        Args:
            seed: seed of the point, in [0, 2³²).
        """


_SAMPLERS: dict[str, type[Sampler]] = {}
_Sampler = TypeVar("_Sampler", bound=Sampler)


def register(sampler: type[_Sampler]) -> type[_Sampler]:
    """Add a sampler to the registry; use as a class decorator.

    Raises:
        ValueError: the name is taken.
    """
    if sampler.name in _SAMPLERS:
        raise ValueError(f"sampler {sampler.name}: the name is taken")
    _SAMPLERS[sampler.name] = sampler
    return sampler


def names() -> tuple[str, ...]:
    """Names of all samplers, in alphabetical order."""
    return tuple(sorted(_SAMPLERS))


def get(name: str) -> type[Sampler]:
    """The sampler called `name`.

    Raises:
        SamplerError: there is no such sampler.
    """
    if name not in _SAMPLERS:
        raise SamplerError(f"unknown sampler {name!r}{did_you_mean(name, names())}")
    return _SAMPLERS[name]
