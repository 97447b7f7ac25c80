"""Options of sbatch: time limits, and what a user may add to the batch script of a study."""

from __future__ import annotations

import re
import shlex

from trainables.errors import BadInputError

_DAYS = re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?")
_NO_DAYS = re.compile(r"((?P<hours>\d+):(?=\d+:))?(?P<minutes>\d+)(:(?P<seconds>\d+))?")

_BY_OPTION = {
    **{"nodes": "--nodes", "gpus-per-node": "--gpus-per-node", "time": "--time"},
    **{"cpus-per-task": "--cpus-per-node", "partition": "--partition"},
}
"""Options of sbatch for which `submit` has its own; what the script starts depends on them."""

_BY_SCRIPT = {
    "signal": "the script is warned before the time limit and saves the study",
    "requeue": "the script queues the job again",
    "no-requeue": "the script queues the job again",
    "no-kill": "the script continues without a lost node",
    "ntasks": "the script starts Ray once on each node",
    "ntasks-per-node": "the script starts Ray once on each node",
    "array": "only one job at a time may run a study",
    "wrap": "the script is the job",
}
"""Options of sbatch that the script needs as they are, and why."""

_SHORT = {
    **{"N": "nodes", "t": "time", "c": "cpus-per-task", "p": "partition"},
    **{"k": "no-kill", "n": "ntasks", "a": "array", "G": "gpus"},
}


class SlurmOptionError(BadInputError):
    """An option that SLURM or the script would refuse; the message is one line for the user."""


def seconds_of(time: str) -> int | None:
    """A time limit in seconds.

    Args:
        time: as sbatch reads it: M, M:SS, H:MM:SS, D-H, D-H:MM or D-H:MM:SS; 0 is no limit.

    Returns:
        None if sbatch would not read it.

    Example:
        >>> [seconds_of(t) for t in ("90", "8:00", "8:00:00", "1-12", "8h")]
        [5400, 480, 28800, 129600, None]
    """
    found = _DAYS.fullmatch(time) or _NO_DAYS.fullmatch(time)
    if found is None:
        return None
    units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
    parts = found.groupdict()
    return sum(size * int(parts.get(name) or 0) for name, size in units.items())


def check_further_option(option: str, gpus_per_node: int) -> None:
    """Check that an option which a user adds leaves the script what it needs.

    Args:
        option: as on a line `#SBATCH …`, which may hold several options.
        gpus_per_node: the GPUs that the script tells Ray of.

    Raises:
        SlurmOptionError: it does not.
    """
    try:
        words = shlex.split(option)
    except ValueError as error:
        raise SlurmOptionError(f"--sbatch {option}: {error}") from error
    if not words or not words[0].startswith("-"):
        raise SlurmOptionError(f"--sbatch {option}: allowed: an option, as --account=NAME")
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if not word.startswith("--"):
            name = _SHORT.get(word[1:2], "") if word.startswith("-") else ""
        for known, own in _BY_OPTION.items():
            if _means(name, known):
                raise SlurmOptionError(f"--sbatch {option}: use {own} of this command")
        for known, reason in _BY_SCRIPT.items():
            if _means(name, known):
                raise SlurmOptionError(f"--sbatch {option}: not allowed: {reason}")
        asks_for_gpus = name.startswith("gpus") or (name == "gres" and "gpu" in option)
        if asks_for_gpus and not gpus_per_node:
            raise SlurmOptionError(
                f"--sbatch {option}: give --gpus-per-node too, which tells Ray of the GPUs"
            )


def _means(name: str, known: str) -> bool:
    """Whether sbatch reads `name` as `known`: it takes unique beginnings of names."""
    return name == known or (len(name) > 2 and known.startswith(name))
