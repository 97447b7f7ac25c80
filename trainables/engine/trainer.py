"""Train a cohort: K networks of one group side by side on the same batches in the same order.

A member's trajectory follows from its own settings and seeds alone. It does not depend on how many
neighbours it has, who they are or how they fare; a study may therefore pack networks into cohorts
as the hardware likes.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial

import torch

from trainables.engine.capacity import members_that_fit
from trainables.engine.cohort import CohortRun, State
from trainables.engine.runtime import deterministic
from trainables.engine.spec import (
    CohortSpec,
    DataSpec,
    Member,
    MemberResult,
    ModelSpec,
    Recipe,
    Rung,
)

__all__ = [
    "CohortRun",
    "CohortSpec",
    "DataSpec",
    "Member",
    "MemberResult",
    "ModelSpec",
    "Recipe",
    "Rung",
    "State",
    "train",
]

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

    Members that do not fit the device together are trained a part at a time, with the same results.

    Parameters
    ----------
    save: called after each epoch with what gives a state (plain data and CPU tensors, for
        `torch.save`) from which `train` goes on when it is given back as `saved`.

    Returns
    -------
    One result a member, in the order of `spec.members`. Metrics are of the last epoch unless
    named `best`. A diverged member has status `diverged` and floor accuracy 1/classes, the
    accuracy of guessing, from the epoch in which it diverged; one that lost its race has status
    `pruned`.

    Raises
    ------
    ValueError: unknown loss, model, data set, noise kind or augmentation; a race that does not fit
        the device.
    """
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
    finished = [MemberResult(**result) for result in saved["finished"]] if saved else []
    running: State | None = saved["running"] if saved else None
    seconds_before = saved["seconds"] if saved else 0.0
    started = time.perf_counter()
    together: int | None = running["together"] if running else None

    def keep(together: int, run: CohortRun) -> None:
        if save:
            save(
                lambda: {
                    "finished": [asdict(result) for result in finished],
                    "running": {**run.state(), "together": together},
                    "seconds": seconds_before + time.perf_counter() - started,
                }
            )

    while len(finished) < len(spec.members):
        _release_memory(device)  # of the networks before
        if together is None:
            together = members_that_fit(spec, device, partial(_step_bytes, device, dtype))
        part = replace(spec, members=spec.members[len(finished) :][:together])
        try:
            finished += _train_part(part, device, dtype, running, partial(keep, together))
        except torch.cuda.OutOfMemoryError as error:
            size = len(part.members)
            if spec.rungs:
                raise ValueError(
                    f"{size} networks together do not fit {device}, and a race is never split; "
                    "let fewer points race (search.points_per_round) or fewer arms share a cohort "
                    "(resources.networks_per_cohort)"
                ) from error
            if size == 1:
                raise
            together = size // 2
            _log.warning("%d networks together do not fit %s; trying %d", size, device, together)
        running = None
    cohort = {
        "wall_s": seconds_before + time.perf_counter() - started,
        "networks_in_cohort": len(spec.members),
    }
    return [replace(result, metrics={**result.metrics, **cohort}) for result in finished]


def _train_part(
    spec: CohortSpec,
    device: str,
    dtype: torch.dtype,
    running: State | None,
    keep: Callable[[CohortRun], None],
) -> list[MemberResult]:
    run = CohortRun(spec, torch.device(device), dtype)
    if running:
        run.load_state(running)
    while not run.is_done:
        run.train_epoch()
        keep(run)
    return run.results()


def _release_memory(device: str) -> None:
    if device.startswith("cuda"):
        gc.collect()
        with suppress(RuntimeError):  # some versions of torch refuse after a failed recording
            torch.cuda.empty_cache()


def seconds_per_epoch(spec: CohortSpec, device: str = "cpu", steps: int = 8) -> float:
    """Seconds that an epoch of the whole cohort takes, by a few timed steps."""
    together = members_that_fit(spec, device, partial(_step_bytes, device, torch.float32))
    run = CohortRun(
        replace(spec, members=spec.members[:together]), torch.device(device), torch.float32
    )
    run.try_steps(3)  # on a GPU the third is recorded
    started = time.perf_counter()
    per_epoch = run.try_steps(steps)
    taken = (time.perf_counter() - started) / min(steps, per_epoch)
    return taken * per_epoch * len(spec.members) / together * _EVALUATION


def _step_bytes(device: str, dtype: torch.dtype, spec: CohortSpec) -> int:
    """Peak memory that training takes on a GPU, beyond what was in use before.

    Three steps, the last of them recorded, then one of an epoch's end: it runs as it is first, and
    the recorded one keeps its memory meanwhile.
    """
    _release_memory(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    CohortRun(spec, torch.device(device), dtype).try_steps(4, to_the_end=True)
    torch.cuda.synchronize(device)
    used = torch.cuda.max_memory_reserved(device) - before
    _release_memory(device)
    return used
