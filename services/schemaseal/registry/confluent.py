"""Routes of the Confluent-compatible API: Confluent Schema Registry 7 and 8, Karapace, Redpanda, Apicurio.

Source: Confluent's API reference, the DEK registry's and schema linking's. A pattern's `{subject}` and
`{name}` take any segment, `{version}` a positive number, `latest` or `-1`, `{id}` a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemaseal.registry.operation import Certainty, Kind, RefusedError

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_NUMBER = re.compile(r"[1-9][0-9]{0,9}\Z")
_ID = re.compile(r"[0-9]{1,10}\Z")


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. `query`: the parameters a change may carry, None: any (reads)."""

    method: str
    pattern: tuple[str, ...]
    kind: Kind
    name: str
    certainty: Certainty = "undecidable"
    query: frozenset[str] | None = None
    body: str = "none"  # none | object | optional | envelope


def _read(path: str, name: str) -> Route:
    return Route("GET", _split(path), "read", name)


def _look(path: str, name: str) -> Route:
    return Route("POST", _split(path), "read", name, body="envelope")


def _change(
    method: str,
    path: str,
    name: str,
    certainty: Certainty = "undecidable",
    *,
    query: str = "",
    body: str = "none",
) -> Route:
    return Route(method, _split(path), "change", name, certainty, frozenset(query.split()), body)


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


_KEK = "/dek-registry/v1/keks"
_DEK = f"{_KEK}/{{name}}/deks"

ROUTES: tuple[Route, ...] = (
    _read("/", "root"),
    _read("/v1/metadata/id", "server_metadata"),
    _read("/v1/metadata/version", "server_metadata"),
    _read("/contexts", "list_contexts"),
    _read("/schemas", "list_schemas"),
    _read("/schemas/types", "list_types"),
    _read("/schemas/ids/{id}", "get_schema"),
    _read("/schemas/ids/{id}/schema", "get_schema"),
    _read("/schemas/ids/{id}/subjects", "get_schema_subjects"),
    _read("/schemas/ids/{id}/versions", "get_schema_versions"),
    _read("/schemas/guids/{name}", "get_schema"),
    _read("/schemas/guids/{name}/ids", "get_schema_ids"),
    _read("/subjects", "list_subjects"),
    _read("/subjects/{subject}/versions", "list_versions"),
    _read("/subjects/{subject}/versions/{version}", "get_version"),
    _read("/subjects/{subject}/versions/{version}/schema", "get_version"),
    _read("/subjects/{subject}/versions/{version}/referencedby", "get_referenced_by"),
    _read("/subjects/{subject}/metadata", "get_latest_with_metadata"),
    _read("/config", "get_config"),
    _read("/config/{subject}", "get_config"),
    _read("/mode", "get_mode"),
    _read("/mode/{subject}", "get_mode"),
    _read("/exporters", "list_exporters"),
    _read("/exporters/{name}", "get_exporter"),
    _read("/exporters/{name}/config", "get_exporter"),
    _read("/exporters/{name}/status", "get_exporter"),
    _read("/associations/subjects/{subject}", "get_associations"),
    _read("/associations/resources/{name}", "get_associations"),
    _read("/associations/resources/{name}/{name}", "get_associations"),
    _read(_KEK, "list_keks"),
    _read(f"{_KEK}/{{name}}", "get_kek"),
    _read(_DEK, "list_deks"),
    _read(f"{_DEK}/{{name}}", "get_dek"),
    _read(f"{_DEK}/{{name}}/versions", "list_dek_versions"),
    _read(f"{_DEK}/{{name}}/versions/{{version}}", "get_dek"),
    _look("/subjects/{subject}", "look_up"),
    _look("/compatibility/subjects/{subject}/versions", "check_compatibility"),
    _look("/compatibility/subjects/{subject}/versions/{version}", "check_compatibility"),
    _change(
        "POST",
        "/subjects/{subject}/versions",
        "register",
        "idempotent",
        query="normalize format",
        body="envelope",
    ),
    _change("DELETE", "/subjects/{subject}", "delete_subject", "probe_decidable", query="permanent"),
    _change(
        "DELETE",
        "/subjects/{subject}/versions/{version}",
        "delete_version",
        "probe_decidable",
        query="permanent",
    ),
    _change("POST", "/subjects/{subject}/versions/{version}/tags", "change_tags", body="object"),
    _change("PUT", "/config", "set_config", "idempotent", body="object"),
    _change("DELETE", "/config", "delete_config", "probe_decidable"),
    _change("PUT", "/config/{subject}", "set_config", "idempotent", body="object"),
    _change("DELETE", "/config/{subject}", "delete_config", "probe_decidable"),
    _change("PUT", "/mode", "set_mode", "idempotent", query="force", body="object"),
    _change("DELETE", "/mode", "delete_mode", "probe_decidable"),
    _change("PUT", "/mode/{subject}", "set_mode", "idempotent", query="force", body="object"),
    _change("DELETE", "/mode/{subject}", "delete_mode", "probe_decidable"),
    _change("DELETE", "/contexts/{name}", "delete_context"),
    _change("POST", "/associations", "set_association", body="object"),
    _change("PUT", "/associations", "set_association", body="object"),
    _change(
        "DELETE",
        "/associations/resources/{name}",
        "delete_association",
        query="resourceType associationType cascadeLifecycle",
    ),
    _change("POST", "/exporters", "create_exporter", body="object"),
    _change("PUT", "/exporters/{name}", "set_exporter", body="object"),
    _change("PUT", "/exporters/{name}/config", "set_exporter", body="object"),
    _change("PUT", "/exporters/{name}/pause", "pause_exporter", body="optional"),
    _change("PUT", "/exporters/{name}/resume", "resume_exporter", body="optional"),
    _change("PUT", "/exporters/{name}/reset", "reset_exporter", body="optional"),
    _change("DELETE", "/exporters/{name}", "delete_exporter"),
    _change("POST", _KEK, "create_kek", query="testSharing", body="object"),
    _change("PUT", f"{_KEK}/{{name}}", "set_kek", query="testSharing", body="object"),
    _change("DELETE", f"{_KEK}/{{name}}", "delete_kek", query="permanent"),
    _change("POST", f"{_KEK}/{{name}}/undelete", "undelete_kek", body="optional"),
    _change("POST", f"{_KEK}/{{name}}/test", "test_kek", body="optional"),
    _change("POST", _DEK, "create_dek", query="rewrap", body="object"),
    _change("POST", f"{_DEK}/{{name}}", "create_dek", query="rewrap", body="object"),
    _change("DELETE", f"{_DEK}/{{name}}", "delete_dek", query="algorithm permanent"),
    _change("DELETE", f"{_DEK}/{{name}}/versions/{{version}}", "delete_dek", query="algorithm permanent"),
    _change("POST", f"{_DEK}/{{name}}/undelete", "undelete_dek", query="algorithm", body="optional"),
    _change(
        "POST",
        f"{_DEK}/{{name}}/versions/{{version}}/undelete",
        "undelete_dek",
        query="algorithm",
        body="optional",
    ),
)


