"""A Ray cluster that is made by hand, with the commands that docs/cluster.md gives for it."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

from hosts import ROOT, Host
from onprem import STUDY, Cluster

PAGE = (ROOT / "docs" / "cluster.md").read_text()
NAMES = ["head", "worker", "laptop"]

# Each cohort takes a whole machine and some seconds, and is saved only when the study stops.
LONG: dict[str, Any] = {
    **STUDY,
    "recipe": {**STUDY["recipe"], "epochs": 1500},
    "sweep": None,
    "confirm": {"seeds": 2, "arms": ["tuned", "analytic:activation"]},
    "resources": {
        "workers": 2,
        "gpus_per_cohort": 0,
        "cpus_per_cohort": os.cpu_count(),
        "networks_per_cohort": 2,
        "checkpoint_minutes": None,
    },
}


def commands(who: str) -> str:
    """The commands of the page for some machines, as one command of a shell.

    Args:
        who: how the comment above the commands begins.
    """
    section = PAGE[PAGE.index("do its steps by hand") :]
    block = re.search(r"^```\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    found = re.search(rf"^# {who}.*\n((?:[^#\n].*\n)+)", block[1], flags=re.MULTILINE)
    assert found is not None, f"the page has no commands for: {who}"
    return " && ".join(found[1].replace("HEAD", "head").splitlines())


VARIABLES = commands("on every machine, in a clone").rpartition(" && ")[2]


class ByHand(Cluster):
    """A head and a worker that joined it, and the user's own machine.

    Args:
        hosts: the machines, called as in `NAMES`.
    """

    tunnel_command = f"exec {commands('on your own machine')}"

    def prepare(self) -> None:
        """Install the program on every machine."""
        for host in self.hosts.all:
            self.hosts.copy_program(host)
            # The environment is active, and the machines have seen each other's keys.
            host.run(
                "echo 'export PATH=~/logit-bias-env/bin:$PATH' >> ~/.profile; "
                "echo 'StrictHostKeyChecking accept-new' > ~/.ssh/config"
            )
            host.run(f"cd logit-bias && {commands('on every machine, in a clone')}")

    def up(self) -> None:
        """Start Ray on both machines; the user's machine gets the token, and the tunnel."""
        self.shell(self.head, commands("on one of them"))
        self.shell(self.worker, commands("on the others"))
        token, _, _ = commands("on the others").rpartition(" && ")
        self.laptop.run(token)
        self.wait_for(2)
        self.tunnel()

    def down(self) -> None:
        """Stop Ray on both machines."""
        self.close_tunnel()
        for host in (self.worker, self.head):
            self.shell(host, commands("on every machine, at the end"))

    def close_tunnel(self) -> None:
        """Break the connection to the dashboard."""
        self.laptop.run("kill $(pgrep -x ssh)", check=False)
        super().close_tunnel()

    @property
    def worker(self) -> Host:
        """The machine that joined the head."""
        return self.hosts["worker"]

    def shell(self, host: Host, command: str) -> str:
        """Run a command in a shell with the variables of the page; what it prints."""
        return host.run(f"{VARIABLES} && {{ {command}; }}").stdout

    def start(self, host: Host, command: str) -> subprocess.Popen[str]:
        """Start a command like `shell`."""
        return host.start(f"{VARIABLES} && {{ {command}; }}")

    def interrupt(self, host: Host) -> None:
        """Ctrl-C where `logit-bias` runs on a machine."""
        host.run("kill -INT $(pgrep -x logit-bias)")
