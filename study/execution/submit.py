"""Run a study on a Ray cluster from anywhere: Ray's job submission with what the study needs."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import analysis
import study
import trainables
from study.config.loader import StudyFileError, read_study
from study.results import provenance
from study.results.schema import STAGES
from trainables.errors import InterruptedByUserError, UserError

_FILE = "study.yaml"


class SubmitError(UserError):
    """The cluster could not be asked, or the study failed there."""


def runtime_environment(folder: str) -> dict[str, Any]:
    """What the job needs on the cluster: the study file in `folder`, and this package's code.

    The package's dependencies are the cluster's own affair (cluster.yaml installs them).
    """
    code = provenance.collect()
    packages = [str(Path(str(p.__file__)).parent) for p in (study, trainables, analysis)]
    variables = {provenance.COMMIT_VARIABLE: f"{code.git_commit or ''} {code.git_dirty}"}
    if "LOGIT_BIAS_DATA" in os.environ:
        variables["LOGIT_BIAS_DATA"] = os.environ["LOGIT_BIAS_DATA"]
    return {
        "working_dir": folder,
        "py_modules": packages,
        "env_vars": variables,
        "excludes": ["__pycache__"],
    }


def submit(name: str, address: str, stages: list[str] | None = None, follow: bool = True) -> str:
    """Submit `logit-bias run` to a cluster's dashboard address, and follow its log to the end.

    Returns
    -------
    The job's id.

    Raises
    ------
    StudyFileError: the study is not valid, or keeps its results where the cluster would lose them.
    SubmitError: the cluster refused or cannot be reached, or the run failed there.
    InterruptedByUserError: the user stopped following; the study goes on.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    logging.disable(logging.INFO)  # Ray tells how it packs and uploads
    config, content = read_study(name)
    if "://" not in config.storage and not os.path.isabs(config.storage):
        raise StudyFileError(
            f"{name}: storage = {config.storage!r}: on a cluster it must be a URI or an absolute "
            "path that every node sees"
        )
    command = ["python", "-m", "study.cli", "run", _FILE, "--address", "auto"]
    for stage in stages or []:
        if stage not in STAGES:
            raise StudyFileError(f"--stage {stage}: allowed: {', '.join(STAGES)}")
        command += ["--stage", stage]
    with tempfile.TemporaryDirectory(prefix="logit-bias-submit-") as folder:
        Path(folder, _FILE).write_bytes(content)
        try:
            client = JobSubmissionClient(address)
            job = client.submit_job(
                entrypoint=" ".join(command),
                runtime_env=runtime_environment(folder),
                metadata={"study": config.name},
            )
        except (RuntimeError, ConnectionError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise SubmitError(f"{address}: {first}; is RAY_AUTH_MODE set as there?") from error
    print(f"job {job}: {config.folder_uri}", flush=True)
    if not follow:
        return str(job)

    async def print_log() -> None:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)

    try:
        asyncio.run(print_log())
    except KeyboardInterrupt:
        raise InterruptedByUserError(
            f"the study goes on; see it with `ray job logs -f {job}`, end it with "
            f"`ray job stop {job}`"
        ) from None
    status = client.get_job_status(job)
    if status != JobStatus.SUCCEEDED:
        raise SubmitError(f"job {job}: {status.value.lower()}; submit again to go on")
    return str(job)
