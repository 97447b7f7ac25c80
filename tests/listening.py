"""Which ports a process tree listens on, and what they answer to a client without a token."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

import grpc
import ray  # noqa: F401

# isort: split
import psutil  # Ray brings it

# One method of each of Ray's gRPC servers that changes nothing.
_METHODS = (
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",  # head
    "/ray.rpc.NodeManagerService/GetNodeStats",  # raylet
    "/ray.rpc.ObjectManagerService/Pull",  # raylet, objects
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",  # workers and drivers
    "/ray.rpc.ReporterService/GetTraceback",  # agent of the dashboard
    "/ray.rpc.RayletDriver/ClusterInfo",  # server of Ray's client
)


@dataclass(frozen=True)
class Listener:
    """A port on which a process listens."""

    host: str
    port: int
    process: str

    @property
    def is_on_loopback(self) -> bool:
        address = ip_address(self.host)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback

    def answer(self) -> str:
        """`refused` where every method that is there, and every page, needs a token."""
        unspecified = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        host = unspecified.get(self.host, self.host)
        place = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        codes = {}
        with grpc.insecure_channel(place) as channel:
            for method in _METHODS:
                codes[method] = _call(channel, method)
                if codes[method] == "UNAVAILABLE":  # speaks HTTP
                    codes = {path: _get(f"http://{place}{path}") for path in ("/", "/metrics")}
                    break
        there = {what: code for what, code in codes.items() if code != "UNIMPLEMENTED"}
        if there and set(there.values()) <= {"UNAUTHENTICATED", "401", "closed"}:
            return "refused"
        return f"{there or codes}"


def _call(channel: grpc.Channel, method: str) -> str:
    try:
        channel.unary_unary(method)(b"", timeout=5)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):  # the process has ended meanwhile
            return "closed"
        return str(error.reason)


def listeners(pid: int) -> set[Listener]:
    """The ports of a process and of all its descendants."""
    found = set()
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return set()
    for process in processes:
        try:
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    name = " ".join(process.cmdline())[-80:]
                    found.add(Listener(*connection.laddr[:2], name))
        except psutil.Error:  # it has just ended
            continue
    return found
