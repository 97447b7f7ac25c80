"""The machines that the tests of clusters simulate; without root or ssh they are skipped."""

from collections.abc import Iterator
from pathlib import Path

import by_hand
import pytest
import simulated_slurm
from by_hand import ByHand
from hosts import Hosts, missing
from onprem import WORKERS, Cluster
from simulated_slurm import Slurm


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A user's machine and three others, prepared for `ray up`."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(["head", *WORKERS, "laptop"]) as hosts:
        made = Cluster(hosts)
        made.prepare()
        yield made


@pytest.fixture(scope="module")
def made_by_hand() -> Iterator[ByHand]:
    """A cluster of two machines, and the user's own, that runs as docs/cluster.md says."""
    if reason := missing():
        pytest.skip(reason)
    with Hosts(by_hand.NAMES) as hosts:
        made = ByHand(hosts)
        made.prepare()
        made.up()
        yield made
        made.down()
        made.wait_for_end()


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A controller and two nodes; the program is installed on all, `/shared/home` is on all."""
    if reason := missing(*simulated_slurm.PROGRAMS):
        pytest.skip(reason)
    with Hosts(["control", "node1", "node2"]) as hosts:
        for host in hosts.all:
            hosts.copy_program(host)
            host.run(
                "cd logit-bias && ~/logit-bias-env/bin/python -m pip install --quiet "
                "-c constraints.txt -e '.[study]' && "
                "echo 'export PATH=~/logit-bias-env/bin:$PATH' >> ~/.profile"
            )
        Path(hosts.shared, "home").mkdir(mode=0o777)
        Path(hosts.shared, "home").chmod(0o777)
        made = Slurm(hosts, ["node1", "node2"])
        made.start()
        yield made
