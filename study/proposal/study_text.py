"""A proposed study as the text of a study file, with comments."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from study.proposal.design import LR, RULE, START_S, TRAINING_SHARE, Design
from study.proposal.survey import FEW_EXAMPLES, Survey

_MOST_NAMES = 5
_LINE = 98


@dataclass(frozen=True)
class Machine:
    """What the machine has.

    Attributes:
        cores: processor cores.
        gpus: names of the GPUs.
    """

    cores: int
    gpus: tuple[str, ...]

    @property
    def workers(self) -> int:
        """Cohorts that train at a time."""
        return len(self.gpus) or self.cores

    def minutes(self, networks: int, seconds: float) -> float:
        """Minutes for a study, the start of Ray and the analysis included.

        Args:
            networks: number of networks.
            seconds: training time of a network in one worker.
        """
        return (START_S + networks * seconds / self.workers / TRAINING_SHARE) / 60

    @property
    def text(self) -> str:
        """In words."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{cores}, {', '.join(self.gpus) or 'no GPU'}"


def study_name(data: str) -> str:
    """A name for the study of a data set: letters, digits, `.`, `_` and `-`."""
    stem = Path(data.rstrip("/")).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "study"


def study_text(
    name: str, survey: Survey, design: Design, machine: Machine, time: str, command: str
) -> str:
    """The study file.

    Args:
        name: of the study.
        survey: what is in the data.
        design: the study.
        machine: this machine.
        time: what the study takes, in words.
        command: the command that wrote it.
    """
    size = design.size
    models = _flow(design.model)
    dataset = _flow({"name": survey.name, **survey.options})
    head = [
        f"Written by `{command}`. Change what you like; `logit-bias plan` shows the effect.",
        "",
    ]
    head += ["What was found", *_found(survey)]
    if survey.remarks:
        head += ["", "What was assumed", *[f"- {remark}" for remark in survey.remarks]]
    head += ["", "Questions that only you can answer", *_questions(survey)]
    return f"""{_comment(head)}
name: {name}
seed: 0
grid:
{_indented(_test_comment(survey), 2)}  dataset:
    - {dataset}
  # Labels are taken as they are: none is changed, and none is called clean.
  noise: [{{kind: as-is}}]
  # {design.why[:1].upper()}{design.why[1:]}.
  model: [{models}]
  # Cross-entropy, and bounded losses with a logit bias ε that is tuned: mae and gce resist wrong
  # labels; nce_agce is a strong rival of both. `logit-bias losses` lists the others.
  loss: [ce, {", ".join(design.losses)}]
# The same for every loss; each loss has its own learning rate.
recipe: {{epochs: {design.epochs}, batch_size: {design.batch_size}, optimizer: sgd, \
momentum: 0.9, schedule: cosine}}
# {time}
search:
  sampler: tpe
  networks_per_cell: {size.search}
  points_per_round: 4
  epsilon: {{low: 0.0, high: {design.epsilon_high:g}}}
  lr: {{low: {LR[0]:g}, high: {LR[1]:g}, log: true}}
  select_on: val_noisy
sweep: {{points: {size.points}, seeds: {size.sweep_seeds}, lr_points: {size.lr_points}}}
# Each loss at its best ε, at analytic ε and at ε = 0, and cross-entropy, on fresh seeds.
confirm:
  seeds: {size.seeds}
  replicate_seeds: 1
  arms: [best, tuned, "analytic:{RULE}", zero, ce]
# A smaller difference counts as none: one percentage point. Decide it before you see results.
analysis: {{margin: 0.01}}
# This machine: {machine.text}. `auto` uses all of it, here and elsewhere.
resources: auto
storage: results/
"""


