"""What Ray offers a study: how many cohorts train at a time, and what each is given."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import Any

from study.config.sections import StudyConfig
from trainables.errors import UserError

_OBJECT_STORE_BYTES = 100 * 2**20  # cohorts and their metrics are small; the data is not in it

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # parquet is the only record
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old output can be silenced
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class InsufficientResourcesError(UserError):
    """The machines lack what a cohort asks for; the message is one line for the user."""


@dataclass(frozen=True)
class RayResources:
    """`workers` cohorts at a time, each with these resources in Ray's terms.

    `dashboard`: address of Ray's dashboard, where this process has started it.
    """

    workers: int
    per_cohort: dict[str, float]
    dashboard: str | None = None


def start_ray(config: StudyConfig, address: str | None, dashboard: bool = False) -> RayResources:
    """Start Ray on this machine, or join the cluster at `address`.

    Raises
    ------
    InsufficientResourcesError: no cohort would ever get what the study file asks for.
    """
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        started = ray.init(address=address, **settings)
    else:
        # "local" never joins a cluster that happens to run here, and takes all of this machine.
        started = ray.init(
            address="local",
            include_dashboard=dashboard,
            object_store_memory=_OBJECT_STORE_BYTES,
            **settings,
        )
    # What goes wrong is told in one line at the end; tracebacks stay in Ray's session logs.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.air").setLevel(logging.CRITICAL)
    url = started.dashboard_url if dashboard and not address else None
    try:
        found = machines(config, ray.cluster_resources(), grows=address is not None)
        return replace(found, dashboard=url)
    except InsufficientResourcesError:
        ray.shutdown()
        raise


def machines(config: StudyConfig, there: dict[str, float], grows: bool) -> RayResources:
    """How a study uses what is there.

    Parameters
    ----------
    there: {Ray's name of a resource: how much}.
    grows: whether more machines may come when cohorts wait for them; the study file must then say
        what to wait for (`resources.workers`, and `gpus_per_cohort` for GPUs).

    Raises
    ------
    InsufficientResourcesError: no cohort would ever get what the study file asks for.
    """
    asked = config.resources
    gpus = asked.gpus_per_cohort
    if gpus is None:
        gpus = 1.0 if there.get("GPU") else 0.0
    per_cohort = {"cpu": asked.cpus_per_cohort, "gpu": gpus}
    wanted = {"CPU": asked.cpus_per_cohort, "GPU": gpus}
    if asked.accelerator_type:
        name = f"accelerator_type:{asked.accelerator_type}"
        per_cohort[name] = wanted[name] = 0.001  # Ray's way of saying "on such a machine"
    if grows and asked.workers and asked.gpus_per_cohort is not None:
        # A cluster that grows on demand has no workers yet; cohorts that wait bring them.
        return RayResources(asked.workers, per_cohort)
    for name, amount in wanted.items():
        if amount > there.get(name, 0.0):
            key = {"CPU": "cpus_per_cohort", "GPU": "gpus_per_cohort"}.get(name, "accelerator_type")
            value = asked.accelerator_type if key == "accelerator_type" else f"{amount:g}"
            raise InsufficientResourcesError(
                f"resources.{key} = {value}: Ray has {there.get(name, 0.0):g} × {name} here; for a "
                "cluster that grows on demand say resources.workers and gpus_per_cohort too"
            )
    room = min(int(there[name] / amount) for name, amount in wanted.items() if amount >= 0.01)
    return RayResources(max(1, min(room, asked.workers or room)), per_cohort)
