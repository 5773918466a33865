"""What can be said about a request before anybody is asked: token, target, wishes, headers to keep. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemaseal.contracts.http import Headers, HttpRequest
from schemaseal.core.settings import TargetSettings

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"})
_DROPPED = frozenset(
    {
        "authorization",
        "connection",
        "cookie",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = "schemaseal-"
_REASON = "schemaseal-reason"
PEER = "schemaseal-peer"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?\Z")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came: raw path and query, header names in lower case, address of the peer."""

    method: str
    path: str
    query: str
    headers: Headers
    peer: str
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of a request: a token, or a code for why there is none."""

    token: str | None
    problem: str | None = None


def presented(headers: Headers) -> Presented:
    """Bearer (RFC 6750), or Basic with the token as password for clients that know nothing else."""
    values = [value for name, value in headers if name == "authorization"]
    if not values:
        return Presented(None, "no_token")
    if len(values) > 1:
        return Presented(None, "malformed")
    scheme, _, rest = values[0].partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "basic":
        try:
            rest = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return Presented(None, "malformed")
    elif scheme.lower() != "bearer":
        return Presented(None, "no_token")
    return Presented(rest) if _TOKEN.match(rest) else Presented(None, "malformed")


def recorded(incoming: Incoming, path: str) -> HttpRequest:
    """What is sealed: without credentials and hop-by-hop headers (RFC 9110 §7.6.1), with the peer's address.

    Headers in our own name are dropped, so that nobody can put words into our mouth, but the reason.
    """
    hops = {
        token.strip().lower() for name, value in incoming.headers if name == "connection" for token in value.split(",")
    }
    kept = tuple(
        (name, value)
        for name, value in incoming.headers
        if name not in _DROPPED and name not in hops and (not name.startswith(_OURS) or name == _REASON)
    )
    return HttpRequest(incoming.method, path, incoming.query, (*kept, (PEER, incoming.peer)), incoming.body)


def method_name(method: str) -> str:
    """The method where it is one, else `other`: what stands in clear must not be free text."""
    return method if method in _METHODS else "other"


def below_mount(targets: Iterable[TargetSettings], path: str) -> tuple[TargetSettings, str] | None:
    """The target whose mount the raw path is under (the longest one), and the rest of the path."""
    for target in sorted(targets, key=lambda target: -len(target.mount)):
        mount = target.mount.rstrip("/")
        if path == mount or path.startswith(mount + "/"):
            return target, path[len(mount) :] or "/"
    return None


@dataclass(frozen=True, slots=True)
class Prefer:
    """RFC 7240: how long the client wants to wait, and whether 202 will do."""

    wait: float
    respond_async: bool


def prefer(headers: Headers, *, default: float, longest: float) -> Prefer:
    """`Prefer: wait=N, respond-async`. With `respond-async` alone the client waits for no person."""
    wishes = [
        item.strip(" \t").lower()
        for name, value in headers
        if name == "prefer"
        for item in value.replace(";", ",").split(",")
    ]
    respond_async = "respond-async" in wishes
    for wish in wishes:
        found = _WAIT.match(wish)
        if found:
            return Prefer(min(float(found[1]), longest), respond_async)
    return Prefer(0.0 if respond_async else min(default, longest), respond_async)
