"""A SLURM cluster of simulated machines: a controller, and nodes with two processors each.

Debian's packages slurm-wlm and munge must be installed on the real machine; no daemon of theirs
runs there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from hosts import Host, Hosts

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
_CONF = """
ClusterName=simulated
SlurmctldHost=control
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=30
KillWait=30
MinJobAge=86400
NodeName={nodes} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class Slurm:
    """SLURM on machines.

    Args:
        hosts: the machines; the one called `control` is no node.
        nodes: names of the nodes.
    """

    def __init__(self, hosts: Hosts, nodes: Sequence[str]) -> None:
        self.hosts, self.nodes, self.control = hosts, nodes, hosts["control"]

    def start(self) -> None:
        """Start the daemons on all machines and wait until the nodes are idle."""
        conf = _CONF.format(nodes=",".join(self.nodes), cpus=os.cpu_count())
        (self.hosts.shared / "munge.key").write_bytes(os.urandom(128))
        for host in self.hosts.all:
            host.run(
                f"cat > /etc/slurm/slurm.conf <<'END'\n{conf}END\n"
                # Not used here, but slurmd ends where it cannot tell the version of cgroups.
                "echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf\n"
                "install -o munge -m 400 /shared/munge.key /etc/munge/munge.key",
                user="root",
            )
            self.start_daemons(host)
        (self.hosts.shared / "munge.key").unlink()
        end = time.monotonic() + 60
        while self.run("sinfo -h -o %D -t idle").split() != [str(len(self.nodes))]:
            assert time.monotonic() < end, self.run("sinfo -N -l")
            time.sleep(0.5)

    def start_daemons(self, host: Host) -> None:
        """The daemons of one machine, after it has booted."""
        daemon = "slurmctld" if host is self.control else "slurmd"
        host.run(
            "mkdir -p /run/munge /var/spool/slurmctld /var/spool/slurmd /var/log/munge "
            "/var/lib/munge; chown munge: /run/munge /var/log/munge /var/lib/munge; "
            f"su -s /bin/sh munge -c munged && {daemon}",
            user="root",
        )

    def run(self, command: str) -> str:
        """A command of an ordinary user on the controller."""
        return self.control.run(command).stdout

    def state(self, job: str) -> str:
        """A job's state, as `scontrol show job` names it."""
        shown = self.run(f"scontrol show job {job} --oneliner")
        return next(item[9:] for item in shown.split() if item.startswith("JobState="))

    def wait(self, job: str, *states: str, timeout: float = 300) -> str:
        """Wait until a job is in one of the states."""
        end = time.monotonic() + timeout
        while (state := self.state(job)) not in states:
            if time.monotonic() > end:
                raise TimeoutError(self.run(f"scontrol show job {job}; cat *.out"))
            time.sleep(0.3)
        return state

    def wait_for_no_files(self, timeout: float = 60) -> None:
        """Wait until no job has a file in `/tmp` of a node."""
        end = time.monotonic() + timeout
        while left := "".join(
            self.hosts[n].run("ls -d /tmp/logit-bias-*", check=False).stdout for n in self.nodes
        ):
            assert time.monotonic() < end, left
            time.sleep(0.5)
