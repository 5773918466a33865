"""Errors in the words of the target's own API, so that its clients understand them.

Confluent: `{"error_code": int, "message": str}`. Its clients retry 408, 429 and 5xx and take every 2xx for
success; a change that waits or was refused is therefore none of these.
"""

from __future__ import annotations

import json

from schemaseal.contracts.http import Headers, HttpResponse
from schemaseal.registry.confluent import MEDIA_TYPE

ALLOWED_TO_TARGET = frozenset(
    {"accept", "content-type", "confluent-accept-unknown-properties", "confluent-client-version"}
)
ALLOWED_TO_CLIENT = frozenset({"content-type", "etag", "last-modified", "allow", "vary"})


def client_error(profile: str, status: int, code: int, message: str) -> HttpResponse:
    """An error answer of this profile. `code` is the target's own numbering, `message` for a person."""
    del profile  # one dialect so far
    body = json.dumps({"error_code": code, "message": message}, ensure_ascii=False).encode()
    return HttpResponse(status, (("content-type", MEDIA_TYPE),), body)


def to_target(headers: Headers) -> Headers:
    """Headers that a target may see. Credentials are added by the applier, never taken from here."""
    return tuple((name.lower(), value) for name, value in headers if name.lower() in ALLOWED_TO_TARGET)


def to_client(headers: Headers) -> Headers:
    """Headers of a target's answer that a client may see."""
    return tuple((name.lower(), value) for name, value in headers if name.lower() in ALLOWED_TO_CLIENT)
