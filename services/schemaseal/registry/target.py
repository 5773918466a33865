"""Asking and telling a target over HTTP. Used by the applier alone: it alone has credentials.

Only canonical paths and queries of classified operations are sent, headers by allow-list, redirects never
followed. `send` is the one call here that changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from schemaseal.contracts.http import Headers, HttpRequest, HttpResponse, header
from schemaseal.core.errors import TargetUnavailable
from schemaseal.registry import dialect
from schemaseal.registry.base import Base
from schemaseal.registry.confluent import MEDIA_TYPE
from schemaseal.registry.operation import Operation
from schemaseal.registry.paths import encode


class NotSent(TargetUnavailable):
    """No connection: the target certainly received nothing."""


class TargetRefused(TargetUnavailable):
    """The target refused our own credential or answered out of its dialect; an operator has to look."""


class Credentials(Protocol):
    """What proves us to a target. Returns headers to add; raises `TargetUnavailable` when it has none."""

    async def headers(self) -> Mapping[str, str]: ...


class NoCredentials:
    """For a target that asks for none."""

    async def headers(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the target holds after a send. `finding`: a code for what does not fit, or None."""

    base: Base
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """The change is in the target. `answer`: what it would have answered, None where that is lost."""

    answer: HttpResponse | None


@dataclass(frozen=True, slots=True)
class NotHappened:
    """The change is not in the target."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Asking tells nothing."""


Probe = Happened | NotHappened | Unknown


class Wire:
    """One target's base URL, credentials for reading and for writing, and one client."""

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        *,
        read: Credentials,
        write: Credentials,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._http = http
        self._read, self._write = read, write
        self._timeout = timeout_seconds

    async def read(self, operation: Operation, request: HttpRequest) -> HttpResponse:
        """A classified read with the read credential. Raises `TargetUnavailable`."""
        if operation.kind != "read":
            raise ValueError("not a read")
        return await self._exchange(
            self._read, operation.method, operation.path, operation.query, request.headers, request.body
        )

    async def send(self, operation: Operation, request: HttpRequest) -> HttpResponse:
        """Our stored copy of a change. `NotSent`: nothing arrived; `TargetUnavailable`: nobody knows."""
        if operation.kind != "change":
            raise ValueError("not a change")
        return await self._exchange(
            self._write, operation.method, operation.path, operation.query, request.headers, request.body
        )

    async def ask(self, method: str, path: str, query: str = "", body: bytes = b"") -> HttpResponse:
        """A question of our own with the read credential. 5xx and refused credentials raise."""
        headers = (("content-type", MEDIA_TYPE),) if body else ()
        response = await self._exchange(self._read, method, path, query, headers, body)
        if response.status in (401, 403):
            raise TargetRefused(f"the target refused the read credential ({response.status})")
        if response.status >= 500 or response.status in (408, 429):
            raise TargetUnavailable(f"the target answered {response.status}")
        return response

    async def _exchange(
        self, credentials: Credentials, method: str, path: str, query: str, headers: Headers, body: bytes
    ) -> HttpResponse:
        url = f"{self._url}{path}" + (f"?{query}" if query else "")
        sent = [*dialect.to_target(headers), *(await credentials.headers()).items()]
        sent.append(("accept-encoding", "identity"))
        try:
            response = await self._http.request(
                method,
                httpx.URL(url),
                headers=sent,
                content=body or None,
                follow_redirects=False,
                timeout=self._timeout,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSent(f"the target cannot be reached ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise TargetUnavailable(f"the target did not answer ({type(error).__name__})") from error
        kept = dialect.to_client(tuple(response.headers.items()))
        return HttpResponse(response.status_code, kept, response.content)


def subject_path(subject: str, *rest: str) -> str:
    return "/subjects/" + "/".join(encode(part) for part in (subject, *rest))


def member(response: HttpResponse, *names: str) -> Any:
    """The value under the names in a JSON answer, or None."""
    try:
        value: Any = json.loads(response.body)
    except ValueError:
        return None
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def json_answer(value: Any, *, like: HttpResponse | None = None) -> HttpResponse:
    """An answer made by us from what the target told, compact and in the media type it answers in."""
    media_type = (header(like.headers, "content-type") if like is not None else None) or MEDIA_TYPE
    return HttpResponse(200, (("content-type", media_type),), json.dumps(value, separators=(",", ":")).encode())
