"""The gate: what leaves streams in clear is masked, bounded, and the same bytes each time."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemaseal.contracts import codec
from schemaseal.contracts.events import EvidenceEntry
from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.contracts.leaf import LEAF_LIMIT, LeafTooLarge, Source
from schemaseal.contracts.records import Outgoing
from schemaseal.masking import Manifest, Masked
from schemaseal.streams import gate as gate_module
from schemaseal.streams.gate import READABLE_HEADERS, MaskedBody
from tests.unit.streams_builder import (
    ALICE,
    BOB,
    CANARIES,
    CARD,
    EMAIL,
    SSN,
    T0,
    TOKEN,
    body_of,
    bytes_of,
    gate,
    in_clear,
    leaf_of,
)

SOURCE = Source("changes.intercepted", 3, 17)
CANARY_TEXT = f"card {CARD}, mail {EMAIL}, ssn {SSN}, token {TOKEN}."


def entry(**over: Any) -> Outgoing:
    fields: dict[str, Any] = {"leaf_id": "leaf-1", "kind": "act.read", "at": T0, "source": SOURCE, "facts": {}}
    return gate().entry(**(fields | over))


def made(**over: Any) -> EvidenceEntry:
    event = entry(**over).event
    assert isinstance(event, EvidenceEntry)
    return event


def shown(body: MaskedBody) -> bytes:
    return body.content + body.media_type.encode()


def clean(data: bytes) -> bool:
    return not any(canary.encode() in data for canary in CANARIES)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (json.dumps({"a": CANARY_TEXT, "n": int(CARD)}).encode(), "application/json"),
        (json.dumps({"schema": json.dumps({"examples": [CANARY_TEXT]})}).encode(), "application/json; charset=utf-8"),
        (json.dumps([CANARY_TEXT]).encode(), "application/vnd.schemaregistry.v1+json"),
        (CANARY_TEXT.encode(), "text/plain"),
        (f"card={CARD}&mail={EMAIL}&ssn={SSN}&t={TOKEN}".encode(), "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_is_masked_as_its_media_type_says(content: bytes, media_type: str) -> None:
    body = gate().body("request-body", content, media_type)
    assert clean(body.content)
    assert body.media_type == media_type
    assert body.hidden >= len(CANARIES)
    assert b"CARD~K1~" in body.content
    assert b"stub" not in body.content


@pytest.mark.parametrize("media_type", ["application/octet-stream", "", "image/png", "application/jsonx", "nonsense"])
def test_an_unknown_media_type_is_a_stub(media_type: str) -> None:
    body = gate().body("request-body", CANARY_TEXT.encode(), media_type)
    stub = json.loads(body.content)
    assert (stub["masked"], stub["reason"], stub["size"]) == ("stub", "content-type", len(CANARY_TEXT))
    assert body.media_type == "application/json"
    assert body.hidden == 1
    assert clean(body.content)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"card": 4111111111111111', CANARY_TEXT.encode()])
def test_what_is_not_the_json_it_says_is_a_stub(content: bytes) -> None:
    body = gate().body("request-body", content, "application/json")
    assert json.loads(body.content)["masked"] == "stub"
    assert clean(body.content)


@pytest.mark.parametrize("canary", CANARIES)
def test_what_masking_leaves_behind_turns_the_whole_body_into_a_stub(
    canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look is on its own: a masking that does nothing at all is caught."""

    def nothing(body: bytes, *_rest: Any) -> Masked:
        return Masked(body, Manifest((), 0))

    monkeypatch.setattr(gate_module, "mask", nothing)
    harmless = gate().body("request-body", b'{"a": 1}', "application/json")
    assert harmless.content == b'{"a": 1}'
    body = gate().body("request-body", json.dumps({"left": canary, "harmless": "kept out too"}).encode(), "text/plain")
    stub = json.loads(body.content)
    assert (stub["masked"], stub["reason"]) == ("stub", "residue")
    assert b"kept out too" not in body.content
    assert body.media_type == "application/json"


def test_a_stub_names_size_and_a_keyed_digest() -> None:
    one, same, other = (gate().stub("b", content, "residue") for content in (b"x", b"x", b"y"))
    assert one == same
    digest = json.loads(one.content)["digest"]
    assert digest == hmac.digest(gate().salt_key, b"x", hashlib.sha256).hex()
    assert digest != hashlib.sha256(b"x").hexdigest(), "a digest without a key can be guessed"
    assert digest != json.loads(other.content)["digest"]


def test_a_media_type_is_written_by_clients_and_masked() -> None:
    """It stands in the leaf, which nobody can erase."""
    body = gate().body("request-body", b"{}", f"application/json; note={CARD}; by={EMAIL}")
    assert clean(shown(body))
    long = gate().body("request-body", b"{}", "application/json; x=" + "y" * LEAF_LIMIT)
    assert long.media_type == "application/octet-stream"
    leaf = made(bodies=[body, long]).leaf
    assert clean(leaf)


