"""The applier's internal HTTP interface: reads and bases for ingress, the inventory for the baseline.

`POST /internal/v1/read` body `HttpRequest`, answer `HttpResponse` (both `schemaseal-http/1`).
`POST /internal/v1/base` body `HttpRequest` of a change, answer JSON `{"existing": base64 | null, "base":
base64 | null}`: the answer of a repeated registration, or what the change starts from.
`GET /internal/v1/inventory?target=` answer JSON lines, one stored version each.
Every call names its target in `schemaseal-target` (or the query) and carries the shared bearer secret.
Everything is classified here once more; what is not a read is never sent from here.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from schemaseal.contracts.http import RESPONSE_MEDIA_TYPE, HttpMessageError, HttpRequest
from schemaseal.core.errors import TargetUnavailable
from schemaseal.registry.classify import classify
from schemaseal.registry.confluent_target import ConfluentTarget
from schemaseal.registry.operation import Kind, Operation

Endpoint = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Api:
    """Routes over the targets. `ready` must be quick and must not raise."""

    def __init__(
        self,
        *,
        targets: Mapping[str, ConfluentTarget],
        token: bytes,
        ready: Callable[[], bool],
        body_limit: int,
    ) -> None:
        self._targets, self._ready = targets, ready
        self._token = token.strip()
        if len(self._token) < 16:
            raise ValueError("the shared secret is too short to be one")
        self._limit = body_limit

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/internal/v1/read", self._guarded(self.read), methods=["POST"]),
                Route("/internal/v1/base", self._guarded(self.base), methods=["POST"]),
                Route("/internal/v1/inventory", self._guarded(self.inventory), methods=["GET"]),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
            ]
        )

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return JSONResponse({"error": "unauthorized"}, 401)
            try:
                return await endpoint(request)
            except _Refused as refused:
                return JSONResponse({"error": refused.code}, refused.status)
            except TargetUnavailable as error:
                return JSONResponse({"error": "target_unavailable", "text": str(error)}, 502)

        return guarded

    def _target(self, name: str) -> ConfluentTarget:
        target = self._targets.get(name)
        if target is None:
            raise _Refused(404, "unknown_target")
        return target

    async def _message(self, request: Request, kind: Kind) -> tuple[ConfluentTarget, Operation, HttpRequest]:
        target = self._target(request.headers.get("schemaseal-target", ""))
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > self._limit:
                raise _Refused(413, "too_large")
        try:
            message = HttpRequest.from_bytes(bytes(raw))
        except HttpMessageError as error:
            raise _Refused(400, "malformed") from error
        operation = classify(target.profile, message)
        if not isinstance(operation, Operation) or operation.kind != kind:
            raise _Refused(403, f"not_a_{kind}")
        return target, operation, message

    async def read(self, request: Request) -> Response:
        target, operation, message = await self._message(request, "read")
        answer = await target.read(operation, message)
        return Response(answer.to_bytes(), media_type=RESPONSE_MEDIA_TYPE)

    async def base(self, request: Request) -> Response:
        target, operation, _ = await self._message(request, "change")
        # Asked together: a change waits for both, and what exists already costs one question more.
        existing, found = await asyncio.gather(target.look_up(operation), target.read_base(operation))
        base = None if existing is not None else found
        return JSONResponse(
            {
                "existing": None if existing is None else base64.b64encode(existing.to_bytes()).decode(),
                "base": None if base is None else base64.b64encode(base.to_bytes()).decode(),
            }
        )

    async def inventory(self, request: Request) -> Response:
        target = self._target(request.query_params.get("target", ""))

        async def lines() -> AsyncIterator[bytes]:
            # A target that fails half way ends the answer without its last line, which says it is whole.
            count = 0
            async for stored in target.list_all():
                count += 1
                yield json.dumps(asdict(stored), ensure_ascii=False).encode() + b"\n"
            yield json.dumps({"complete": True, "count": count}).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        ready = self._ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)
