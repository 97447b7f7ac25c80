"""Run a study on a Ray cluster from any machine: a Ray job with everything the study needs."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.loader import StudyFileError, read_study
from study.execution.cluster_access import RefusedByClusterError, refusal
from study.results import provenance
from study.results.schema import STAGES
from trainables.errors import InterruptedByUserError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

_FILE = "study.yaml"
_NO_AGENT = "No available agent"  # part of Ray's message
_AGENT_STARTS_S, _PAUSE_S = 60.0, 2.0
_SAVING_S = 30  # a driver saves for at most 25 s after SIGTERM, `study.execution.signals`
_PACKAGES = ("study", "trainables", "analysis")


class SubmitError(UserError):
    """The cluster cannot be reached, or the study failed there."""


class LostConnectionError(SubmitError):
    """The cluster has taken the study, and cannot be reached any more."""


def runtime_environment(folder: str) -> dict[str, Any]:
    """Ray's `runtime_env` for the job: the study file, and the code of this package.

    The cluster itself has to provide the dependencies; cluster.yaml installs them.

    Args:
        folder: a local folder that holds the study file; the job's working directory.
    """
    code = provenance.collect()
    variables = {
        provenance.COMMIT_VARIABLE: f"{code.git_commit or ''} {code.git_dirty}",
        # `ray job stop` kills a job 3 s after SIGTERM by default: too soon to save cohorts.
        "RAY_JOB_STOP_WAIT_TIME_S": str(_SAVING_S),
    }
    if "LOGIT_BIAS_DATA" in os.environ:
        variables["LOGIT_BIAS_DATA"] = os.environ["LOGIT_BIAS_DATA"]
    return {
        "working_dir": folder,
        "py_modules": [_package_folder(name) for name in _PACKAGES],
        "env_vars": variables,
        "excludes": ["__pycache__"],
    }


def submit(
    name: str,
    address: str,
    stages: list[str] | None = None,
    follow: bool = True,
    trust: bool = False,
) -> str:
    """Submit `logit-bias run` to a cluster, and follow its log to the end.

    Args:
        name: a study file, or the name of a preset.
        address: the cluster's dashboard, `http://HEAD:8265`.
        stages: stages to run; None for all of them.
        follow: whether to print the job's log and wait for its end.
        trust: as of `read_study`; also for the study's folder.

    Returns:
        The job's id.

    Raises:
        StudyFileError: the study is not valid, or its storage would be lost with the cluster.
        RefusedByClusterError: the cluster asks for another token.
        SubmitError: the cluster refuses the job or cannot be reached, or the run failed there.
        LostConnectionError: the log cannot be followed to its end; the study continues.
        InterruptedByUserError: the user stopped following the log; the study continues.
    """
    config, content = read_study(name, trust)
    if "://" not in config.storage and not os.path.isabs(config.storage):
        raise StudyFileError(
            f"{name}: storage = {config.storage!r}: on a cluster it must be a URI or an absolute "
            "path that every node sees"
        )
    from ray.exceptions import AuthenticationError, RayError
    from ray.job_submission import JobStatus, JobSubmissionClient

    logging.disable(logging.INFO)  # Ray logs how it packs and uploads the code
    command = ["python", "-m", "study.cli", "run", _FILE, "--address", "auto"]
    command += ["--trust"] if trust else []
    for stage in stages or []:
        if stage not in STAGES:
            raise StudyFileError(f"--stage {stage}: allowed: {', '.join(STAGES)}")
        command += ["--stage", stage]
    with tempfile.TemporaryDirectory(prefix="logit-bias-submit-") as folder:
        Path(folder, _FILE).write_bytes(content)
        try:
            client = JobSubmissionClient(address)
            job = _when_ready(
                lambda: client.submit_job(
                    entrypoint=" ".join(command),
                    runtime_env=runtime_environment(folder),
                    metadata={"study": config.name},
                )
            )
        except AuthenticationError as error:
            raise RefusedByClusterError(refusal(f"--address {address}")) from error
        except (RayError, RuntimeError, ConnectionError, ValueError) as error:
            first = str(error).strip().splitlines()[0].rstrip(".")
            raise SubmitError(
                f"--address {address}: {first}; allowed: the dashboard of a running cluster, "
                "http://HEAD:8265"
            ) from error
    print(f"job {job}: {config.folder_uri}", flush=True)
    if not follow:
        return str(job)

    goes_on = (
        f"the study goes on as job {job}; progress: `logit-bias status "
        f"{shlex.quote(config.folder_uri)}`; follow it: `ray job logs -f --address {address} {job}`"
        f"; end it: `ray job stop --address {address} {job}`"
    )
    try:
        status = _follow(client, job)
    except KeyboardInterrupt:
        raise InterruptedByUserError(goes_on) from None
    if status is None:
        raise LostConnectionError(
            f"--address {address}: the connection is lost; if the head still runs, {goes_on}"
        )
    if status != JobStatus.SUCCEEDED:
        raise SubmitError(f"job {job}: {status.value.lower()}; submit again to resume")
    return str(job)


def _follow(client: JobSubmissionClient, job: str) -> JobStatus | None:
    """Print a job's log until it ends; its status then, or None if the connection breaks."""
    from aiohttp import ClientError  # Ray brings it

    async def print_log() -> None:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)

    try:
        asyncio.run(print_log())
        status = client.get_job_status(job)
    except (ClientError, OSError, RuntimeError):
        return None
    return status if status.is_terminal() else None


def _when_ready(submit_job: Callable[[], str]) -> str:
    """Submit a job; on a cluster that has just started, wait for the agent that takes it."""
    deadline = time.monotonic() + _AGENT_STARTS_S
    while True:
        try:
            return submit_job()
        except RuntimeError as error:
            if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)


def _package_folder(name: str) -> str:
    """Folder of an installed package, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SubmitError(f"the package {name} is not installed here")
    return str(Path(spec.origin).parent)
