"""Train a cohort: K networks of one group side by side.

A member's trajectory follows from its own settings and seeds alone. It does not depend on how many
neighbours it has, which ones, or how they train; a study may therefore put any networks of a group
into one cohort.
"""

from __future__ import annotations

import gc
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial

import torch

from trainables.datasets.streaming import ImageFiles
from trainables.engine.capacity import members_that_fit
from trainables.engine.cohort import CohortRun, State
from trainables.engine.results import EpochMetrics, MemberResult, TrialMetrics
from trainables.engine.runtime import deterministic
from trainables.engine.spec import (
    CohortSpec,
    DataSpec,
    Member,
    ModelSpec,
    Recipe,
    Rung,
)

__all__ = [
    "STATE_VERSION",
    "CohortRun",
    "CohortSpec",
    "DataSpec",
    "EpochMetrics",
    "Member",
    "MemberResult",
    "ModelSpec",
    "Recipe",
    "Rung",
    "State",
    "TrialMetrics",
    "train",
]

STATE_VERSION = 4
"""Version of the state that `train` saves; earlier states carry no number."""

_SMALL_BATCH = 16  # examples
_EVALUATION = 1.1  # an epoch's evaluation costs about a tenth of its training
_log = logging.getLogger(__name__)


def train(
    spec: CohortSpec,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    saved: State | None = None,
    save: Callable[[Callable[[], State]], None] | None = None,
) -> list[MemberResult]:
    """Train every member of a cohort from initialisation to the last epoch.

    Members that do not fit the device at once are trained in several parts, with the same results.

    Args:
        spec: the cohort.
        device: `cpu`, or a CUDA device such as `cuda`.
        dtype: type of parameters and losses.
        saved: a state from which training continues. A state of another `STATE_VERSION` is ignored:
            training starts from the beginning, and a warning says so.
        save: called after each epoch with a function that returns the state: plain data and CPU
            tensors, for `torch.save`.

    Returns:
        one result per member, in the order of `spec.members`. Metrics are those of the last epoch,
        except `best_val_acc_noisy`. A diverged member has the status `diverged` and the accuracy of
        guessing, 1/classes, from the epoch in which it diverged; one that lost in its bracket has
        the status `pruned`.

    Raises:
        ValueError: unknown loss, model, data set, noise kind or augmentation; a bracket that does
            not fit the device.
    """
    if saved is not None and saved.get("version") != STATE_VERSION:
        _log.warning(
            "a saved state has version %s; only version %d is supported, so training starts from "
            "the beginning",
            saved.get("version"),
            STATE_VERSION,
        )
        saved = None
    current = torch.cuda.device(device) if device.startswith("cuda") else nullcontext()
    with current, deterministic(spec.recipe.deterministic):
        return _train(spec, device, dtype, saved, save)


def _train(
    spec: CohortSpec,
    device: str,
    dtype: torch.dtype,
    saved: State | None,
    save: Callable[[Callable[[], State]], None] | None,
) -> list[MemberResult]:
    finished = [MemberResult.from_state(result) for result in saved["finished"]] if saved else []
    running: State | None = saved["running"] if saved else None
    seconds_before = saved["seconds"] if saved else 0.0
    started = time.perf_counter()
    at_once: int | None = running["at_once"] if running else None
    out_of_memory = False

    def save_epoch(at_once: int, run: CohortRun) -> None:
        if save:
            save(
                lambda: {
                    "version": STATE_VERSION,
                    "finished": [result.to_state() for result in finished],
                    "running": {**run.state(), "at_once": at_once},
                    "seconds": seconds_before + time.perf_counter() - started,
                }
            )

    while len(finished) < len(spec.members):
        if at_once is None:
            at_once = members_that_fit(spec, device, partial(_step_bytes, device, dtype))
        subset = replace(spec, members=_next_members(spec, len(finished), at_once))
        try:
            finished += _train_at_once(subset, device, dtype, running, partial(save_epoch, at_once))
        except torch.cuda.OutOfMemoryError as error:
            size = len(subset.members)
            if spec.rungs:
                raise ValueError(
                    f"{size} networks together do not fit {device}, and a bracket is never split; "
                    "let fewer points compete (search.points_per_round) or fewer arms share a "
                    "cohort (resources.networks_per_cohort)"
                ) from error
            if size == 1:
                raise
            at_once = size // 2
            out_of_memory = True
            _log.warning("%d networks together do not fit %s; trying %d", size, device, at_once)
        if out_of_memory:  # here, where the exception no longer holds the networks
            _release_memory(device)
            out_of_memory = False
        running = None
    wall_s = seconds_before + time.perf_counter() - started
    return [
        replace(
            result,
            metrics=replace(result.metrics, wall_s=wall_s, networks_in_cohort=len(spec.members)),
        )
        for result in finished
    ]