def _takes(pattern: str, segment: str) -> bool:
    match pattern:
        case "{subject}" | "{name}":
            return True
        case "{version}":
            return segment in ("latest", "-1") or _NUMBER.match(segment) is not None
        case "{id}":
            return _ID.match(segment) is not None
    return pattern == segment


def matches(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(pattern) == len(segments) and all(map(_takes, pattern, segments))


def routes(segments: tuple[str, ...]) -> list[Route]:
    """Every route on this path. Of several of one method the first counts: literals stand before names."""
    return [route for route in ROUTES if matches(route.pattern, segments)]


_CONTEXT_BODIES = frozenset({"subjects", "config", "mode", "schemas", "compatibility"})


def split_context(segments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """`/contexts/.team/subjects/…` → (`.team`, the rest). Without that prefix: (None, all)."""
    if len(segments) < 3 or segments[0] != "contexts":
        return None, segments
    if segments[2] not in _CONTEXT_BODIES:
        raise RefusedError("unknown_path")
    name = segments[1]
    if name.startswith(":") and name.endswith(":") and len(name) > 2:
        name = name[1:-1]
    if not name.startswith(".") or ":" in name or "/" in name:
        raise RefusedError("bad_context")
    return name, segments[2:]


def canonical_subject(name: str, context: str | None) -> str:
    """`:.:orders` → `orders`; `:.team:orders` stays; a prefix context is put in front."""
    if name.startswith(":."):
        inner, colon, rest = name[1:].partition(":")
        if not colon or context is not None:
            raise RefusedError("bad_context")
        if inner != ".":
            return name
        if not rest:
            raise RefusedError("bad_context")
        return rest
    return name if context in (None, ".") else f":{context}:{name}"
