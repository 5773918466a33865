"""An HTTP request or response as the exact bytes that are sealed.

Format `schemaseal-http/1`: four bytes big-endian length of a JSON head, the head (UTF-8), then the body to
the end, untouched. The head of a request has `method`, `path` (raw, still percent-encoded), `query` (raw,
without `?`), `headers` (pairs in order, latin-1 text); of a response `status` and `headers`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

REQUEST_MEDIA_TYPE = "application/vnd.schemaseal.http-request.v1"
RESPONSE_MEDIA_TYPE = "application/vnd.schemaseal.http-response.v1"
Headers = tuple[tuple[str, str], ...]


class HttpMessageError(ValueError):
    """Bytes that are not a `schemaseal-http/1` message."""


def header(headers: Headers, name: str) -> str | None:
    """The first header of that name (case-insensitive), or None."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def _join(head: dict[str, Any], body: bytes) -> bytes:
    raw = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return len(raw).to_bytes(4, "big") + raw + body


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or len(data) < 4 + size:
        raise HttpMessageError("message shorter than its head")
    try:
        head = json.loads(data[4 : 4 + size])
    except (ValueError, RecursionError) as error:
        raise HttpMessageError("head is not JSON") from error
    if not isinstance(head, dict):
        raise HttpMessageError("head is not an object")
    return head, data[4 + size :]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a value is not text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise TypeError("headers are not pairs")
    return value


def _status(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("status is not a whole number")
    return value


def _headers(head: dict[str, Any]) -> Headers:
    return tuple((_text(key), _text(value)) for key, value in _list(head["headers"]))


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`path` and `query` are raw (percent-encoded as received); `body` exact."""

    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        return _join(
            {"method": self.method, "path": self.path, "query": self.query, "headers": self.headers},
            self.body,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> HttpRequest:
        head, body = _split(data)
        try:
            return cls(_text(head["method"]), _text(head["path"]), _text(head["query"]), _headers(head), body)
        except (KeyError, TypeError, ValueError) as error:
            raise HttpMessageError("head of a request is incomplete or of the wrong types") from error


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a target answered; `body` exact."""

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        return _join({"status": self.status, "headers": self.headers}, self.body)

    @classmethod
    def from_bytes(cls, data: bytes) -> HttpResponse:
        head, body = _split(data)
        try:
            return cls(_status(head["status"]), _headers(head), body)
        except (KeyError, TypeError, ValueError) as error:
            raise HttpMessageError("head of a response is incomplete or of the wrong types") from error
