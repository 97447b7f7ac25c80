"""How a study uses Ray's resources: how many cohorts at a time, and what each of them gets."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.config.sections import StudyConfig
from study.execution.cluster_access import (
    NoClusterError,
    RefusedByClusterError,
    check_cluster,
    no_cluster,
    refusal,
)
from trainables.errors import UserError

ON_CPU, ON_GPU = 32, 64
"""Largest cohorts where the study file does not say. A CPU trains at most 16 networks at once and
gains nothing from more; a GPU trains 64 small networks twice as fast as 16 (docs/engine.md), and as
many of them at once as fit its memory."""

_SHARED_BY = 4
"""Cohorts that share a GPU where no model convolves: the host then needs longer to prepare a cohort
of small networks than the GPU to train it."""

_LONGEST_FOLDER = 25  # bytes; see `private_folder`
_OBJECT_STORE_BYTES = 100 * 2**20  # cohorts and their metrics are small; data sets are not in it

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # parquet is the only record
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the old output can be silenced
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class NotPrivateError(UserError):
    """Ray on this machine would be open to other users; the message is one line for the user."""


class RayDidNotStartError(UserError):
    """Ray's processes on this machine did not start; the message is one line for the user."""


class InsufficientResourcesError(UserError):
    """Ray lacks what a cohort needs; the message is one line for the user."""


@dataclass(frozen=True)
class RayResources:
    """How many cohorts train at a time, and with which resources.

    Attributes:
        workers: cohorts at a time.
        per_cohort: {resource, as in `tune.with_resources`: amount} of each cohort.
        networks_per_cohort: largest number of networks in one cohort.
        shared_gpus: number of GPUs with several cohorts each; 0 where cohorts share none.
        dashboard: address of Ray's dashboard, if this process has started it.
    """

    workers: int
    per_cohort: dict[str, float]
    networks_per_cohort: int
    shared_gpus: int = 0
    dashboard: str | None = None

    @property
    def summary(self) -> str:
        """What was chosen, in one line."""
        cpus, gpus = self.per_cohort["cpu"], self.per_cohort["gpu"]
        each = f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
        cohorts = "1 cohort" if self.workers == 1 else f"{self.workers} cohorts"
        largest = self.networks_per_cohort
        return f"{cohorts} at a time, {each} each; up to {largest} networks in a cohort"


def start_ray(
    config: StudyConfig,
    address: str | None,
    dashboard: bool = False,
    small_networks: bool = False,
) -> RayResources:
    """Start Ray on this machine, or join the cluster at `address`.

    Args:
        config: the study.
        address: a running Ray cluster; None starts Ray on this machine.
        dashboard: whether to start Ray's dashboard too; only on this machine.
        small_networks: as in `resources_for`.

    Returns:
        How the study uses Ray's resources.

    Raises:
        NoClusterError: there is no Ray cluster at `address`.
        RefusedByClusterError: the cluster asks for another token.
        RayDidNotStartError: Ray's processes on this machine did not start.
        NotPrivateError: Ray's folder or token on this machine would be open to other users.
        InsufficientResourcesError: no cohort can ever get the resources in the study file.
    """
    if not address:
        _close_to_others()  # before Ray is imported, which reads the environment
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        check_cluster(address)
        try:
            context = ray.init(address=address, **settings)
        except ConnectionError as error:
            raise NoClusterError(no_cluster(address)) from error
        except ray.exceptions.AuthenticationError as error:
            raise RefusedByClusterError(refusal(f"--address {address}")) from error
    else:
        # "local" never joins a cluster that happens to run here, and uses all of this machine.
        folder = private_folder(tempfile.gettempdir())
        try:
            context = ray.init(
                address="local",
                include_dashboard=dashboard,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **settings,
            )
        except Exception as error:  # Ray's own words, when a process of it does not start in time
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RayDidNotStartError(
                f"Ray did not start on this machine: {reason[:200]}; run the same command again, "
                f"or look into {folder}/session_latest/logs"
            ) from error
    # The study reports a failure in one line at its end; tracebacks are in Ray's session logs.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.air").setLevel(logging.CRITICAL)
    url = context.dashboard_url if dashboard and not address else None
    try:
        available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        grows = address is not None
        resources = resources_for(config, available, grows, small_networks)
        return replace(resources, dashboard=url)
    except InsufficientResourcesError:
        ray.shutdown()
        raise


