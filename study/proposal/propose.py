"""From a data set and a time to the text of a study file that runs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch

from study.config.loader import parse_study
from study.planning.estimate import estimated_hours
from study.planning.open_study import plan_of
from study.planning.plan import Plan
from study.proposal.design import Design, first_design, fit_networks, fit_time
from study.proposal.study_text import Machine, study_name, study_text
from study.proposal.survey import Request, Survey, survey
from study.results.schema import Stage
from trainables.errors import BadInputError

LEAST_MINUTES = 1.0


@dataclass(frozen=True)
class Budget:
    """How large the study may be.

    Attributes:
        minutes: time on this machine, the start of Ray and the analysis included.
        networks: number of networks; None where the time decides.
    """

    minutes: float
    networks: int | None = None


@dataclass(frozen=True)
class Proposal:
    """A proposed study.

    Attributes:
        text: of the study file.
        survey: what is in the data.
        networks: number of networks that the study trains.
        minutes: time that it takes on this machine.
    """

    text: str
    survey: Survey
    networks: int
    minutes: float


def propose(request: Request, budget: Budget, study: str | None, command: str) -> Proposal:
    """Look at a data set, time a network on this machine, and write a study that fits.

    Args:
        request: the data.
        budget: how large the study may be.
        study: name of the study; None for that of the data.
        command: what the user typed, for the first line of the file.

    Raises:
        BadInputError: the data or the budget cannot be used; one line says why.
        ValueError: a data set cannot be read; likewise.
    """
    if not (math.isfinite(budget.minutes) and budget.minutes >= LEAST_MINUTES):
        raise BadInputError(f"--minutes {budget.minutes:g}: allowed is {LEAST_MINUTES:g} or more")
    gpus = tuple(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
    machine = Machine(os.cpu_count() or 1, gpus)
    found = survey(request, bool(gpus))
    name = study_name(request.data) if study is None else study
    design = largest = first_design(found, bool(gpus))
    if budget.networks is not None:
        design = fit_networks(largest, budget.networks)

    def text_of(design: Design, time: str = "") -> str:
        return study_text(name, found, design, machine, time, command)

    seconds = _seconds_per_network(_plan(text_of(design), name), machine)
    if budget.networks is None:
        design = fit_time(largest, seconds, machine.workers, budget.minutes)
        seconds *= design.epochs / largest.epochs
    plan = _plan(text_of(design), name)
    networks = sum(plan.networks().values())
    minutes = machine.minutes(networks, seconds)
    time = _time_text(networks, minutes, plan.networks()[Stage.CONFIRM], budget)
    return Proposal(text_of(design, time), found, networks, minutes)


def _plan(text: str, name: str) -> Plan:
    return plan_of(parse_study(text.encode(), name))


def _seconds_per_network(plan: Plan, machine: Machine) -> float:
    """Training time of a network in one worker, from a few timed steps."""
    hours = estimated_hours(plan, "cuda" if machine.gpus else "cpu")
    return 3600 * hours * machine.workers / sum(plan.networks().values())


def _time_text(networks: int, minutes: float, confirm: int, budget: Budget) -> str:
    text = f"{networks:,} networks, of which {confirm:,} measure; about {minutes:.0f} minutes here."
    if budget.networks is None and minutes > 1.2 * budget.minutes:
        text += f" That is more than the {budget.minutes:g} asked for: no study is smaller."
    return text
