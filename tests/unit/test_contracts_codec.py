"""Contracts: golden bytes, round trips, named bad inputs, and that old events stay readable."""

from __future__ import annotations

import dataclasses
import io
import json
import types
import typing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_many
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import EVENTS, Event, LogCheckpoint, TimerDue
from schemaseal.contracts.http import HttpMessageError, HttpRequest, HttpResponse

VECTORS = Path(__file__).parent.parent / "vectors" / "contracts.json"
EPOCH = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


def sample(hint: Any, name: str = "x") -> Any:
    """A fixed value of a field's type; the golden bytes are made of these."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return sample(next(a for a in typing.get_args(hint) if a is not type(None)), name)
    if origin is tuple:
        return (sample(typing.get_args(hint)[0], name),)
    if origin is dict:
        return {"key": sample(typing.get_args(hint)[1], name)}
    if origin is typing.Literal:
        return typing.get_args(hint)[0]
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: sample(hints[f.name], f.name) for f in dataclasses.fields(hint)})
    return {str: name, int: 7, bool: True, bytes: name.encode(), datetime: EPOCH}[hint]


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*[st.none() if a is type(None) else strategy(a) for a in typing.get_args(hint)])
    if origin is tuple:
        return st.lists(strategy(typing.get_args(hint)[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), strategy(typing.get_args(hint)[1]), max_size=2)
    if origin is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{f.name: strategy(hints[f.name]) for f in dataclasses.fields(hint)})
    moments = st.integers(0, 4_000_000_000_000).map(
        lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    )
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(-(2**31), 2**31 - 1),
        bool: st.booleans(),
        bytes: st.binary(max_size=40),
        datetime: moments,
    }
    return simple[hint]


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda t: t.__name__)
def test_golden_bytes(event_type: type[Event]) -> None:
    golden = json.loads(VECTORS.read_text("utf-8"))
    event = sample(event_type)
    data = codec.encode(event)
    assert data.hex() == golden[event_type.__name__]
    assert codec.decode(event_type, data) == event
    assert codec.event_type_of(data) is event_type


@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    event_type = data.draw(st.sampled_from(EVENTS))
    event = data.draw(strategy(event_type))
    assert codec.decode(event_type, codec.encode(event)) == event


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda t: t.__name__)
def test_fields_are_those_of_the_schema(event_type: type[Event]) -> None:
    schema = codec.raw_schema(event_type)
    assert [f["name"] for f in schema["fields"]] == [f.name for f in dataclasses.fields(event_type)]
    defaults = {f["name"] for f in schema["fields"] if "default" in f}
    optional = {
        f.name
        for f in dataclasses.fields(event_type)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    assert defaults == optional


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda t: t.__name__)
def test_every_released_version_is_readable(event_type: type[Event]) -> None:
    """A record written under any schema of the history can be read as the event of today."""
    for fingerprint, schema in codec.history(event_type).items():
        body = io.BytesIO()
        record = next(generate_many(fastavro.parse_schema(schema, named_schemas={}), 1))
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema, named_schemas={}), record)
        event = codec.decode(event_type, codec.MAGIC + fingerprint + body.getvalue())
        assert isinstance(event, event_type)


GOOD = codec.encode(TimerDue(change_id="c", what="expiry", due_at=EPOCH))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no single-object header"),
        (GOOD[:9], "no single-object header"),
        (b"\xc3\x02" + GOOD[2:], "no single-object header"),
        (b"\xc3\x01" + bytes(8) + GOOD[10:], "unknown schema fingerprint"),
        (GOOD[:-1], "body unreadable"),
        (GOOD + b"\0", "1 bytes after the record"),
        (codec.encode(sample(LogCheckpoint)), "unknown schema fingerprint"),
    ],
)
def test_bad_bytes(data: bytes, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        codec.decode(TimerDue, data)


def test_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ContractError, match="does not fit"):
        codec.encode(TimerDue(change_id=typing.cast(Any, 3), what="expiry", due_at=EPOCH))


def test_fingerprint_vector() -> None:
    """CRC-64-AVRO of the empty input is the constant of the specification; of `"int"` its known value."""
    assert codec.crc64_avro(b"") == 0xC15D213AA4D7A795
    assert codec.crc64_avro(b'"int"') == 0x7275D51A3F395C8F


@given(
    st.text(max_size=30),
    st.binary(max_size=60),
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5))),
)
def test_http_messages_round_trip(path: str, body: bytes, headers: list[tuple[str, str]]) -> None:
    request = HttpRequest("POST", path, "a=b", tuple(headers), body)
    assert HttpRequest.from_bytes(request.to_bytes()) == request
    response = HttpResponse(200, tuple(headers), body)
    assert HttpResponse.from_bytes(response.to_bytes()) == response


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x05{}", b"\0\0\0\x02[]", b"\0\0\0\x02{}", b"\0\0\0\x01x"])
def test_bad_http_messages(data: bytes) -> None:
    with pytest.raises(HttpMessageError):
        HttpRequest.from_bytes(data)
    with pytest.raises(HttpMessageError):
        HttpResponse.from_bytes(data)


def write_vectors() -> None:
    """`python -m tests.unit.test_contracts_codec` writes the golden bytes anew, after a deliberate change."""
    vectors = {t.__name__: codec.encode(sample(t)).hex() for t in EVENTS}
    VECTORS.write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write_vectors()