def _close_to_others() -> None:
    """Set the environment so that Ray, as started here, listens on loopback and asks for a token.

    Raises:
        NotPrivateError: the token cannot be kept from other users.
    """
    # Without clusters, which Ray cannot build on Windows and macOS, a node's address is 127.0.0.1.
    # With them, it is that of the network, and every port is open to the network.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"  # other users of this machine reach loopback, too
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        return
    # Ray would make this file, too, and let everybody read it.
    path = Path.home() / ".ray" / "auth_token"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(file, "w") as stream:
                stream.write(secrets.token_hex(32))
        path.chmod(0o600)
    except OSError as error:
        raise NotPrivateError(
            f"{path}: Ray's token cannot be kept there: {error.strerror}; set RAY_AUTH_TOKEN_PATH "
            "to a file that you alone can read"
        ) from error


def private_folder(temporary: str) -> str:
    """A folder for Ray's files and sockets that no other user can enter.

    Ray opens its own folder to everybody, so it lies in one that is closed. A socket's path may
    have at most 107 bytes, of which Ray's own names take 64. A batch system's folder for temporary
    files is often longer (Ray issue 7724); it is then not used.

    Args:
        temporary: the usual folder for temporary files.

    Raises:
        NotPrivateError: the folder belongs to somebody else, or is open to others.
    """
    place = temporary if len(os.fsencode(temporary)) <= _LONGEST_FOLDER else "/tmp"
    folder = Path(place, f"lb-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotPrivateError(
            f"{folder}: must be a folder of yours that is closed to others (chmod 700); remove it, "
            "or set TMPDIR to another folder with a short name"
        )
    return str(folder / "ray")


def resources_for(
    config: StudyConfig,
    available: Mapping[str, float],
    grows: bool,
    small_networks: bool = False,
) -> RayResources:
    """How a study uses the available resources.

    Args:
        config: the study.
        available: {Ray's name of a resource: amount}.
        grows: whether the cluster may add machines when cohorts wait for them. The study file must
            then give `resources.workers` and `gpus_per_cohort`.
        small_networks: whether no model of the study fills a GPU, so that several cohorts share
            one where the study file does not say and the cores suffice.

    Returns:
        As many cohorts at a time as fit, at least one and at most `resources.workers`.

    Raises:
        InsufficientResourcesError: no cohort can ever get the resources in the study file.
    """
    section = config.resources
    gpus = section.gpus_per_cohort
    if gpus is None:
        gpus = 1.0 if available.get("GPU") else 0.0
        if gpus and small_networks:
            per_gpu = available.get("CPU", 0.0) / available["GPU"] / section.cpus_per_cohort
            gpus = 1.0 / max(1, min(_SHARED_BY, int(per_gpu)))
    networks = section.networks_per_cohort or (ON_GPU if gpus else ON_CPU)
    per_cohort: dict[str, float] = {"cpu": section.cpus_per_cohort, "gpu": gpus}
    needed: dict[str, float] = {"CPU": section.cpus_per_cohort, "GPU": gpus}
    if section.accelerator_type:
        name = f"accelerator_type:{section.accelerator_type}"
        per_cohort[name] = needed[name] = 0.001  # Ray's convention for "on such a machine"
    if grows and section.workers and section.gpus_per_cohort is not None:
        # A cluster that grows on demand starts without workers; waiting cohorts make it add them.
        return _resources(config, section.workers, per_cohort, networks)
    for name, amount in needed.items():
        if amount > available.get(name, 0.0):
            key = {"CPU": "cpus_per_cohort", "GPU": "gpus_per_cohort"}.get(name, "accelerator_type")
            value = section.accelerator_type if key == "accelerator_type" else f"{amount:g}"
            raise InsufficientResourcesError(
                f"resources.{key} = {value}: Ray has {available.get(name, 0.0):g} × {name} here; "
                "for a cluster that grows on demand, set resources.workers and gpus_per_cohort too"
            )
    fitting = min(
        int(available[name] / amount) for name, amount in needed.items() if amount >= 0.01
    )
    workers = max(1, min(fitting, section.workers or fitting))
    return _resources(config, workers, per_cohort, networks)


def _resources(
    config: StudyConfig, workers: int, per_cohort: dict[str, float], networks: int
) -> RayResources:
    """With the number of GPUs that cohorts share.

    A cohort with rungs is never split where it does not fit a GPU, so that it is not made larger.
    """
    gpus, is_shared = per_cohort["gpu"], 0 < per_cohort["gpu"] < 1 and not config.search.rungs
    shared_gpus = math.ceil(round(workers * gpus, 6)) if is_shared else 0
    return RayResources(workers, per_cohort, networks, shared_gpus)
