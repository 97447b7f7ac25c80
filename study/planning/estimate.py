"""How long a study will take: a few real training steps per group, times what is planned."""

from __future__ import annotations

import os

import torch

from study.planning.cells import Network
from study.planning.cohort_specs import cohort_spec
from study.planning.plan import Plan
from study.results.schema import Stage
from trainables.engine.runtime import configure_process
from trainables.engine.trainer import seconds_per_epoch

_TIMED_NETWORKS = 8  # networks in the cohort that is timed
_BUDGET_S = 4.0  # of all timed steps together


def estimated_hours(plan: Plan, device: str = "cpu") -> float:
    """Hours for the whole study on this machine's processors or GPUs, without the start of Ray.

    Trains a few steps per group; writes nothing.

    Args:
        plan: the study's plan.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: a data set is not on this machine, or the machine lacks the precision.
    """
    configure_process()
    config = plan.config
    units = torch.cuda.device_count() if device == "cuda" else os.cpu_count()
    workers = config.resources.workers or units or 1
    search_s = other_s = 0.0  # seconds of one worker
    groups = dict.fromkeys(cell.group_id for cell in plan.cells)
    for group in groups:
        cells = [cell for cell in plan.cells if cell.group_id == group]
        timed = [
            Network(Stage.SEARCH, cell, cell.losses[0], arm.epsilon or 0.0, config.search.lr.low, 0)
            for cell in cells
            for arm in plan.arms[cell]
        ][:_TIMED_NETWORKS]
        spec = cohort_spec(config, timed)
        epoch_s = seconds_per_epoch(spec, device, budget_s=_BUDGET_S / len(groups))
        each_s = epoch_s / len(timed) * config.recipe.epochs
        search_s += sum(map(plan.search_points, cells)) * each_s
        others = [len(plan.sweep_networks(cell)) + plan.confirm_networks(cell) for cell in cells]
        other_s += sum(others) * each_s
    if config.search.worker_hours is not None:
        search_s = min(search_s, 3600 * config.search.worker_hours)
    return (search_s + other_s) / workers / 3600
