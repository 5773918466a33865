"""Bodies read strictly, so that nobody downstream can read them differently.

Refused: anything but UTF-8 without byte order mark, repeated member names (parsers disagree which one
counts), NaN and Infinity, nesting beyond what a parser takes, a body that is no object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemaseal.contracts.http import HttpRequest, header
from schemaseal.registry.operation import Envelope, Reference, RefusedError

_MEDIA_TYPES = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "application/vnd.schemaregistry+json",
        "application/vnd.schemaregistry.v1+json",
    }
)
_STRICT_TYPES = {"schema": str, "schemaType": str, "references": list, "metadata": dict, "ruleSet": dict}


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RefusedError("repeated_member", 422)
    return members


def _constant(_text: str) -> Any:
    raise RefusedError("not_json", 422)


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body; a body in any other shape is refused with 422, an encoded one with 415."""
    media_type = (header(request.headers, "content-type") or "").split(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES:
        raise RefusedError("media_type", 415)
    if (header(request.headers, "content-encoding") or "identity").lower() != "identity":
        raise RefusedError("content_encoding", 415)
    if request.body.startswith(b"\xef\xbb\xbf"):
        raise RefusedError("byte_order_mark", 422)
    try:
        value = json.loads(request.body.decode("utf-8"), object_pairs_hook=_members, parse_constant=_constant)
    except RefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedError("not_json", 422) from error
    if not isinstance(value, dict):
        raise RefusedError("not_an_object", 422)
    return value


def canonical_json(value: Any) -> bytes:
    """Members sorted, no white space, ASCII: one meaning, one sequence of bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _reference(value: Any) -> Reference | None:
    match value:
        case {"name": str(name), "subject": str(subject), "version": int(version)}:
            return Reference(name, subject, version)
    return None


def envelope(body: Mapping[str, Any]) -> Envelope:
    """The parts of a registration. A member of the wrong type is refused, an absent type means AVRO."""
    for name, kind in _STRICT_TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise RefusedError("bad_envelope", 422)
    references = tuple(_reference(item) for item in body.get("references") or ())
    if any(item is None for item in references):
        raise RefusedError("bad_envelope", 422)
    given_id, given_version = body.get("id"), body.get("version")
    if (given_id is not None and not isinstance(given_id, int)) or (
        given_version is not None and not isinstance(given_version, int)
    ):
        raise RefusedError("bad_envelope", 422)
    schema_id, version = _whole(given_id), _whole(given_version)
    return Envelope(
        schema_text=body.get("schema"),
        schema_type=body.get("schemaType") or "AVRO",
        references=tuple(item for item in references if item is not None),
        metadata=body.get("metadata"),
        rule_set=body.get("ruleSet"),
        schema_id=schema_id,
        version=version,
        tags_changed=bool(body.get("schemaTagsToAdd") or body.get("schemaTagsToRemove")),
    )
