"""Run a study under SLURM: one batch script that starts Ray inside the job's own allocation."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from study.config.loader import StudyFileError, read_study
from study.execution.slurm_options import SlurmOptionError, check_further_option, seconds_of
from study.results.schema import STAGES
from trainables.errors import UserError

_WARNING_S = 180  # SLURM may send the signal up to 60 s early, and is never late
_LEAST_MINUTES = 5  # the warning, the 60 s, and Ray's start: a shorter job may never train
_CPUS_PER_GPU = 4  # a cohort trains on one; the others decode images, run Ray and the driver
_OBJECT_STORE_BYTES = 200 * 2**20  # cohorts and their metrics are small; data sets are not in it


class SlurmError(UserError):
    """SLURM refuses the job, or is not installed here."""


@dataclass(frozen=True)
class SlurmOptions:
    """What a job asks SLURM for.

    Attributes:
        nodes: number of nodes, at least 1.
        gpus_per_node: GPUs of each node.
        cpus_per_node: cores of each node; None for 4 per GPU, or whole nodes if there is no GPU.
        time: time limit of one job, as sbatch writes it; None for the partition's own.
        partition: the partition; None for the default one.
        more: further options of sbatch, such as `--account=x`.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_node: int | None = None
    time: str | None = None
    partition: str | None = None
    more: Sequence[str] = ()

    def directives(self) -> list[str]:
        """The options as sbatch reads them.

        Raises:
            SlurmOptionError: an option is out of its range.
        """
        for name, value, least in (
            ("nodes", self.nodes, 1),
            ("gpus-per-node", self.gpus_per_node, 0),
            ("cpus-per-node", self.cpus_per_node, 1),
        ):
            if value is not None and value < least:
                raise SlurmOptionError(f"--{name} {value}: allowed: {least} or more")
        if self.time is not None:
            _check_time(self.time)
        for text in (self.partition or "", *self.more):
            if "\n" in text:
                raise SlurmOptionError(f"{text!r}: an option of sbatch is one line")
        for option in self.more:
            check_further_option(option, self.gpus_per_node)
        cpus = self.cpus_per_node or _CPUS_PER_GPU * self.gpus_per_node
        return [
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            *([f"--gpus-per-node={self.gpus_per_node}"] if self.gpus_per_node else []),
            f"--cpus-per-task={cpus}" if cpus else "--exclusive",
            *([f"--time={self.time}"] if self.time else []),
            *([f"--partition={self.partition}"] if self.partition else []),
            *self.more,
        ]


def _check_time(time: str) -> None:
    seconds = seconds_of(time)
    if seconds is None:
        raise SlurmOptionError(
            f"--time {time}: allowed: H:MM:SS, D-HH:MM:SS or a number of minutes"
        )
    if 0 < seconds < 60 * _LEAST_MINUTES:
        raise SlurmOptionError(
            f"--time {time} is {seconds // 60} min {seconds % 60} s: allowed: {_LEAST_MINUTES} "
            f"minutes or more, because the study is saved {_WARNING_S // 60} to "
            f"{_WARNING_S // 60 + 1} minutes before the limit"
        )


def batch_script(
    study: str, options: SlurmOptions, stages: Sequence[str] = (), trust: bool = False
) -> tuple[str, str]:
    """The batch script of a study.

    Args:
        study: a study file, or the name of a preset.
        options: what to ask SLURM for.
        stages: stages to run; none for all of them.
        trust: as of `read_study`; also for the study's folder.

    Returns:
        A name for the script's file, and its content.

    Raises:
        StudyFileError: the study is not valid, or a stage is unknown.
        SlurmOptionError: an option is out of its range.
    """
    config, _ = read_study(study, trust)
    command = ["python", "-m", "study.cli", "run"]
    command.append(str(Path(study).resolve()) if Path(study).is_file() else study)
    command += ["--trust"] if trust else []
    for stage in stages:
        if stage not in STAGES:
            raise StudyFileError(f"--stage {stage}: allowed: {', '.join(STAGES)}")
        command += ["--stage", stage]
    template = Template((resources.files("study.execution") / "slurm.sh").read_text())
    text = template.substitute(
        directives="\n".join(f"#SBATCH {option}" for option in options.directives()),
        job_name=f"logit-bias-{config.name}",
        warning_s=_WARNING_S,
        bin=shlex.quote(str(Path(sys.executable).parent)),
        folder=shlex.quote(str(Path.cwd())),
        gpu_option=f"--num-gpus={options.gpus_per_node}",
        object_store_bytes=_OBJECT_STORE_BYTES,
        run=shlex.join(command),
    )
    return f"logit-bias-{config.name}.sbatch", text


def submit_to_slurm(
    study: str, options: SlurmOptions, stages: Sequence[str] = (), trust: bool = False
) -> str:
    """Write a study's batch script into the current folder, and submit it.

    Args:
        study: a study file, or the name of a preset.
        options: what to ask SLURM for.
        stages: stages to run; none for all of them.
        trust: as of `read_study`; also for the study's folder.

    Returns:
        The job's id.

    Raises:
        StudyFileError: the study is not valid, or a stage is unknown.
        SlurmOptionError: an option is out of its range.
        SlurmError: SLURM refuses the job, or is not installed here.
    """
    name, text = batch_script(study, options, stages, trust)
    if shutil.which("sbatch") is None:
        raise SlurmError("sbatch is not installed here; --dry-run prints the script")
    Path(name).write_text(text)
    done = subprocess.run(["sbatch", "--parsable", name], capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise SlurmError(f"{name}: {reason or f'sbatch ended with {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]
