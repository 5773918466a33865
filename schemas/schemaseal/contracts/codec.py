"""Avro single-object encoding of the events.

Source: Apache Avro 1.12 specification, "Single-object encoding": two bytes C3 01, eight bytes fingerprint
(CRC-64-AVRO, little-endian), the body. One deviation, on purpose: the fingerprint is taken over the *full*
schema as compact JSON with sorted keys, not over the parsing canonical form, because that form drops
defaults and logical types and so cannot tell two of our versions apart.

Invariants: `decode(encode(e)) == e`; a record written under any schema in `history/` can be read; anything
else (short, foreign fingerprint, trailing bytes, wrong type) raises `ContractError` and never half an event.
"""

from __future__ import annotations

import dataclasses
import io
import json
import types
import typing
from collections.abc import Callable
from datetime import datetime
from functools import cache as _cache
from importlib import resources
from typing import Any, TypeVar, cast

import fastavro
from fastavro.types import Schema

from schemaseal.contracts.events import EVENTS, Event

MAGIC = b"\xc3\x01"
HEADER_SIZE = 10
_EMPTY = 0xC15D213AA4D7A795

E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Callable[..., Any])


def cache(function: F) -> F:
    """`functools.cache`, typed as the function itself: classes are hashable, whatever the stubs think."""
    return cast(F, _cache(function))


class ContractError(ValueError):
    """Bytes that are not an event of the expected kind. What to do: quarantine the message."""


@cache
def _table() -> tuple[int, ...]:
    table = []
    for i in range(256):
        fp = i
        for _ in range(8):
            fp = (fp >> 1) ^ (_EMPTY & -(fp & 1))
        table.append(fp)
    return tuple(table)


def crc64_avro(data: bytes) -> int:
    """CRC-64-AVRO (Rabin) of `data`, as the Avro specification defines it."""
    fp, table = _EMPTY, _table()
    for byte in data:
        fp = (fp >> 8) ^ table[(fp ^ byte) & 0xFF]
    return fp


def fingerprint(schema: Any) -> bytes:
    """Eight bytes that name one schema version, little-endian."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return crc64_avro(text.encode()).to_bytes(8, "little")


def schema_name(event_type: type[Event]) -> str:
    """`ChangeIntercepted` → `change_intercepted`, the file stem in `avsc/`."""
    out = ""
    for char in event_type.__name__:
        out += ("_" if out and char.isupper() else "") + char.lower()
    return out


@cache
def raw_schema(event_type: type[Event]) -> Any:
    """The current Avro schema as written in `avsc/`."""
    path = resources.files("schemaseal.contracts") / "avsc" / f"{schema_name(event_type)}.avsc"
    return json.loads(path.read_text("utf-8"))


@cache
def history(event_type: type[Event]) -> dict[bytes, Any]:
    """Fingerprint → schema of every version ever released, the current one included."""
    versions = {fingerprint(raw_schema(event_type)): raw_schema(event_type)}
    folder = resources.files("schemaseal.contracts") / "history"
    for path in folder.iterdir():
        if path.name.startswith(schema_name(event_type) + ".") and path.name.endswith(".avsc"):
            schema = json.loads(path.read_text("utf-8"))
            versions[fingerprint(schema)] = schema
    return versions


@cache
def _parsed(event_type: type[Event]) -> tuple[bytes, Schema, dict[bytes, Schema]]:
    header = MAGIC + fingerprint(raw_schema(event_type))
    readers = {fp: fastavro.parse_schema(s, named_schemas={}) for fp, s in history(event_type).items()}
    return header, readers[header[2:]], readers


def _to_avro(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_avro(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_to_avro(item) for item in value]
    return value


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _from_avro(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _from_avro(inner[0], value)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_from_avro(item, entry) for entry in value)
    if dataclasses.is_dataclass(hint):
        hints = _hints(cast("type[Any]", hint))
        return cast("type[Any]", hint)(**{k: _from_avro(hints[k], v) for k, v in value.items()})
    return value


def to_millis(at: datetime) -> datetime:
    """Cut to the resolution the contracts carry, so that what is sent equals what is read."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def encode(event: Event) -> bytes:
    """The event as header and Avro body. Raises `ContractError` where a value does not fit its schema."""
    header, writer, _ = _parsed(type(event))
    out = io.BytesIO()
    out.write(header)
    try:
        fastavro.schemaless_writer(out, writer, _to_avro(event), strict=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ContractError(f"{type(event).__name__} does not fit its schema: {type(error).__name__}") from error
    return out.getvalue()


def decode(event_type: type[E], data: bytes) -> E:
    """The event of `event_type` in `data`, whichever released version wrote it. Raises `ContractError`."""
    name = event_type.__name__
    if len(data) < HEADER_SIZE or data[:2] != MAGIC:
        raise ContractError(f"not a {name}: no single-object header")
    _, reader, writers = _parsed(cast("type[Event]", event_type))
    writer = writers.get(bytes(data[2:HEADER_SIZE]))
    if writer is None:
        raise ContractError(f"not a {name}: unknown schema fingerprint {data[2:HEADER_SIZE].hex()}")
    stream = io.BytesIO(data)
    stream.seek(HEADER_SIZE)
    try:
        record = fastavro.schemaless_reader(stream, writer, reader)
        event = cast(E, _from_avro(event_type, record))
    except Exception as error:  # fastavro raises many types on hostile bytes
        raise ContractError(f"not a {name}: body unreadable ({type(error).__name__})") from error
    if stream.tell() != len(data):
        raise ContractError(f"not a {name}: {len(data) - stream.tell()} bytes after the record")
    return event


def event_type_of(data: bytes) -> type[Event] | None:
    """Which event the header names, or None."""
    if len(data) < HEADER_SIZE or data[:2] != MAGIC:
        return None
    for event_type in EVENTS:
        if bytes(data[2:HEADER_SIZE]) in history(event_type):
            return event_type
    return None
