"""How long a study will take: a few real training steps of each group, times what is planned."""

from __future__ import annotations

import os

from study.planning.plan import Network, Plan, cohort_spec
from trainables.engine.runtime import configure_process
from trainables.engine.trainer import seconds_per_epoch

_TOGETHER = 8  # networks in the cohort that is timed


def estimated_hours(plan: Plan) -> float:
    """Hours for the whole study on this machine's processors, Ray's start not counted.

    Trains some ten steps a group; writes nothing.

    Raises
    ------
    ValueError: a data set that is not here.
    """
    configure_process()
    config = plan.config
    workers = config.resources.workers or os.cpu_count() or 1
    searching = rest = 0.0  # seconds of one worker
    for group in dict.fromkeys(cell.group_id for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.group_id == group]
        some = [
            Network("search", cell, cell.losses[0], arm.epsilon or 0.0, config.search.lr.low, i)
            for cell in cells
            for i, arm in enumerate(plan.arms[cell])
        ][:_TOGETHER]
        arms = sum(len(plan.arms[cell]) for cell in cells)
        sweep = sum(len(plan.sweep_networks(cell)) for cell in cells)
        each = seconds_per_epoch(cohort_spec(config, some)) / len(some) * config.recipe.epochs
        searching += arms * config.search.networks_per_cell * each
        rest += (arms * _confirm_seeds(plan) + sweep) * each
    if config.search.worker_hours is not None:
        searching = min(searching, 3600 * config.search.worker_hours)
    return (searching + rest) / workers / 3600


def _confirm_seeds(plan: Plan) -> int:
    return plan.config.confirm.seeds if plan.config.confirm else 0
