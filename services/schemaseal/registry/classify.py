"""Requests to operations: pure, deny by default.

1. method by name, no override; 2. one canonical path; 3. context; 4. route by path and method; 5. query,
each parameter once; 6. body as the route expects; 7. subject and version canonical.

Example: `POST //subjects/%6Frders/versions?normalize=False` is `register` of subject `orders` on
`/subjects/orders/versions?normalize=false`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemaseal.contracts.http import HttpRequest
from schemaseal.registry import bodies, confluent, paths
from schemaseal.registry.confluent import Route
from schemaseal.registry.operation import Operation, RefusedError, Unclassified, subject_scope
from schemaseal.registry.paths import canonical_path

__all__ = ["Operation", "Unclassified", "canonical_path", "canonical_request", "classify", "subject_scope"]

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})
_OVERRIDES = frozenset(
    {
        "x-forward",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
_OVERRIDE_QUERY = frozenset({"_method", "x-http-method-override"})
_FLAGS = frozenset({"permanent", "normalize", "force", "deleted"})


def classify(profile: str, request: HttpRequest) -> Operation | Unclassified:
    """What the request means to a target of this profile. `request.path` is below the target's mount."""
    try:
        return _classify(profile, request)
    except RefusedError as error:
        return error.outcome


def _classify(profile: str, request: HttpRequest) -> Operation:
    if profile != "confluent":
        raise RefusedError("unknown_profile")
    if request.method not in METHODS:
        raise RefusedError("unknown_method")
    if any(name.lower() in _OVERRIDES for name, _ in request.headers):
        raise RefusedError("method_override")
    segments = paths.segments(request.path)
    context, rest = confluent.split_context(segments)
    route = _route(request.method, rest)
    query = _query(route, request.query)
    body = _body(route, request)
    names = _names(route, context, rest)
    if names.subject is None and context not in (None, ".") and route.kind == "change":
        names.subject = f":{context}:"  # settings of a whole context
    return Operation(
        kind=route.kind,
        name=route.name,
        method=request.method,
        path=paths.join(segments),
        query=paths.join_query(query),
        subject=names.subject,
        version=names.version,
        resource=names.resource,
        permanent=query.get("permanent") == "true",
        normalize=query.get("normalize") == "true",
        certainty=route.certainty,
        body=body,
        body_schema=bodies.envelope(body) if body is not None and route.body == "envelope" else None,
    )


def _route(method: str, segments: tuple[str, ...]) -> Route:
    known = confluent.routes(segments)
    if not known:
        raise RefusedError("unknown_path")
    if method == "OPTIONS":
        return Route("OPTIONS", known[0].pattern, "read", "options")
    wanted = "GET" if method == "HEAD" else method
    for route in known:
        if route.method == wanted:
            return route
    raise RefusedError("unknown_method")


def _query(route: Route, raw: str) -> dict[str, str]:
    pairs = paths.query_pairs(raw)
    if any(name.lower() in _OVERRIDE_QUERY for name in pairs):
        raise RefusedError("method_override")
    if route.query is not None and not set(pairs) <= route.query:
        raise RefusedError("unknown_query")
    for name in _FLAGS & set(pairs):
        # Servers read anything but "true" as false; what is neither would be read by guess.
        if pairs[name].lower() not in ("true", "false"):
            raise RefusedError("bad_flag")
        pairs[name] = pairs[name].lower()
    return pairs


def _body(route: Route, request: HttpRequest) -> dict[str, Any] | None:
    if request.body and route.body != "none":
        return bodies.json_object(request)
    if request.body:
        raise RefusedError("unexpected_body")
    if route.body in ("object", "envelope"):
        raise RefusedError("no_body", 422)
    return None


@dataclass(slots=True)
class _Names:
    subject: str | None = None
    version: str | None = None
    resource: str | None = None


def _names(route: Route, context: str | None, segments: tuple[str, ...]) -> _Names:
    names = _Names()
    for pattern, segment in zip(route.pattern, segments, strict=True):
        match pattern:
            case "{subject}":
                names.subject = confluent.canonical_subject(segment, context)
            case "{version}":
                names.version = "latest" if segment == "-1" else segment
            case "{name}" | "{id}":
                if "/" in segment:
                    raise RefusedError("encoded_slash")
                names.resource = segment if names.resource is None else f"{names.resource}/{segment}"
    return names


def canonical_request(operation: Operation, request: HttpRequest) -> bytes:
    """Same meaning, same bytes: for recognising a repeated request. Headers say nothing about meaning here.

    The text of a schema counts exactly as sent: it is what would be stored.
    """
    if operation.body is None and request.body:
        raise ValueError("the operation was not read from this request")
    return bodies.canonical_json(
        {
            "name": operation.name,
            "method": operation.method,
            "path": operation.path,
            "query": operation.query,
            "subject": operation.subject,
            "version": operation.version,
            "body": operation.body,
        }
    )
