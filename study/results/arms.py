"""Arms: the ways to choose ε that `confirm` compares, and the registry of all of them.

An arm is written as a word, `tuned` or `analytic:activation`, in the study file and in the column
`arm`. `Arm.parse` is the only place that reads this text. To add an arm, register an `ArmKind`
here; the study file, the plan, the tables and the figures then accept it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainables.errors import did_you_mean
from trainables.theory.rule_names import RULES


@dataclass(frozen=True)
class ArmContext:
    """What an arm's ε may depend on in one cell.

    Attributes:
        classes: number of classes.
        analytic: {rule: ε} of every rule that an arm of the study names.
        of_probability: whether every loss of the cell depends on the labelled class's softmax
            probability alone.
    """

    classes: int
    analytic: Mapping[str, float]
    of_probability: bool


@dataclass(frozen=True)
class ArmChoice:
    """What an arm fixes in a cell.

    Attributes:
        epsilon: logit bias; None where the study chooses it.
        rescale: factor on Δ in the loss (`losses.evaluate_rescaled`); None leaves the loss as is.
    """

    epsilon: float | None
    rescale: float | None = None


@dataclass(frozen=True)
class ArmKind:
    """One kind of arm.

    Attributes:
        name: the word in the study file, without a rule.
        label: text for legends and tables.
        choose: (rule, cell) → choice; None where the arm does not exist in such a cell.
        has_rule: whether the word is followed by `:<rule>`.
        is_searched: whether the arm has searches of its own in a study with the arm `best`. (In a
            study without it, every arm has one.) An arm that rescales the loss needs them.
        is_pooled: whether such a study confirms the arm at a point that is chosen from all
            evidence of the cell.
        is_replicated: whether such a study confirms what each replicate of the search chooses.
    """

    name: str
    label: str
    choose: Callable[[str | None, ArmContext], ArmChoice | None]
    has_rule: bool = False
    is_searched: bool = False
    is_pooled: bool = True
    is_replicated: bool = False


def _analytic(rule: str | None, cell: ArmContext) -> ArmChoice | None:
    assert rule is not None
    return ArmChoice(cell.analytic[rule])


def _multiple_of_analytic(factor: float) -> Callable[[str | None, ArmContext], ArmChoice]:
    """A multiple of the ε of the first analytic arm."""
    return lambda _, cell: ArmChoice(factor * next(iter(cell.analytic.values())))


def _rescale(_: str | None, cell: ArmContext) -> ArmChoice | None:
    from trainables.theory.logit_bias import rescale_factor  # imports SciPy

    return ArmChoice(0.0, rescale_factor(cell.classes)) if cell.of_probability else None


BEST, TUNED, ANALYTIC, ZERO, CE = "best", "tuned", "analytic", "zero", "ce"

ARM_KINDS: dict[str, ArmKind] = {}


def register(kind: ArmKind) -> ArmKind:
    """Add a kind of arm to the registry; every study file may then name it.

    Args:
        kind: the kind.

    Returns:
        the same kind.

    Raises:
        ValueError: the name is taken.
    """
    if kind.name in ARM_KINDS:
        raise ValueError(f"arm {kind.name}: the name is taken")
    ARM_KINDS[kind.name] = kind
    return kind


register(
    ArmKind(
        TUNED,
        "tuned ε",
        lambda *_: ArmChoice(None),
        is_searched=True,
        is_pooled=False,
        is_replicated=True,
    )
)
register(
    ArmKind(ANALYTIC, "analytic ε", _analytic, has_rule=True, is_searched=True, is_replicated=True)
)
register(ArmKind(ZERO, "ε = 0", lambda *_: ArmChoice(0.0)))
register(ArmKind("half", "half of analytic ε", _multiple_of_analytic(0.5)))
register(ArmKind("double", "twice analytic ε", _multiple_of_analytic(2.0)))
register(ArmKind("rescale", "rescaled loss", _rescale, is_searched=True))
# Plain cross-entropy is a cell beside the others and not an arm inside them.
register(ArmKind(CE, "cross-entropy", lambda *_: None, is_searched=True))
register(ArmKind(BEST, "best ε", lambda *_: ArmChoice(None)))


class UnknownArmError(ValueError):
    """No arm of that name; the message lists what is allowed."""


@dataclass(frozen=True)
class Arm:
    """An arm: a kind and, for kind `analytic`, a rule.

    Attributes:
        kind: a key of `ARM_KINDS`.
        rule: a name in `trainables.theory.rule_names.RULES`, or None.
    """

    kind: str
    rule: str | None = None

    @classmethod
    def parse(cls, text: str) -> Arm:
        """The arm that `text` names, such as `zero` or `analytic:activation`.

        Raises:
            UnknownArmError: there is no such arm.

        Example:
            >>> Arm.parse("analytic:activation").label
            'analytic ε (activation)'
        """
        kind, _, rule = text.partition(":")
        known = ARM_KINDS.get(kind)
        if known is None or text not in arm_names():
            raise UnknownArmError(f"unknown arm {text!r}{did_you_mean(text, arm_names())}")
        return cls(kind, rule or None)

    @classmethod
    def of_row(cls, text: str) -> Arm:
        """The arm of a row, which another program may have written: any word is allowed."""
        kind, _, rule = text.partition(":")
        return cls(kind, rule or None)

    @property
    def name(self) -> str:
        """The arm as the study file and the column `arm` have it."""
        return self.kind if self.rule is None else f"{self.kind}:{self.rule}"

    @property
    def label(self) -> str:
        """Text for legends and tables."""
        label = ARM_KINDS[self.kind].label if self.kind in ARM_KINDS else self.kind
        return label if self.rule is None else f"{label} ({self.rule})"

    @property
    def is_analytic(self) -> bool:
        """Whether ε follows from a rule."""
        return self.kind == ANALYTIC

    def choose(self, cell: ArmContext) -> ArmChoice | None:
        """What the arm fixes in a cell; None where the cell has no such arm."""
        return ARM_KINDS[self.kind].choose(self.rule, cell)


def arm_names() -> list[str]:
    """Every arm that a study file may name."""
    plain = [kind.name for kind in ARM_KINDS.values() if not kind.has_rule]
    ruled = [kind.name for kind in ARM_KINDS.values() if kind.has_rule]
    return [*plain, *(f"{name}:{rule}" for name in ruled for rule in RULES)]


def analytic_arm(rule: str) -> str:
    """Name of the analytic arm of a rule: `analytic:<rule>`."""
    return Arm(ANALYTIC, rule).name
