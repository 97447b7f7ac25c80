"""Launch cluster-onprem.yaml on three simulated machines, from a fourth, and lose machines.

    sudo .venv/bin/python tests/cluster/onprem.py --rounds 20

The steps are those of docs/cluster.md. In each round a study is submitted from outside, a worker
loses power in the middle and comes back, and the rows must equal those of an undisturbed study.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from hosts import USER, Host, Hosts, missing

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from rows_of_a_study import contents  # noqa: E402

from study.results.folder import StudyFolder  # noqa: E402

WORKERS = ["worker1", "worker2"]
_CLUSTER = "cd ~/logit-bias && export RAY_AUTH_MODE=token &&"
_HEAD = ". ~/.bashrc; export RAY_AUTH_MODE=token PATH=~/logit-bias-env/bin:$PATH;"
_CHANGES = {
    "head_ip: 10.0.0.1": "head_ip: 10.77.0.1",
    "worker_ips: [10.0.0.2, 10.0.0.3]": "worker_ips: [10.77.0.2, 10.77.0.3]",
    "ssh_user: ubuntu": f"ssh_user: {USER}",
}

STUDY: dict[str, Any] = {
    "name": "tiny",
    "seed": 5,
    "grid": {
        "dataset": ["digits"],
        "noise": [{"kind": "symmetric", "rate": 0.4}],
        "model": [{"name": "mlp", "width": 8, "depth": 1}],
        "loss": ["mae"],
    },
    "recipe": {"epochs": 40, "batch_size": 128},
    "search": {
        "networks_per_cell": 3,
        "epsilon": {"low": 0, "high": 8},
        "lr": {"low": 0.05, "high": 1, "log": True},
    },
    "sweep": {"points": 3, "seeds": 1, "lr_points": 2},
    "confirm": {"seeds": 2, "arms": ["tuned", "analytic:activation", "zero", "ce"]},
    # More cohorts than processors; `workers` counts those of a machine that joins late, too.
    "resources": {
        "workers": 4,
        "gpus_per_cohort": 0,
        "networks_per_cohort": 2,
        "checkpoint_minutes": 0,
    },
}


class Cluster:
    """A cluster of a head and two workers, as `ray up` has made it, and the user's own machine.

    Args:
        hosts: the machines.
    """

    tunnel_command = f"{_CLUSTER} ray dashboard cluster-onprem.yaml"

    def __init__(self, hosts: Hosts) -> None:
        self.hosts, self.laptop, self.head = hosts, hosts["laptop"], hosts["head"]
        self._tunnel: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        """What a user does once: install the program, make a token, edit the cluster file."""
        self.hosts.copy_program(self.laptop)
        edits = " ".join(f"-e 's/{old}/{new}/'" for old, new in _escaped(_CHANGES).items())
        self.laptop.run(
            "cd logit-bias && ~/logit-bias-env/bin/python -m pip install --quiet "
            "-c constraints.txt -e '.[study]' && "
            "echo 'export PATH=~/logit-bias-env/bin:$PATH' >> ~/.profile && "
            f"sed -i {edits} cluster-onprem.yaml"
        )
        self.laptop.run("ray get-auth-token --generate > /dev/null")
        text = self.laptop.run("cat logit-bias/cluster-onprem.yaml").stdout
        assert all(new in text and old not in text for old, new in _CHANGES.items())

    def up(self) -> None:
        """`ray up`, and the tunnel to the dashboard."""
        self.laptop.run(f"{_CLUSTER} ray up --yes cluster-onprem.yaml")
        self.tunnel()

    def tunnel(self) -> None:
        """`ray dashboard`, until `close_tunnel`."""
        self.close_tunnel()
        self._tunnel = self.laptop.start(self.tunnel_command)
        probe = "until (exec 3<>/dev/tcp/127.0.0.1/8265) 2>/dev/null; do sleep 0.3; done"
        self.laptop.run(f"timeout 60 bash -c '{probe}'")

    def close_tunnel(self) -> None:
        """Break the connection to the dashboard."""
        if self._tunnel is not None:
            self._tunnel.terminate()
            self._tunnel.wait()  # what ssh leaves behind keeps the pipe open
        self._tunnel = None

    def down(self) -> None:
        """`ray down`."""
        self.close_tunnel()
        self.laptop.run(f"{_CLUSTER} ray down --yes cluster-onprem.yaml")

    def nodes(self) -> int:
        """Machines that are part of the Ray cluster now."""
        listed = self.head.run(f"{_HEAD} ray list nodes --filter state=ALIVE", check=False)
        return listed.stdout.count(" ALIVE ")

    def wait_for(self, nodes: int, timeout: float = 240) -> float:
        """Wait until the cluster has so many machines; the seconds it took."""
        start = time.monotonic()
        while (found := self.nodes()) != nodes:
            if time.monotonic() - start > timeout:
                log = self.head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor.log").stdout
                raise TimeoutError(f"{found} of {nodes} machines joined\n{log}")
            time.sleep(1)
        return time.monotonic() - start

    def wait_for_end(self, timeout: float = 180) -> float:
        """Wait until no machine has a process of Ray; the seconds it took."""
        start = time.monotonic()
        while left := "".join(ray_processes(host) for host in self.hosts.all[:3]):
            assert time.monotonic() - start < timeout, left
            time.sleep(1)
        return time.monotonic() - start

    def submit(self, storage: str, study: dict[str, Any] = STUDY) -> subprocess.Popen[str]:
        """`logit-bias submit` on the user's machine; the study's file is named after the folder."""
        file = f"{storage.strip('/').replace('/', '-')}.yaml"
        text = yaml.safe_dump({**study, "storage": storage})
        self.laptop.run(f"cat > {file} <<'END'\n{text}\nEND")
        address = "--address http://127.0.0.1:8265"
        return self.laptop.start(f"export RAY_AUTH_MODE=token; logit-bias submit {file} {address}")

    def folder(self, storage: str) -> Path:
        """The study's folder as the real machine sees it."""
        return self.hosts.shared / storage.removeprefix("/shared/") / "tiny"

    def rows(self, storage: str) -> list[dict[str, Any]]:
        """The study's rows."""
        rows: list[dict[str, Any]] = (
            StudyFolder(str(self.folder(storage))).read("trials").to_pylist()
        )
        return rows

    def wait_for_rows(self, process: subprocess.Popen[str], storage: str) -> None:
        """Wait for the study's first rows."""
        while not list(self.folder(storage).glob("trials/*/*")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)


