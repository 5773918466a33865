"""HTTP on one side, `Gateway` on the other. A body is read up to the limit and no further."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemaseal.contracts.http import HttpResponse
from schemaseal.ingress.intake import Incoming

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_DRAIN_BYTES, _DRAIN_SECONDS = 64 * 1024 * 1024, 5.0
_JSON = (("content-type", "application/json"),)


class Answering(Protocol):
    """`Gateway`."""

    async def answer(self, incoming: Incoming, *, too_large: bool = False) -> HttpResponse: ...


class _Gone(Exception):  # noqa: N818
    """The client left before its request was complete: there is no request."""


class IngressApp:
    """Plain ASGI 3. `ready` must be quick and must not raise."""

    def __init__(self, gateway: Answering, *, body_limit: int, ready: Callable[[], bool]) -> None:
        self._gateway, self._limit, self._ready = gateway, body_limit, ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("latin-1")
        own = self._own(scope["method"], path)
        if own is not None:
            await _respond(send, own, head=scope["method"] == "HEAD")
            return
        headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
        peer = scope.get("client") or ("unknown", 0)
        try:
            body = await self._body(headers, receive)
        except _Gone:
            return
        incoming = Incoming(
            scope["method"],
            path,
            scope["query_string"].decode("latin-1"),
            headers,
            f"{peer[0]}:{peer[1]}",
            body or b"",
        )
        response = await self._gateway.answer(incoming, too_large=body is None)
        await _respond(send, response, head=scope["method"] == "HEAD", close=body is None)

    def _own(self, method: str, path: str) -> HttpResponse | None:
        """Health and metrics: about this process, nothing of a target."""
        if method not in ("GET", "HEAD"):
            return None
        match path:
            case "/healthz":
                return HttpResponse(200, _JSON, b'{"status": "alive"}')
            case "/readyz":
                ready = self._ready()
                return HttpResponse(200 if ready else 503, _JSON, json.dumps({"ready": ready}).encode())
            case "/metrics":
                return HttpResponse(200, (("content-type", CONTENT_TYPE_LATEST),), generate_latest())
        return None

    async def _body(self, headers: tuple[tuple[str, str], ...], receive: Receive) -> bytes | None:
        """The whole body, or None when it is over the limit.

        What is too much is read and dropped (up to a bound and for some seconds), because a client that
        is still writing when we close would never see the answer. One that asked first (RFC 9110 §10.1.1)
        has not begun to write.
        """
        fields = dict(headers)
        length = fields.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            if "expect" not in fields:
                await _drain(receive)
            return None
        body = bytearray()
        while True:
            message = await _next(receive)
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                if more:
                    await _drain(receive)
                return None
            if not more:
                return bytes(body)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    return message


async def _drain(receive: Receive) -> None:
    left = _DRAIN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await _next(receive)
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def _respond(send: Send, response: HttpResponse, *, head: bool, close: bool = False) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers.append((b"content-length", str(len(response.body)).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