def _found(survey: Survey) -> list[str]:
    info, sizes = survey.info, survey.class_sizes
    shape = " × ".join(map(str, info.input_shape))
    biggest, smallest = next(iter(sizes.items())), list(sizes.items())[-1]
    lines = [
        f"- {survey.examples:,} examples of {len(sizes)} classes: {info.train_size:,} to train on, "
        f"{info.val_size:,} to choose by, {info.test_size:,} to measure with",
        f"- class sizes from {smallest[1]:,} ({smallest[0]}) to {biggest[1]:,} ({biggest[0]})",
    ]
    few = [f"{name} ({n})" for name, n in sizes.items() if n < FEW_EXAMPLES]
    if few:
        more = f" and {len(few) - _MOST_NAMES} more" if len(few) > _MOST_NAMES else ""
        lines.append(
            f"- classes with fewer than {FEW_EXAMPLES} examples: "
            f"{', '.join(few[:_MOST_NAMES])}{more}"
        )
    columns = survey.columns
    if columns is None:
        lines.append(f"- input: {survey.kind}, {shape}")
    elif columns.text is not None:
        lines.append(f"- input: text, column {columns.text}; label: column {columns.label}")
    else:
        names = ", ".join(columns.features[:_MOST_NAMES])
        more = f" and {len(columns.features) - _MOST_NAMES} more"
        rest = more if len(columns.features) > _MOST_NAMES else ""
        lines.append(
            f"- input: {len(columns.features)} columns ({names}{rest}), {shape} features; label: "
            f"column {columns.label}"
        )
    if columns is not None and columns.left_out:
        lines += [f"- column {name} is left out: {why}" for name, why in columns.left_out.items()]
    if survey.duplicates is not None:
        lines.append(
            f"- {survey.duplicates:,} examples have an input that occurs more than once"
            + (f"; {survey.conflicts:,} of them with different labels" if survey.conflicts else "")
        )
    if survey.wrong is not None:
        lines.append(
            f"- of {survey.verified:,} rows with a correct label beside their own, "
            f"{100 * survey.wrong:.1f} % have another label in the file"
        )
    return lines


def _questions(survey: Survey) -> list[str]:
    questions = [f"- {question}" for question in survey.questions]
    if survey.wrong is None:
        questions.append(
            "- How many labels are wrong? The test labels are as wrong as the others. With a "
            "column of correct labels for a few hundred rows (--clean-label) the study measures "
            "on those."
        )
    if survey.duplicates:
        questions.append(
            "- Are the examples with equal inputs copies? Copies that fall into different splits "
            "make every accuracy look better than it is."
        )
    if survey.kind in ("images", "image folder"):
        questions.append(
            "- May images be mirrored or shifted? Then set recipe.augment, such as "
            "{crop: 4, flip: true}."
        )
    largest, smallest = max(survey.class_sizes.values()), min(survey.class_sizes.values())
    if largest > 10 * smallest:
        questions.append(
            "- Does each class count the same? Accuracy counts examples, and the largest class has "
            f"{largest / smallest:.0f} times as many as the smallest."
        )
    return questions


def _test_comment(survey: Survey) -> list[str]:
    if "clean_label" in survey.options:
        return [
            "The test examples are rows of known correct label. They measure, and never choose: "
            "search and sweep see the labels as they are."
        ]
    if "test" in survey.options:
        return ["Is the test file correct? Its labels are taken as they are, too."]
    return []


def _flow(value: dict[str, Any]) -> str:
    """A mapping as YAML in one line."""
    parts = (f"{key}: {_scalar(item)}" for key, item in value.items())
    return "{" + ", ".join(parts) + "}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value)
        words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
        if plain and value.lower() not in words:
            return value
        return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).strip()
    return f"{value}"


def _comment(lines: Iterable[str]) -> str:
    """Comment lines, none longer than a page is wide, and no control character of the data."""
    wrapped = []
    for line in lines:
        printable = "".join(c if c.isprintable() else " " for c in line)
        wrapped += _wrap(" ".join(printable.split()))
    return "\n".join(f"# {line}".rstrip() for line in wrapped)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(
        text, _LINE, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    ) or [""]


def _indented(lines: list[str], by: int) -> str:
    """Comment lines, each with its line break."""
    text = _comment(lines) if lines else ""
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())