def undisturbed(cluster: Cluster, study: dict[str, Any] = STUDY) -> dict[str, Any]:
    """The rows of a study, run on the user's machine."""
    text = yaml.safe_dump({**study, "storage": "/shared/undisturbed"})
    cluster.laptop.run(f"cat > here.yaml <<'END'\n{text}\nEND")
    cluster.laptop.run("logit-bias run here.yaml")
    return contents(cluster.folder("/shared/undisturbed"))


def lose_a_worker(cluster: Cluster, round_: int, expected: dict[str, Any]) -> str:
    """One round; what happened, in one line.

    Raises:
        AssertionError: a row is lost, there twice or different, or the study failed.
    """
    draw = random.Random(round_)
    storage = f"/shared/round{round_}"
    process = cluster.submit(storage)
    cluster.wait_for_rows(process, storage)
    time.sleep(draw.uniform(0, 4))
    victim = cluster.hosts[draw.choice(WORKERS)]
    rows = _rows(cluster, storage)
    assert process.poll() is None, process.communicate()[0]
    victim.kill()
    time.sleep(draw.uniform(0, 20))
    victim.boot()
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    found = contents(cluster.folder(storage))
    assert found == expected, f"round {round_}: the rows differ"
    back = cluster.wait_for(3)
    return (
        f"{victim.name} lost after {rows} of {len(expected['trials'])} networks; the study ended "
        f"with the same rows; the machine was part of the cluster {back:.0f} s after that"
    )


def join_late(cluster: Cluster, expected: dict[str, Any]) -> str:
    """`ray up` while a worker is switched off; it joins when the study is under way."""
    late = cluster.hosts[WORKERS[1]]
    late.kill()
    cluster.up()
    cluster.wait_for(2)
    storage = "/shared/late"
    process = cluster.submit(storage)
    cluster.wait_for_rows(process, storage)
    late.boot()
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    assert contents(cluster.folder(storage)) == expected
    seconds = cluster.wait_for(3)
    return f"a worker off at `ray up`: it joined, at most {seconds:.0f} s after the study's end"


def lose_the_head(cluster: Cluster, expected: dict[str, Any]) -> str:
    """The head loses power; `ray up` and `submit` again finish the study."""
    storage = "/shared/head"
    process = cluster.submit(storage)
    cluster.wait_for_rows(process, storage)
    cluster.head.kill()
    process.kill()  # what follows the log waits for a machine that is gone
    process.communicate()
    rows = _rows(cluster, storage)
    assert rows < len(expected["trials"])
    cluster.head.boot()
    cluster.up()
    cluster.wait_for(3)
    process = cluster.submit(storage)
    shown, _ = process.communicate(timeout=500)
    assert process.returncode == 0, shown
    assert contents(cluster.folder(storage)) == expected
    return f"the head lost after {rows} networks; submitted again, the study has the same rows"


def _rows(cluster: Cluster, storage: str) -> int:
    return len(list(cluster.folder(storage).glob("trials/*/*.parquet"))) * 2


def _escaped(texts: dict[str, str]) -> dict[str, str]:
    return {_escape(old): _escape(new) for old, new in texts.items()}


def _escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "[].*/" else c for c in text)


def ray_processes(host: Host) -> str:
    """Ray's processes on a machine."""
    return host.run("pgrep -a '^(gcs_server|raylet)$'", check=False).stdout


def main() -> None:
    """All rounds, with what happened on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if reason := missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with Hosts(["head", *WORKERS, "laptop"]) as hosts:
        cluster = Cluster(hosts)
        cluster.prepare()
        expected = undisturbed(cluster)
        print(f"undisturbed: {len(expected['trials'])} networks", flush=True)
        print(join_late(cluster, expected), flush=True)
        for round_ in range(rounds):
            print(f"round {round_}: {lose_a_worker(cluster, round_, expected)}", flush=True)
        print(lose_the_head(cluster, expected), flush=True)
        cluster.down()
        print(f"ray down: the head has stopped; {cluster.wait_for_end():.0f} s later the workers")


if __name__ == "__main__":
    main()