def _next_members(spec: CohortSpec, start: int, at_once: int) -> Sequence[Member]:
    """The members to train next, at most `at_once` from index `start` on.

    Images on disk are decoded once for all members with the same order. Members with another order
    would need a decoder of their own, so they train afterwards.
    """
    members = spec.members[start : start + at_once]
    if spec.rungs or not isinstance(spec.data.load().train_x, ImageFiles):
        return members
    order = members[0].order_seed
    return list(itertools.takewhile(lambda member: member.order_seed == order, members))


def _train_at_once(
    spec: CohortSpec,
    device: str,
    dtype: torch.dtype,
    running: State | None,
    save_epoch: Callable[[CohortRun], None],
) -> list[MemberResult]:
    run = CohortRun(spec, torch.device(device), dtype)
    if running:
        run.load_state(running)
    while not run.is_done:
        run.train_epoch()
        save_epoch(run)
    return run.results()


def _release_memory(device: str) -> None:
    if device.startswith("cuda"):
        gc.collect()
        with suppress(RuntimeError):  # some versions of torch refuse after a failed recording
            torch.cuda.empty_cache()


def seconds_per_epoch(
    spec: CohortSpec, device: str = "cpu", steps: int = 8, budget_s: float = math.inf
) -> float:
    """Estimate how long an epoch of the whole cohort takes, from a few timed steps.

    On a CPU the time is the processor's, so that other programs on the machine change it little.

    Args:
        spec: the cohort.
        device: where it would train.
        steps: number of timed steps.
        budget_s: seconds that the timed steps may take on a CPU. Fewer steps are then timed; where
            a single one would take longer, a step of one member and a few examples, whose time per
            example is larger.

    Returns:
        seconds, evaluation included.
    """
    small = min(spec.recipe.batch_size, _SMALL_BATCH)
    is_gpu = device.startswith("cuda")
    clock = time.perf_counter if is_gpu else time.process_time
    if not is_gpu:
        recipe = replace(spec.recipe, batch_size=small)
        one = replace(spec, recipe=recipe, members=spec.members[:1], rungs=())
        run = CohortRun(one, torch.device(device), torch.float32)
        run.try_steps(1)  # loads libraries
        per_example = _fastest_step(run, budget_s) / small
        if per_example * spec.recipe.batch_size * len(spec.members) > budget_s:
            return per_example * run.data.examples * len(spec.members) * _EVALUATION
    at_once = members_that_fit(spec, device, partial(_step_bytes, device, torch.float32))
    run = CohortRun(
        replace(spec, members=spec.members[:at_once]), torch.device(device), torch.float32
    )
    if is_gpu:
        run.try_steps(3)  # the third is recorded
    else:
        started = clock()
        run.try_steps(1)
        each = max(clock() - started, 1e-6)
        steps = max(1, min(steps, math.floor(min(budget_s / each, steps + 1)) - 1))
    started = clock()
    per_epoch = run.try_steps(steps)
    per_step = (clock() - started) / min(steps, per_epoch)
    return per_step * per_epoch * len(spec.members) / at_once * _EVALUATION


def _fastest_step(run: CohortRun, budget_s: float) -> float:
    """Seconds of the fastest of a few steps on a CPU, because anything may slow down a single one.

    At least two steps are taken, and at most four while they fit into half of `budget_s`.
    """
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < 4 and sum(taken) < budget_s / 2):
        started = time.process_time()
        run.try_steps(1)
        taken.append(time.process_time() - started)
    return min(taken)


def _step_bytes(device: str, dtype: torch.dtype, spec: CohortSpec) -> int:
    """Peak memory that training takes on a GPU, beyond the memory in use before.

    It trains three steps, of which the last is recorded as a CUDA graph, and then the last step of
    an epoch, which runs eagerly while the graph keeps its memory.
    """
    _release_memory(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    CohortRun(spec, torch.device(device), dtype).try_steps(4, ends_epoch=True)
    torch.cuda.synchronize(device)
    used = torch.cuda.max_memory_reserved(device) - before
    _release_memory(device)
    return used
