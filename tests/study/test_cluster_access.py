"""What a cluster that asks for a token tells a machine without it: one line, at once."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from tests_support import TINY_STUDY, logit_bias

from study.execution.cluster_access import NoClusterError, RefusedByClusterError, check_cluster

TOKEN = "0123456789abcdef" * 4


class _Head(grpc.GenericRpcHandler):
    """Answers like the head of a cluster in token mode."""

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        if not call.method.endswith("/GetClusterId"):
            return None

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def _serving(*handlers: grpc.GenericRpcHandler) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine's token lies; there is none yet."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    return tmp_path / ".ray/auth_token"


def test_a_head_takes_its_token_alone(token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving(_Head()) as address:
        start = f"--address = {address}: the cluster refuses this machine: "
        token_file.write_text(TOKEN)
        with pytest.raises(RefusedByClusterError, match=f"{start}RAY_AUTH_MODE=token is not set"):
            check_cluster(address)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        check_cluster(address)
        token_file.write_text(f"{TOKEN}\n")
        check_cluster(address)
        token_file.write_text("another ε")
        with pytest.raises(RefusedByClusterError, match=f"{start}the token in ~/.ray/auth_token"):
            check_cluster(address)
        token_file.unlink()
        with pytest.raises(RefusedByClusterError, match=f"{start}~/.ray/auth_token holds no token"):
            check_cluster(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        check_cluster(address)


def test_another_port_of_ray_is_no_cluster(token_file: Path) -> None:
    with _serving() as address, pytest.raises(NoClusterError, match="allowed: HEAD:6379"):
        check_cluster(address)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265"])
def test_an_address_of_another_kind_says_what_to_do(address: str, token_file: Path) -> None:
    with pytest.raises(NoClusterError, match=r"HEAD:6379 .* submit STUDY --address http://HEAD"):
        check_cluster(address)


class _Dashboard(BaseHTTPRequestHandler):
    """Answers like a dashboard in token mode to a client without the token."""

    def do_GET(self) -> None:
        content = b"Unauthorized: Missing authentication token"
        self.send_response(401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_submit_without_the_token_is_one_line(token_file: Path, tmp_path: Path) -> None:
    study = {**TINY_STUDY, "storage": str(tmp_path / "out")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = logit_bias("submit", "tiny.yaml", "--address", address, cwd=tmp_path)
        server.shutdown()
    assert done.returncode == 2
    assert done.stderr.startswith(f"logit-bias: --address {address}: the cluster refuses this")
    assert len(done.stderr.strip().splitlines()) == 1
