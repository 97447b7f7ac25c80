"""An S3 server and a faulty proxy before it, each in a process of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3

BUCKET = "studies"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTKEYOFTHESTUDY",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-store-7f3a9c",
}
"""Nothing else contains these words, so that a leak is found."""

ENVIRONMENT = {
    **CREDENTIALS,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """The port of moto's S3 server with an empty bucket, or of the server at LOGIT_BIAS_S3_PORT."""
    if given := os.environ.get("LOGIT_BIAS_S3_PORT"):
        yield int(given)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        client(port).create_bucket(Bucket=BUCKET)
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def faulty_proxy(server: int, **options: object) -> Iterator[int]:
    """The port of a proxy before the server; options as in `faulty_proxy.py --help`."""
    command = [sys.executable, str(Path(__file__).with_name("faulty_proxy.py")), str(server)]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        command += [f"--{name.replace('_', '-')}", *map(str, values)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def faults_of(proxy: int) -> Mapping[str, int]:
    """{fault: how often the proxy injected it}, and `requests`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy}/faults") as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def uri(port: int, path: str) -> str:
    """URI of a path in the bucket, through a server or a proxy."""
    return f"s3://{BUCKET}/{path}?endpoint_override=127.0.0.1:{port}&scheme=http"


def client(port: int):  # type: ignore[no-untyped-def]
    """boto3's client of the server."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def objects(port: int, prefix: str) -> dict[str, bytes]:
    """{key: content} of everything below a prefix."""
    store = client(port)
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {key: store.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