# ---------------------------------------------------------------- requests and responses


SECRETS = (
    ("Authorization", f"Bearer {TOKEN}"),
    ("authorization", "Basic c2VjcmV0OnBhc3N3b3Jk"),
    ("Cookie", "session=only-in-the-cookie"),
    ("Set-Cookie", "session=only-in-the-set-cookie"),
    ("Proxy-Authorization", "Basic b25seS1pbi1wcm94eQ"),
    ("X-Api-Key", "only-in-the-api-key"),
    ("x-forwarded-for", "203.0.113.77"),
    ("schemaseal-peer", "203.0.113.78"),
)


def test_only_listed_headers_can_be_read() -> None:
    headers = (("Content-Type", "application/json"), ("User-Agent", f"client of {EMAIL}"), *SECRETS)
    sent = gate().request(HttpRequest("POST", "/subjects", "", headers, b"{}"))
    came = gate().response(HttpResponse(200, headers, b"{}"))
    for bodies, head_name in ((sent, "request-head"), (came, "response-head")):
        head = json.loads(bodies[0].content)
        assert bodies[0].name == head_name
        assert [name for name, _ in head["headers"]] == ["content-type", "user-agent"]
        text = b"".join(body.content for body in bodies)
        assert clean(text)
        assert not any(value.encode() in text for _, value in SECRETS)


def test_no_header_that_carries_a_credential_is_listed() -> None:
    assert not READABLE_HEADERS & {name.lower() for name, _ in SECRETS}


@given(
    headers=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(sorted(READABLE_HEADERS)), st.text(st.characters(codec="ascii"), max_size=12)),
            st.text(max_size=20),
        ),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_headers_that_are_shown_are_a_sub_list_of_those_listed(headers: list[tuple[str, str]]) -> None:
    body = gate().request(HttpRequest("GET", "/", "", tuple(headers)))[0]
    names = [name for name, _ in json.loads(body.content)["headers"]]
    assert names == [name.lower() for name, _ in headers if name.lower() in READABLE_HEADERS]


def test_path_query_and_reason_are_masked() -> None:
    request = HttpRequest(
        "GET",
        f"/subjects/{CARD}/versions",
        f"who={EMAIL.replace('@', '%40')}&password=hunter2hunter2",
        (("schemaseal-reason", CANARY_TEXT),),
    )
    (head,) = gate().request(request)
    assert clean(head.content)
    assert EMAIL.replace("@", "%40").encode() not in head.content
    assert b"hunter2" not in head.content
    assert json.loads(head.content)["path"].startswith("/subjects/CARD~K1~")


def test_an_empty_body_is_no_body_and_an_unnamed_type_is_a_stub() -> None:
    assert [body.name for body in gate().request(HttpRequest("GET", "/subjects"))] == ["request-head"]
    _, body = gate().response(HttpResponse(200, (), CANARY_TEXT.encode()))
    assert json.loads(body.content)["reason"] == "content-type"


# ---------------------------------------------------------------- entries


def test_the_same_entry_twice_has_the_same_bytes() -> None:
    def bodies() -> list[MaskedBody]:
        return [gate().json_body("a", {"n": CARD}), gate().json_body("b", {"n": CARD})]

    one, two = (entry(bodies=bodies(), facts={"text": CANARY_TEXT}, people=(ALICE, BOB.person)) for _ in range(2))
    assert bytes_of([one]) == bytes_of([two])


def test_salts_are_derived_and_differ_by_leaf_and_by_body() -> None:
    bodies = [MaskedBody("a", "text/plain", b"same", 0), MaskedBody("b", "text/plain", b"same", 0)]
    one, other = made(bodies=bodies), made(bodies=bodies, leaf_id="leaf-2")
    salts = [body.salt for event in (one, other) for body in event.bodies]
    assert len(set(salts)) == 4
    assert all(len(salt) == 32 for salt in salts)
    assert made(bodies=bodies).bodies == one.bodies
    for body in one.bodies:
        assert body.digest == hmac.digest(body.salt, body.content, hashlib.sha256)
    assert [item["digest"] for item in leaf_of(one)["bodies"]] == [body.digest.hex() for body in one.bodies]


def test_facts_are_masked_at_every_depth_keys_included() -> None:
    facts = {"a": CANARY_TEXT, "b": [{"c": (CANARY_TEXT, 7, None, True)}], f"key {CARD}": 1.5}
    event = made(facts=facts)
    assert clean(event.leaf)
    masked = leaf_of(event)["facts"]
    assert masked["b"][0]["c"][1:] == [7, None, True]
    assert masked["b"][0]["c"][0] == masked["a"] == gate().text(CANARY_TEXT)


