"""One leaf: its grammar (version 1), and whether the typed columns say what it says. Pure.

A leaf is a JSON object with at least v, id, kind, at, target, change_id, source {topic, partition, offset},
bodies [{name, media_type, size, digest}], sealed [{name, commitment, jwe_sha256}], facts {…}; further keys
are allowed, so that later writers can add some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemaseal.tlog.strict import printable
from schemaseal.verify.export_format import LEAF_LIMIT, ExportFormatError, parse_digest, parse_json

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_DATABASE_AT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3})")
_FIELDS = ("v", "id", "kind", "at", "target", "change_id", "source", "bodies", "sealed", "facts")

# Typed columns and what they stand for in the leaf.
COLUMNS: dict[str, Callable[[Leaf], object]] = {
    "v": lambda leaf: 1,
    "id": lambda leaf: leaf.id,
    "kind": lambda leaf: leaf.kind,
    "at": lambda leaf: leaf.at,
    "target": lambda leaf: leaf.target,
    "change_id": lambda leaf: leaf.change_id,
    "source_topic": lambda leaf: leaf.topic,
    "source_partition": lambda leaf: leaf.partition,
    "source_offset": lambda leaf: leaf.offset,
}


@dataclass(frozen=True, slots=True)
class BodyRef:
    name: str
    media_type: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class SealedRef:
    name: str
    commitment: bytes
    jwe_sha256: bytes


@dataclass(frozen=True, slots=True)
class Leaf:
    id: str
    kind: str
    at: str
    target: str | None
    change_id: str | None
    topic: str
    partition: int
    offset: int
    bodies: tuple[BodyRef, ...]
    sealed: tuple[SealedRef, ...]
    facts: dict[str, Any]


def parse_leaf(data: bytes) -> Leaf:
    """The leaf's bytes read strictly; raises `ExportFormatError` naming the field."""
    if len(data) >= LEAF_LIMIT:
        raise ExportFormatError(f"{len(data)} bytes, and the limit is {LEAF_LIMIT}")
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ExportFormatError("not an object")
    for name in _FIELDS:
        if name not in value:
            raise ExportFormatError(f"no field {name}")
    if type(value["v"]) is not int or value["v"] != 1:
        raise ExportFormatError("not version 1")
    source, facts = value["source"], value["facts"]
    if not isinstance(source, dict) or not isinstance(facts, dict):
        raise ExportFormatError("source and facts are objects")
    return Leaf(
        id=_uuid(value, "id"),
        kind=_string(value, "kind"),
        at=_timestamp(value, "at"),
        target=None if value["target"] is None else _string(value, "target"),
        change_id=None if value["change_id"] is None else _uuid(value, "change_id"),
        topic=_string(source, "topic"),
        partition=_number(source, "partition"),
        offset=_number(source, "offset"),
        bodies=tuple(
            BodyRef(
                _string(item, "name"),
                _string(item, "media_type"),
                _number(item, "size"),
                parse_digest(item.get("digest")),
            )
            for item in _objects(value, "bodies")
        ),
        sealed=tuple(
            SealedRef(
                _string(item, "name"),
                parse_digest(item.get("commitment")),
                parse_digest(item.get("jwe_sha256")),
            )
            for item in _objects(value, "sealed")
        ),
        facts=facts,
    )


def column_differences(leaf: Leaf, columns: Mapping[str, Any]) -> list[str]:
    """One text per column that does not say what the leaf says, or that stands for nothing in it."""
    texts: list[str] = []
    for name, shown in columns.items():
        reader = COLUMNS.get(name)
        if reader is not None:
            said = reader(leaf)
        elif name in leaf.facts:
            said = leaf.facts[name]
        else:
            texts.append(f"column {printable(name)} stands for nothing in the leaf")
            continue
        if not _same(said, _as_written(shown) if name == "at" else shown):
            texts.append(f"column {name} shows {printable(shown)}, the leaf says {printable(said)}")
    return texts


def parse_at(at: str) -> datetime:
    """A leaf's `at` as a UTC datetime; raises `ValueError` for a day that does not exist."""
    return datetime.fromisoformat(at)


def erased(leaf: Leaf, what: str) -> list[bytes]:
    """Digests that an erasure leaf lists under `facts.<what>`; raises `ExportFormatError`."""
    listed = leaf.facts.get(what, [])
    if not isinstance(listed, list):
        raise ExportFormatError(f"facts.{what} of an erasure is a list of digests")
    return [parse_digest(item) for item in listed]


def _same(said: object, shown: object) -> bool:
    if said is None:  # a column that is not nullable shows an empty string; no field may be one
        return shown is None or shown == ""
    # No truth value passes for a number, and no number for a text.
    return type(said) is type(shown) and said == shown


def _as_written(shown: object) -> object:
    match = _DATABASE_AT.fullmatch(shown) if isinstance(shown, str) else None
    return f"{match[1]}T{match[2]}Z" if match else shown


def _objects(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = value[name]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ExportFormatError(f"{name} is a list of objects")
    return items


def _string(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise ExportFormatError(f"{name} is a string that is not empty")
    return found


def _number(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    if type(found) is not int or found < 0:
        raise ExportFormatError(f"{name} is a number of at least 0")
    return found


def _uuid(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not _UUID.fullmatch(found):
        raise ExportFormatError(f"{name} is a UUID in lower case")
    return found


def _timestamp(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not _AT.fullmatch(found):
        raise ExportFormatError(f"{name} is RFC 3339 in UTC with milliseconds")
    try:
        parse_at(found)
    except ValueError as error:
        raise ExportFormatError(f"{name} is no moment of the calendar") from error
    return found
