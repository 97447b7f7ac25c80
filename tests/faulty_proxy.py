"""A proxy before an S3 server that injects faults by a seeded schedule; a process of its own.

    python tests/faulty_proxy.py UPSTREAM_PORT [--seed 0] [--share 0.1] …

It prints its port. GET /faults answers with the number of requests and of injected faults. Faults:

- `refused`: an answer 500, 502 or 503 in place of the server's, which never sees the request
- `lost`: such an answer after the server has done what was asked
- `cut-request`: the connection ends in the middle of the request's body
- `cut-answer`: the server has done what was asked; the connection ends in the middle of the answer
- `slow`: the request is passed on after some seconds
- `stale`: a listing shows the keys of some seconds ago: it lacks new ones and has deleted ones

A stale listing lasts for a while, then all listings are current for a while. A listing that shows a
key shows every key written before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree

import aiohttp
import yarl
from aiohttp import web

FAULTS = ("refused", "lost", "cut-request", "cut-answer", "slow")
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_HOP_BY_HOP = {"connection", "expect", "transfer-encoding", "content-length", "keep-alive"}


class Listings:
    """When listings are stale, and which keys a stale one shows.

    Args:
        seed: of the schedule.
        stale_s: the longest stale time, in seconds; 0 keeps all listings current.
    """

    def __init__(self, seed: int, stale_s: float) -> None:
        self._draw, self._stale_s = random.Random(f"listings {seed}"), stale_s
        self._changes_at, self._since = 0.0, None  # `_since`: the moment that listings show
        self._born: dict[str, float] = {}  # by "bucket/key"
        self._died: dict[str, float] = {}

    def written(self, key: str) -> None:
        self._died.pop(key, None)
        self._born.setdefault(key, time.monotonic())

    def deleted(self, key: str) -> None:
        if key in self._born:
            self._died[key] = time.monotonic()

    def changed(self, content: bytes) -> bytes | None:
        """A listing as a stale index gives it; None where it is current."""
        since = self._stale_since()
        if since is None:
            return None
        ElementTree.register_namespace("", _XMLNS)
        root = ElementTree.fromstring(content)
        bucket, prefix, delimiter = (
            root.findtext(f"{{*}}{name}") or "" for name in ("Name", "Prefix", "Delimiter")
        )
        for kind, name in (("Contents", "Key"), ("CommonPrefixes", "Prefix")):
            for element in root.findall(f"{{*}}{kind}"):
                shown = f"{bucket}/{unquote(element.findtext(f'{{*}}{name}') or '')}"
                is_old = any(
                    key.startswith(shown) if kind == "CommonPrefixes" else key == shown
                    for key in self._keys(since)
                )
                if not is_old:
                    root.remove(element)
        listed = {unquote(e.findtext("{*}Key") or "") for e in root.findall("{*}Contents")}
        for full in self._keys(since):
            key = full.removeprefix(f"{bucket}/")
            within = key.startswith(prefix) and not (delimiter and delimiter in key[len(prefix) :])
            if full in self._died and within and key not in listed and full != key:
                ghost = ElementTree.SubElement(root, f"{{{_XMLNS}}}Contents")
                for name, text in (("Key", key), ("Size", "1"), ("ETag", '"0"')):
                    ElementTree.SubElement(ghost, f"{{{_XMLNS}}}{name}").text = text
                moment = "2026-01-01T00:00:00.000Z"
                ElementTree.SubElement(ghost, f"{{{_XMLNS}}}LastModified").text = moment
        changed = ElementTree.tostring(root)
        return None if changed == ElementTree.tostring(ElementTree.fromstring(content)) else changed

    def _keys(self, since: float) -> Iterator[str]:
        """The keys that were there at a moment."""
        for key, born in self._born.items():
            if born <= since and self._died.get(key, since + 1) > since:
                yield key

    def _stale_since(self) -> float | None:
        now = time.monotonic()
        if self._stale_s and now >= self._changes_at:
            self._since = now if self._since is None else None
            self._changes_at = now + self._draw.uniform(0.3, 1.0) * self._stale_s
        return self._since


class Proxy:
    """Passes requests on to the server at `upstream`, with faults.

    Args:
        upstream: port of the S3 server on this machine.
        seed: of the schedule of faults.
        share: probability that a request meets a fault of `FAULTS`.
        slow_s: the longest delay, in seconds.
        stale_s: as in `Listings`.
        faults: the faults that occur.
    """

    def __init__(
        self,
        upstream: int,
        seed: int,
        share: float,
        slow_s: float,
        stale_s: float,
        faults: list[str],
    ) -> None:
        self._upstream, self._share, self._slow_s = upstream, share, slow_s
        self._faults, self._draw = faults, random.Random(f"faults {seed}")
        self._listings = Listings(seed, stale_s)
        self._counts: Counter[str] = Counter()

    async def serve(self, port: int) -> None:
        """Serve until the process ends; prints the port first."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
        )
        runner = web.ServerRunner(web.Server(self._answer_or_give_up, access_log=None))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        print(site._server.sockets[0].getsockname()[1], flush=True)  # type: ignore[union-attr]
        await asyncio.Event().wait()

    async def _answer_or_give_up(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (ConnectionError, aiohttp.ClientPayloadError):  # one side has gone
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/faults":
            return web.Response(text=json.dumps(self._counts))
        self._counts["requests"] += 1
        fault = self._draw.choice(self._faults) if self._draw.random() < self._share else None
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault == "cut-request":
            await request.content.readany()
            if not request.content.at_eof() or not request.body_exists:
                return self._cut(request, fault)
            fault = "lost"  # the body came in one piece: all that can be lost is the answer
        body = await request.read()
        if fault == "refused":
            return self._refusal(fault)
        if fault == "slow":
            self._counts[fault] += 1
            await asyncio.sleep(self._draw.uniform(0.1, 1.0) * self._slow_s)
        status, headers, content = await self._upstream_answer(request, body)
        if fault == "lost":
            return self._refusal(fault)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if fault == "cut-answer":
            await response.write(content[: len(content) // 2])
            return self._cut(request, fault, response)
        await response.write(content)
        return response

    async def _upstream_answer(
        self, request: web.BaseRequest, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the server's answer."""
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        url = yarl.URL(f"http://127.0.0.1:{self._upstream}{request.raw_path}", encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            length = answer.headers.get("Content-Length") if request.method == "HEAD" else None
        if answer.status < 300:
            content = self._noted(request, content)
        return answer.status, {**kept, "Content-Length": length or str(len(content))}, content

    def _noted(self, request: web.BaseRequest, content: bytes) -> bytes:
        """Notes which keys exist; the content of the answer."""
        key, query = unquote(request.path).strip("/"), request.query
        put = request.method == "PUT" and "uploadId" not in query
        if put or (request.method == "POST" and "uploadId" in query):
            self._listings.written(unquote(request.path)[1:])
        elif request.method == "DELETE" and "uploadId" not in query:
            self._listings.deleted(key)
        elif request.method == "GET" and "/" not in key and "list-type" in query:
            changed = self._listings.changed(content)
            self._counts["stale"] += changed is not None
            return changed or content
        return content

    def _refusal(self, fault: str) -> web.Response:
        self._counts[fault] += 1
        status, code = self._draw.choice(
            [(500, "InternalError"), (502, "BadGateway"), (503, "SlowDown")]
        )
        text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    def _cut(
        self, request: web.BaseRequest, fault: str, response: web.StreamResponse | None = None
    ) -> web.StreamResponse:
        self._counts[fault] += 1
        if request.transport is not None:
            request.transport.abort()
        return response or web.Response()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--slow-s", type=float, default=4.0)
    parser.add_argument("--stale-s", type=float, default=5.0)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = vars(parser.parse_args())
    port = options.pop("port")
    try:
        asyncio.run(Proxy(**options).serve(port))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
