"""Requests to operations: pure, deny by default.

1. method by name, no override; 2. one canonical path; 3. context; 4. route by path and method; 5. query,
each parameter once; 6. body as the route expects; 7. subject and version canonical.

Example: `POST //subjects/%6Frders/versions?normalize=False` is `register` of subject `orders` on
`/subjects/orders/versions?normalize=false`.
"""

from __future__ import annotations

from typing import Any

from schemaseal.contracts.http import HttpRequest
from schemaseal.registry import bodies, confluent, paths
from schemaseal.registry.confluent import Route
from schemaseal.registry.operation import Envelope, Operation, Unclassified, subject_scope

__all__ = ["Operation", "Unclassified", "canonical_request", "classify", "subject_scope"]

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})
_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override", "x-original-url",
                        "x-rewrite-url", "x-forwarded-prefix", "x-forward"})  # fmt: skip
_OVERRIDE_QUERY = frozenset({"_method", "x-http-method-override"})
_FLAGS = frozenset({"permanent", "normalize", "force", "deleted"})


def classify(profile: str, request: HttpRequest) -> Operation | Unclassified:
    """What the request means to a target of this profile. `request.path` is below the target's mount."""
    if profile != "confluent":
        return Unclassified("unknown_profile")
    if request.method not in METHODS:
        return Unclassified("unknown_method")
    if any(name.lower() in _OVERRIDES for name, _ in request.headers):
        return Unclassified("method_override")
    segments = paths.segments(request.path)
    if isinstance(segments, Unclassified):
        return segments
    split = confluent.split_context(segments)
    if isinstance(split, Unclassified):
        return split
    context, rest = split
    route = _route(request.method, rest)
    if isinstance(route, Unclassified):
        return route
    query = _query(route, request.query)
    if isinstance(query, Unclassified):
        return query
    body, envelope = None, None
    if route.body == "none" or (route.body == "optional" and not request.body):
        if request.body:
            return Unclassified("unexpected_body")
    else:
        parsed = bodies.json_object(request)
        if isinstance(parsed, Unclassified):
            return parsed
        body = parsed
        if route.body == "envelope":
            read = bodies.envelope(parsed)
            if isinstance(read, Unclassified):
                return read
            envelope = read
    return _operation(request.method, route, segments, (context, rest), query, body, envelope)


def _route(method: str, segments: tuple[str, ...]) -> Route | Unclassified:
    known = confluent.routes(segments)
    if not known:
        return Unclassified("unknown_path")
    if method == "OPTIONS":
        return Route("OPTIONS", known[0].pattern, "read", "options")
    wanted = "GET" if method == "HEAD" else method
    return next((route for route in known if route.method == wanted), Unclassified("unknown_method"))


def _query(route: Route, raw: str) -> dict[str, str] | Unclassified:
    pairs = paths.query_pairs(raw)
    if isinstance(pairs, Unclassified):
        return pairs
    if any(name.lower() in _OVERRIDE_QUERY for name in pairs):
        return Unclassified("method_override")
    if route.query is not None and not set(pairs) <= route.query:
        return Unclassified("unknown_query")
    for name in _FLAGS & set(pairs):
        # Servers read anything but "true" as false; what is neither would be read by guess.
        if pairs[name].lower() not in ("true", "false"):
            return Unclassified("bad_flag")
        pairs[name] = pairs[name].lower()
    return pairs


def _operation(
    method: str,
    route: Route,
    segments: tuple[str, ...],
    located: tuple[str | None, tuple[str, ...]],
    query: dict[str, str],
    body: dict[str, Any] | None,
    envelope: Envelope | None,
) -> Operation | Unclassified:
    context, rest = located
    subject: str | None = None
    version: str | None = None
    resource: str | None = None
    for pattern, segment in zip(route.pattern, rest, strict=True):
        match pattern:
            case "{subject}":
                found = confluent.canonical_subject(segment, context)
                if isinstance(found, Unclassified):
                    return found
                subject = found
            case "{version}":
                version = "latest" if segment == "-1" else segment
            case "{name}":
                if "/" in segment:
                    return Unclassified("encoded_slash")
                resource = segment if resource is None else f"{resource}/{segment}"
            case "{id}":
                resource = segment
    if subject is None and context not in (None, ".") and route.kind == "change":
        subject = f":{context}:"  # configuration of a whole context
    return Operation(
        kind=route.kind,
        name=route.name,
        method=method,
        path=paths.join(segments),
        query=paths.join_query(query),
        subject=subject,
        version=version,
        resource=resource,
        permanent=query.get("permanent") == "true",
        normalize=query.get("normalize") == "true",
        certainty=route.certainty,
        body=body,
        body_schema=envelope,
    )


def canonical_path(raw_path: str) -> str | Unclassified:
    """See `paths.canonical_path`."""
    return paths.canonical_path(raw_path)


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
