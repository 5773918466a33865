"""Bytes on the wire: what the HTTP layer lets through to the gateway, how much of a body it reads, what is its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn

from schemaseal.contracts.http import HttpResponse
from schemaseal.ingress.asgi import IngressApp, Message
from schemaseal.ingress.intake import Incoming

LIMIT = 1000


class FakeGateway:
    """Stands in for the gateway: keeps what reaches it and answers 200, or 413 for what was too large."""

    def __init__(self) -> None:
        self.seen: list[tuple[Incoming, bool]] = []

    async def answer(self, incoming: Incoming, *, too_large: bool = False) -> HttpResponse:
        self.seen.append((incoming, too_large))
        return HttpResponse(413 if too_large else 200, (("content-type", "text/plain"),), b"gateway")


class Loopback:
    """The app behind the server that production uses, on a port of this machine."""

    def __init__(self) -> None:
        self.gateway, self.up = FakeGateway(), True
        self.app = IngressApp(self.gateway, body_limit=LIMIT, ready=lambda: self.up)
        self.port = 0

    async def exchange(self, data: bytes) -> bytes:
        """Everything that comes back before the server closes or falls silent for good."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def wire() -> AsyncIterator[Loopback]:
    made = Loopback()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.port = listening.getsockname()[1]
        server = _Server(
            uvicorn.Config(
                made.app, http="httptools", log_config=None, access_log=False, lifespan="off", interface="asgi3"
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield made
        finally:
            server.should_exit = True
            await serving


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def request(*headers: bytes, body: bytes = b"", line: bytes = b"POST /r/subjects/s/versions HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: h", *headers, b"Connection: close", b"", b"")) + body


# ---------------------------------------------------------------- smuggling


SMUGGLED = {
    "two lengths that differ": request(b"Content-Length: 2", b"Content-Length: 40", body=b"{}" + b"x" * 38),
    "two lengths that agree": request(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "a list of lengths": request(b"Content-Length: 2, 2", body=b"{}"),
    "length and chunks": request(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks and length": request(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "a coding after chunks": request(b"Transfer-Encoding: chunked, identity", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "a sign in the length": request(b"Content-Length: +2", body=b"{}"),
    "a space before the colon": request(b"Content-Length : 2", body=b"{}"),
    "a folded header": request(b"X-A: b\r\n Content-Length: 2", b"Content-Length: 2", body=b"{}"),
    "a NUL in a header": request(b"X-A: b\0c"),
    "a chunk size that is none": request(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a bare CR": request(b"X-A: b\rContent-Length: 2"),
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_two_servers_could_read_differently_is_refused(wire: Loopback, data: bytes) -> None:
    answer = await wire.exchange(data + request(b"X-Second: smuggled", line=b"GET /r/second HTTP/1.1"))
    assert not any(incoming.path == "/r/second" for incoming, _ in wire.gateway.seen)
    assert status_of(answer) == 400, answer
    assert [incoming for incoming, _ in wire.gateway.seen] == []


async def test_chunks_arrive_as_one_body(wire: Loopback) -> None:
    chunks = b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    assert status_of(await wire.exchange(request(b"Transfer-Encoding: chunked", body=chunks))) == 200
    [(incoming, too_large)] = wire.gateway.seen
    assert (incoming.body, too_large) == (b'{"a":1}', False)


async def test_the_raw_path_and_every_header_arrive(wire: Loopback) -> None:
    line = b"GET /r/subjects/a%2Fb/../%2e//x;y?a=%20&a=+ HTTP/1.1"
    await wire.exchange(request(b"X-Twice: 1", b"x-twice: 2", b"Authorization: Bearer t", line=line))
    [(incoming, _)] = wire.gateway.seen
    assert (incoming.method, incoming.path) == ("GET", "/r/subjects/a%2Fb/../%2e//x;y")
    assert incoming.query == "a=%20&a=+"
    assert [pair for pair in incoming.headers if pair[0] == "x-twice"] == [("x-twice", "1"), ("x-twice", "2")]
    assert incoming.peer.startswith("127.0.0.1:")


async def test_two_requests_on_one_connection_are_two(wire: Loopback) -> None:
    first = b"POST /r/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    answer = await wire.exchange(first + request(line=b"GET /r/b HTTP/1.1"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert [(incoming.path, incoming.body) for incoming, _ in wire.gateway.seen] == [("/r/a", b"{}"), ("/r/b", b"")]


# ---------------------------------------------------------------- limits


async def test_a_body_at_the_limit_passes(wire: Loopback) -> None:
    assert status_of(await wire.exchange(request(b"Content-Length: %d" % LIMIT, body=b"x" * LIMIT))) == 200
    assert len(wire.gateway.seen[0][0].body) == LIMIT


async def test_a_body_over_the_limit_is_answered_by_the_gateway_without_it(wire: Loopback) -> None:
    answer = await wire.exchange(request(b"Content-Length: %d" % (LIMIT + 1), body=b"x" * (LIMIT + 1)))
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()
    [(incoming, too_large)] = wire.gateway.seen
    assert (incoming.body, too_large) == (b"", True)


async def test_chunks_over_the_limit_are_noticed_though_no_length_was_named(wire: Loopback) -> None:
    chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    answer = await wire.exchange(request(b"Transfer-Encoding: chunked", body=chunk * 3 + b"0\r\n\r\n"))
    assert status_of(answer) == 413
    assert [too_large for _, too_large in wire.gateway.seen] == [True]


async def test_a_client_that_asks_first_is_refused_before_it_writes(wire: Loopback) -> None:
    answer = await wire.exchange(request(b"Expect: 100-continue", b"Content-Length: %d" % (LIMIT + 1)))
    assert status_of(answer) == 413
    assert [too_large for _, too_large in wire.gateway.seen] == [True]


# ---------------------------------------------------------------- without a server


def _scope(method: str, path: bytes, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "raw_path": path,
        "query_string": b"",
        "headers": list(headers),
        "client": None,
    }


async def _run(app: IngressApp, scope: dict[str, Any], *messages: Message) -> list[Message]:
    left, sent = list(messages), list[Message]()

    async def receive() -> Message:
        assert left, "read more than there was"
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def _body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_client_that_leaves_half_way_made_no_request() -> None:
    made = Loopback()
    sent = await _run(made.app, _scope("POST", b"/r/x"), _body(b"{", more=True), {"type": "http.disconnect"})
    assert (sent, made.gateway.seen) == ([], [])


async def test_head_has_the_length_and_no_body() -> None:
    made = Loopback()
    start, body = await _run(made.app, _scope("HEAD", b"/r/x"), _body(b""))
    assert (b"content-length", b"7") in start["headers"]
    assert body["body"] == b""


async def test_health_and_readiness_are_its_own() -> None:
    made = Loopback()
    start, body = await _run(made.app, _scope("GET", b"/healthz"))
    assert (start["status"], json.loads(body["body"])) == (200, {"status": "alive"})
    made.up = False
    start, body = await _run(made.app, _scope("GET", b"/readyz"))
    assert (start["status"], json.loads(body["body"])) == (503, {"ready": False})
    start, body = await _run(made.app, _scope("GET", b"/metrics"))
    assert start["status"] == 200
    assert b"# HELP" in body["body"]
    assert made.gateway.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", b"/healthz"),
        ("GET", b"/healthz/"),
        ("GET", b"//healthz"),
        ("GET", b"/health%7a"),
        ("GET", b"/r/subjects/login/healthz"),
        ("GET", b"/r/subjects/health"),
    ],
)
async def test_nothing_passes_unrecorded_for_looking_like_a_health_check(method: str, path: bytes) -> None:
    made = Loopback()
    await _run(made.app, _scope(method, path), _body(b""))
    assert [incoming.path for incoming, _ in made.gateway.seen] == [path.decode()]
