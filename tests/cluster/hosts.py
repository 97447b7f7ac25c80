"""Simulated machines on one: own network, file system, processes and name, and an ssh server each.

A machine is a set of Linux namespaces. Its disk is an overlay over the file system of the real
machine, and keeps its content when the machine is killed. The machines are connected by a bridge
that lies in a network namespace of its own, so that nothing changes in the network of the real
machine. `/shared` is one folder on all of them. They share the cores, the kernel and its clock.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
USER = "lb"
PROGRAMS = ("ip", "unshare", "setpriv", "nsenter", "ssh", "ssh-keygen", "/usr/sbin/sshd", "rsync")
_BOOT_S = 20.0
_COPIED = (
    *("study", "trainables", "analysis", "README.md"),
    *("pyproject.toml", "constraints.txt", "cluster-onprem.yaml"),
)


def missing(*more: str) -> str | None:
    """Why this machine cannot simulate others; None if it can.

    Args:
        more: further programs that a test needs.
    """
    if os.geteuid():
        return "simulated machines need root"
    if absent := [name for name in (*PROGRAMS, *more) if shutil.which(name) is None]:
        return f"not installed: {', '.join(absent)}"
    probe = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"]
    if subprocess.run(probe, capture_output=True).returncode:
        return "the kernel gives no namespaces here"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return None


class Host:
    """One machine.

    Args:
        hosts: the network that it belongs to.
        name: its name.
        address: its address in 10.77.0.0/24.
    """

    def __init__(self, hosts: Hosts, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._hosts = hosts
        self._namespace = f"{hosts.prefix}-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self.disk = hosts.folder / name
        for folder in ("upper", "work", "root"):
            (self.disk / folder).mkdir(parents=True)

    def boot(self) -> None:
        """Switch the machine on and wait for its ssh server."""
        # A mount of its earlier life may still be ending.
        for folder in (self.disk / "work").iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        _run("ip", "netns", "add", self._namespace)
        self._hosts.connect(self._namespace, self.address)
        machine = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        # It does not outlive this process, whatever ends that.
        enter = ["setpriv", "--pdeathsig=KILL", "ip", "netns", "exec", self._namespace]
        boot = ["bash", str(Path(__file__).with_name("boot.sh")), str(self.disk), self.name]
        log = (self.disk / "console.log").open("ab")
        self._process = subprocess.Popen(
            [*enter, *machine, *boot, str(self._hosts.shared), *self._hosts.read_only],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + _BOOT_S
        while self.run("test -e /run/booted", user="root", check=False).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"{self.name}: {(self.disk / 'console.log').read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Power off: the others get no more packets from it, not even the ends of connections."""
        self._hosts.disconnect(self._namespace)
        if self._process is not None:
            subprocess.run(["kill", "-9", str(self._first_process())], check=True)
            self._process.wait()
        self._process = None
        _run("ip", "netns", "del", self._namespace)

    @property
    def is_on(self) -> bool:
        """Whether the machine runs."""
        return self._process is not None

    def run(
        self, command: str, user: str = USER, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a login shell of the machine, without a terminal."""
        if not self._is_ready():
            return subprocess.CompletedProcess(command, 255, "", "off")
        done = subprocess.run(
            self.shell(command, user), capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {command}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command like `run`; its output is one stream."""
        return subprocess.Popen(
            self.shell(command, USER),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def shell(self, command: str, user: str) -> list[str]:
        """The command line, on the real machine, of a command on this one."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        # Shells let background jobs ignore SIGINT, which pytest may be.
        clean = ["env", "--default-signal=INT", "-i", path]
        enter = ["nsenter", f"--target={self._first_process()}", "--mount", "--uts", "--ipc"]
        login = ["su", "-", user, "-s", "/bin/bash", "-c", command]
        return [*clean, *enter, "--net", "--pid", "--root", "--wd", *login]

    def _is_ready(self) -> bool:
        return self.is_on and self._first_process() is not None

    def _first_process(self) -> int | None:
        """Process 1 of the machine, as the real machine numbers it."""
        if self._process is None:
            return None
        file = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        children = file.read_text().split() if file.exists() else []
        return int(children[0]) if children else None


class Hosts:
    """Machines on one network; a context manager that removes every trace of them.

    Args:
        names: their names; the first has the address 10.77.0.1.
        python: the environment whose packages they use.
    """

    def __init__(self, names: Sequence[str], python: str = sys.prefix) -> None:
        self.prefix = f"lb{uuid.uuid4().hex[:6]}"
        self.folder = Path(tempfile.mkdtemp(prefix="logit-bias-hosts-"))
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.folder))
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o1777)
        self.read_only = [python, sys.base_prefix, str(ROOT)]
        self._switch = f"{self.prefix}-switch"
        self._python = python
        self._links = 0
        _run("ip", "netns", "add", self._switch)
        self._in_switch("link", "add", "bridge", "type", "bridge")
        self._in_switch("link", "set", "bridge", "up")
        self.all = [Host(self, name, f"10.77.0.{i}") for i, name in enumerate(names, 1)]

    def __enter__(self) -> Hosts:
        try:
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key")],
                check=True,
            )
            for host in self.all:
                host.boot()
                self._install(host)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.all if host.name == name)

    def close(self) -> None:
        """Kill all machines; remove their network and disks."""
        for host in self.all:
            if host.is_on:
                host.kill()
        _run("ip", "netns", "del", self._switch)
        _run("umount", "-l", str(self.folder))
        self.folder.rmdir()

    def connect(self, namespace: str, address: str) -> None:
        """Connect a machine's namespace to the bridge."""
        self._links += 1
        port = f"port{self._links}"
        self._in_switch("link", "add", port, "type", "veth", "peer", "eth0", "netns", namespace)
        self._in_switch("link", "set", port, "master", "bridge", "up")
        for arguments in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0")):
            last = ["up"] if arguments[0] == "link" else []
            _run("ip", "-n", namespace, *arguments, *last)

    def disconnect(self, namespace: str) -> None:
        """Cut a machine's cable."""
        _run("ip", "-n", namespace, "link", "del", "eth0")

    def _in_switch(self, *arguments: str) -> None:
        _run("ip", "-n", self._switch, *arguments)

    def _install(self, host: Host) -> None:
        """What a machine has before the program comes: a user, ssh keys, and an environment.

        The environment finds the packages of the one that runs this script. pip then installs the
        program alone, and needs no network.
        """
        key, public = (self.folder / name for name in ("key", "key.pub"))
        names = "\n".join(f"{other.address} {other.name}" for other in self.all)
        packages = Path(self._python, "lib", _python_name(), "site-packages")
        mounts = [Path(name) for name in self.read_only]
        parents = {str(p) for mount in mounts for p in mount.parents}
        # The environment usually lies in the repository, which is itself mounted read-only.
        parents -= {p for p in parents if any(Path(p).is_relative_to(m) for m in mounts)}
        host.run(
            f"""set -e; chmod a+x {" ".join(parents)}
            echo '127.0.0.1 localhost\n{names}' > /etc/hosts
            rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -A
            printf '[global]\nno-index = true\nno-build-isolation = false\n' > /etc/pip.conf
            rm -rf /etc/xdg/pip /root/.config/pip
            useradd --create-home --shell /bin/bash --password '*' {USER}""",
            user="root",
        )
        host.run(
            f"""set -e; umask 077; mkdir .ssh
            echo '{public.read_text().strip()}' > .ssh/authorized_keys
            echo '{key.read_text().strip()}' > .ssh/id_ed25519
            {Path(sys.base_prefix, "bin", _python_name())} -m venv logit-bias-env
            cp {self._python}/bin/ray logit-bias-env/bin/
            sed -i "1s|.*|#!$HOME/logit-bias-env/bin/python|" logit-bias-env/bin/ray
            cd logit-bias-env/lib/{_python_name()}/site-packages
            rm -rf setuptools* _distutils_hack distutils-precedence.pth  # too old to install with
            echo {packages} > base.pth"""
        )

    def copy_program(self, host: Host) -> None:
        """Put this repository into `~/logit-bias` of a machine, as `git clone` does."""
        names = " ".join(f"{ROOT}/{name}" for name in _COPIED)
        host.run(f"mkdir logit-bias && cp -r {names} logit-bias/ && chmod -R u+w logit-bias")


def _python_name() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
