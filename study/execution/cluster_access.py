"""Whether a Ray cluster takes a study from this machine: its address, and its token.

Ray itself waits for half a minute where nothing answers or the token is another, prints a warning
each second, and ends in a traceback where there is no token.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from trainables.errors import BadInputError

_PATIENCE_S = 10.0
_METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # the first call of every client of Ray


class NoClusterError(BadInputError):
    """No Ray cluster at the given address; the message is one line for the user."""


class RefusedByClusterError(BadInputError):
    """The cluster asks for another token; the message is one line for the user."""


def check_cluster(address: str) -> None:
    """Check that a cluster answers at an address of `run`, and takes the token of this machine.

    Args:
        address: `HOST:PORT`, or a word that Ray knows, such as auto.

    Raises:
        NoClusterError: nothing answers there, or it is an address of another kind.
        RefusedByClusterError: the cluster asks for another token.
    """
    if "://" in address:
        # Through Ray's client the driver would run apart from the searcher of the study.
        raise NoClusterError(
            f"{_named(address)}: allowed: HEAD:6379 on a machine of the cluster, or, from any "
            "other, logit-bias submit STUDY --address http://HEAD:8265"
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise NoClusterError(no_cluster(address)) from error
    if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
        _check_answer(address)


def _check_answer(address: str) -> None:
    """Ask as Ray asks when it joins a cluster, with the token that it sends."""
    import grpc  # Ray brings it

    token = _token()[0] if _mode() == "token" else None
    headers = [("authorization", f"Bearer {token}")] if token and token.isascii() else []
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_METHOD)(b"", timeout=_PATIENCE_S, metadata=headers)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise RefusedByClusterError(refusal(_named(address))) from error
            raise NoClusterError(no_cluster(address)) from error


def no_cluster(address: str) -> str:
    """The line for an address of `run` at which there is no cluster."""
    way = "unset it" if _is_variable(address) else "leave it out"
    return (
        f"{_named(address)}: no Ray cluster answers there; allowed: HEAD:6379 of a running one; "
        f"{way} to run on this machine"
    )


def refusal(where: str) -> str:
    """The line for a cluster that asks for another token.

    Args:
        where: the option or variable that names the cluster, and its value.
    """
    token, place = _token()
    if _mode() != "token":
        reason = "RAY_AUTH_MODE=token is not set here"
    elif token is None:
        reason = f"{place} holds no token"
    else:
        reason = f"the token in {place} is not the cluster's"
    return (
        f"{where}: the cluster refuses this machine: {reason}; needed: RAY_AUTH_MODE=token and the "
        "token of the cluster in ~/.ray/auth_token"
    )


def _mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "").lower()


def _token() -> tuple[str | None, str]:
    """The token that Ray reads here, and where; None if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        token = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        token = ""
    return token or None, given or "~/.ray/auth_token"


def _is_variable(address: str) -> bool:
    return os.environ.get("RAY_ADDRESS") == address


def _named(address: str) -> str:
    source = "the environment variable RAY_ADDRESS" if _is_variable(address) else "--address"
    return f"{source} = {address}"