MACHINE = (
    st.binary(min_size=32, max_size=32).map(bytes.hex)
    | st.uuids(version=4).map(str)
    | st.uuids(version=5).map(str)
    | st.datetimes().map(lambda at: f"{at:%H:%M:%S}.{at.microsecond // 1000:03}Z").map(lambda t: f"2026-11-23T{t}")
)


@given(st.lists(MACHINE, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_machines_made_is_not_damaged(values: list[str]) -> None:
    assert leaf_of(made(facts={"values": values, "one": values[0]}))["facts"] == {"values": values, "one": values[0]}


@pytest.mark.parametrize(
    "digest",
    ["4111111111111111" * 4, "41111111-1111-4111-8111-111111111111", "0" * 48 + "4111111111111111"],
)
def test_digests_that_hold_something_like_a_card_stay(digest: str) -> None:
    assert leaf_of(made(facts={"sha256": digest}))["facts"]["sha256"] == digest


@pytest.mark.parametrize("value", [f"{CARD}Z", f"2026-11-23T09:00:00.000Z {CARD}", f"{'a' * 64} {SSN}", f"{EMAIL}\n"])
def test_what_only_starts_like_a_machines_form_is_masked(value: str) -> None:
    assert clean(made(facts={"value": value}).leaf)


def test_a_leaf_names_its_source_and_nobody() -> None:
    event = made(people=(ALICE, None, BOB.person, ALICE.person), facts={"requester": {"sub": ALICE.sub}})
    leaf = leaf_of(event)
    assert leaf["source"] == {"topic": "changes.intercepted", "partition": 3, "offset": 17}
    assert b"Displayname" not in event.leaf
    assert [(p.sub, p.name) for p in event.actors] == [("alice", "Alice Displayname"), ("bob", "Bob Displayname")]
    assert (leaf["id"], leaf["kind"], leaf["at"]) == ("leaf-1", "act.read", "2026-11-23T09:00:00.000Z")


def test_a_display_name_that_is_an_address_is_masked() -> None:
    event = made(people=(replace(ALICE, name=f"Alice {CARD}"),))
    assert event.actors[0].name is not None
    assert CARD not in event.actors[0].name


# ---------------------------------------------------------------- limits


def test_facts_too_long_for_a_leaf_go_to_a_body_masked() -> None:
    """A client chooses how long its subject is: that must not stop the log, nor be lost."""
    subject = "s" * LEAF_LIMIT + CANARY_TEXT
    event = made(facts={"subject": subject, "rule": "register", "commitment": "a" * 64})
    leaf = leaf_of(event)
    assert len(event.leaf) < LEAF_LIMIT
    assert leaf["facts"] == {"rule": "register", "commitment": "a" * 64, "in_body": ["subject"]}
    assert [item["name"] for item in leaf["bodies"]] == ["facts"]
    moved = body_of(event, "facts")
    assert clean(moved)
    assert json.loads(moved)["subject"].startswith("s" * LEAF_LIMIT)
    assert codec.decode(EvidenceEntry, codec.encode(event)) == event


@given(
    facts=st.dictionaries(
        st.text(max_size=30),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3000).map(lambda t: t * 9),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
            max_leaves=6,
        ),
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_leaf_stays_under_the_limit_whatever_the_facts(facts: dict[str, Any]) -> None:
    output = entry(facts=facts)
    event = output.event
    assert isinstance(event, EvidenceEntry)
    assert len(event.leaf) < LEAF_LIMIT
    moved = leaf_of(event)["facts"].get("in_body", [])
    assert bool(moved) == any(item["name"] == "facts" for item in leaf_of(event)["bodies"])
    assert bytes_of([output]) == bytes_of([entry(facts=facts)])


def test_what_cannot_be_made_short_is_an_error_and_no_leaf() -> None:
    with pytest.raises(LeafTooLarge):
        entry(facts={f"fact-{number}": "x" * 1000 for number in range(100)})


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", f"{CARD}\ud800"])
def test_half_a_character_can_be_written(text: str) -> None:
    """JSON can name a lone surrogate and UTF-8 cannot hold it; this ended the worker, again and again."""
    output = entry(facts={text: text}, bodies=[gate().json_body("b", {text: [text]})])
    assert clean(in_clear([output]))
    assert codec.decode(EvidenceEntry, bytes_of([output])[0][3]) == output.event
    assert "\ud800" not in (gate().text(text) or "")
    assert gate().text(None) is None


@given(st.text(max_size=200), st.sampled_from(CANARIES), st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_canary_survives_between_any_texts(before: str, canary: str, after: str) -> None:
    """Set off by blanks: what is glued to other characters is another text (see the masking's own tests)."""
    text = f"{before} {canary} {after}"
    output = entry(facts={"reason": text}, bodies=[gate().json_body("b", {"t": text})])
    assert canary.encode() not in in_clear([output])
