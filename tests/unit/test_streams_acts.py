"""Acts into evidence: what each kind says, what it hides, and that a repeat is the same entry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemaseal.contracts import codec
from schemaseal.contracts.events import ActObserved, EvidenceEntry, SealedPart
from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.contracts.leaf import Source
from schemaseal.streams.acts import act_entry, kind_of, quarantine_entry
from tests.unit.streams_builder import (
    ALICE,
    CANARIES,
    CARD,
    CI,
    EMAIL,
    ISS,
    JSON,
    LEAKING,
    SSN,
    T0,
    TOKEN,
    WIDER,
    body_of,
    bytes_of,
    context,
    in_clear,
    keys,
    leaf_of,
    register,
)

SOURCE = Source("acts.observed", 5, 41)
READ = HttpRequest("GET", "/subjects/orders/versions/latest", "", (("accept", "application/json"),))
ANSWER = HttpResponse(200, JSON, json.dumps({"schema": LEAKING}).encode())


def act(kind: str = "read", **over: Any) -> ActObserved:
    fields: dict[str, Any] = {"act_id": "act-1", "kind": kind, "at": T0, "observer": "ingress", "target": "registry"}
    return ActObserved(**(fields | over))


def entry_of(observed: ActObserved, source: Source = SOURCE) -> EvidenceEntry:
    output = act_entry(observed, source, T0, context())
    assert isinstance(output.event, EvidenceEntry)
    assert output.event_id == output.event.id
    return output.event


def facts(entry: EvidenceEntry) -> dict[str, Any]:
    loaded: dict[str, Any] = leaf_of(entry)["facts"]
    return loaded


def names(entry: EvidenceEntry) -> list[str]:
    return [item["name"] for item in leaf_of(entry)["bodies"]]


def text_of(entry: EvidenceEntry) -> bytes:
    return entry.leaf + b"".join(body.content + body.media_type.encode() for body in entry.bodies)


def canaries_in(entry: EvidenceEntry) -> list[str]:
    return [canary for canary in CANARIES if canary.encode() in text_of(entry)]


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("genesis", "genesis"), ("baseline", "baseline"), ("read", "act.read"), ("denied", "act.denied")],
)
def test_kinds(kind: str, expected: str) -> None:
    assert kind_of(act(kind)) == expected
    assert entry_of(act(kind)).kind == leaf_of(entry_of(act(kind)))["kind"] == expected


def test_genesis_shows_the_policy_and_keeps_its_digests() -> None:
    policy = HttpResponse(200, (("content-type", "text/plain"),), b"# a comment\nrules: []\n")
    told = {"origin": "example.com/log", "policy_sha256": "4111111111111111" * 4, "targets": [{"name": "registry"}]}
    entry = entry_of(act("genesis", observer="evidence", response=keys().response(policy), facts=json.dumps(told)))
    assert facts(entry) == told | {"observer": "evidence"}
    assert body_of(entry, "response-body") == b"# a comment\nrules: []\n"
    assert names(entry) == ["response-head", "response-body"]


def test_baseline_says_what_exists_and_masks_it() -> None:
    request = HttpRequest("GET", f"/subjects/orders-{CARD}/versions/3")
    entry = entry_of(
        act(
            "baseline",
            observer="evidence",
            request=keys().request(request),
            response=keys().response(ANSWER),
            facts=json.dumps({"version": 3}),
        )
    )
    told = facts(entry)
    assert (told["operation"], told["method"], told["version"]) == ("get_version", "GET", 3)
    assert told["subject"].startswith("orders-CARD~K1~")
    assert told["path"] == f"/subjects/{told['subject']}/versions/3"
    assert canaries_in(entry) == []
    assert b"SSN~K1~" in body_of(entry, "response-body")


def test_a_read_says_who_read_what() -> None:
    token = keys().token()
    observed = act(
        actor=replace(CI, groups=("pipelines",), kid="key-1", unverified=("realm",)),
        initiator=ALICE.person,
        request=keys().request(READ),
        response=keys().response(ANSWER),
        token=token,
        change_id="change-9",
        facts=json.dumps({"status": 200}),
    )
    entry = entry_of(observed)
    leaf, told = leaf_of(entry), facts(entry)
    assert told["requester"] == {
        "iss": ISS,
        "sub": "ci",
        "kind": "service",
        "client_id": "pipeline",
        "groups": ["pipelines"],
        "kid": "key-1",
        "unverified": ["realm"],
    }
    assert told["initiator"] == {"iss": ISS, "sub": "alice"}
    assert (told["operation"], told["subject"], told["status"]) == ("get_version", "orders", 200)
    assert (leaf["target"], leaf["change_id"]) == ("registry", "change-9")
    assert names(entry) == ["request-head", "response-head", "response-body"]
    assert entry.sealed == (observed.request, observed.response, token)
    assert [(person.sub, person.name) for person in entry.actors] == [
        ("ci", "Ci Displayname"),
        ("alice", "Alice Displayname"),
    ]
    assert b"Displayname" not in text_of(entry)
    assert canaries_in(entry) == []


def test_denied_with_its_request_says_no_operation_but_shows_the_masked_request() -> None:
    request = HttpRequest(
        "POST",
        f"/subjects/{EMAIL}/versions",
        f"password=hunter2hunter2&ssn={SSN}",
        (*JSON, ("authorization", f"Bearer {TOKEN}"), ("cookie", "session=abc123abc123"), ("x-other", "other-value")),
        register(LEAKING).body,
    )
    token = keys().seal(TOKEN.encode(), "token", "application/octet-stream", "custody")
    observed = act("denied", request=keys().request(request), token=token, facts='{"reason_code": "no_token"}')
    entry = entry_of(observed)
    assert facts(entry) == {"reason_code": "no_token", "observer": "ingress"}
    assert names(entry) == ["request-head", "request-body"]
    head = json.loads(body_of(entry, "request-head"))
    assert [name for name, _ in head["headers"]] == ["content-type"]
    shown = text_of(entry)
    assert canaries_in(entry) == []
    assert not any(text in shown for text in (b"hunter2", b"abc123", b"other-value"))
    assert entry.actors == ()
    assert token in entry.sealed


def test_a_request_of_an_unknown_target_or_path_gives_its_method_only() -> None:
    unknown_path = entry_of(act(request=keys().request(HttpRequest("GET", "/not/a/route"))))
    assert facts(unknown_path) == {"observer": "ingress", "method": "GET"}
    elsewhere = entry_of(act(request=keys().request(READ), target="elsewhere"))
    assert facts(elsewhere) == {"observer": "ingress", "method": "GET"}
    assert "operation" not in facts(entry_of(act(request=keys().request(READ), target=None)))


# ---------------------------------------------------------------- what cannot be opened or read


def sealed_to_others() -> SealedPart:
    return keys().request(register(WIDER), "custody")


@pytest.mark.parametrize(
    "part",
    [
        sealed_to_others(),
        replace(sealed_to_others(), jwe=b"{}"),
        replace(keys().request(READ), commitment=b"\0" * 32),
        keys().seal(b"\0\0\0\1", "request", "x"),
        keys().seal(b"\0\0\0\2[]", "request", "x"),
    ],
)
@pytest.mark.parametrize("name", ["request", "response"])
def test_a_part_that_cannot_be_read_is_a_stub_and_goes_on_sealed(name: str, part: SealedPart) -> None:
    parts: dict[str, Any] = {name: part}
    entry = entry_of(act(**parts))
    assert names(entry) == [f"{name}-body"]
    stub = json.loads(body_of(entry, f"{name}-body"))
    assert (stub["masked"], stub["reason"], stub["size"]) == ("stub", "unreadable", len(part.jwe))
    assert entry.sealed == (part,)
    assert facts(entry) == {"observer": "ingress"}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"text"', "null", "\ud83d"])
def test_facts_that_are_no_object_are_told_as_unreadable(text: str) -> None:
    assert facts(entry_of(act("login", facts=text))) == {"facts": "unreadable", "observer": "ingress"}


def test_facts_cannot_speak_for_the_observer_or_for_the_identity() -> None:
    told = json.dumps({"observer": "somebody", "requester": {"sub": "mallory"}, "initiator": {"sub": "mallory"}})
    entry = entry_of(act(actor=ALICE, initiator=CI.person, facts=told))
    assert facts(entry)["observer"] == "ingress"
    assert facts(entry)["requester"]["sub"] == "alice"
    assert facts(entry)["initiator"]["sub"] == "ci"


# ---------------------------------------------------------------- every act


def test_what_people_typed_is_masked_in_facts_keys_and_all() -> None:
    told = json.dumps({"note": f"ask {EMAIL}", "nested": [{SSN: {"number": CARD}}], "token": f"Bearer {TOKEN}"})
    entry = entry_of(act("denied", facts=told))
    assert canaries_in(entry) == []
    assert facts(entry)["note"].startswith("ask EMAIL~K1~")


def test_a_person_whose_subject_is_an_address_is_masked_in_the_leaf() -> None:
    entry = entry_of(act(actor=replace(ALICE, sub=EMAIL, client_id=EMAIL, groups=(f"of {EMAIL}",))))
    assert canaries_in(entry) == []
    assert facts(entry)["requester"]["sub"].startswith("EMAIL~K1~")
    assert [person.sub for person in entry.actors] == [EMAIL], "the erasable table knows whom the leaf means"


@pytest.mark.parametrize("source", [SOURCE, Source("acts.observed", 0, 0)])
def test_each_leaf_names_its_source(source: Source) -> None:
    for kind in ("genesis", "baseline", "read", "denied", "login"):
        leaf = leaf_of(entry_of(act(kind), source))
        assert leaf["source"] == {"topic": source.topic, "partition": source.partition, "offset": source.offset}
        assert leaf["at"] == "2026-11-23T09:00:00.000Z"


@given(
    kind=st.sampled_from(["genesis", "baseline", "read", "existing", "denied", "login"]),
    told=st.dictionaries(st.text(max_size=12), st.text(max_size=40) | st.integers() | st.booleans(), max_size=5),
    canary=st.sampled_from(CANARIES),
    with_request=st.booleans(),
    actor=st.sampled_from([None, ALICE, CI]),
)
@settings(max_examples=120, deadline=None)
def test_a_repeat_is_the_same_entry_and_nothing_planted_is_in_it(
    kind: str, told: dict[str, Any], canary: str, with_request: bool, actor: Any
) -> None:
    observed = act(
        kind,
        actor=actor,
        request=PLANTED if with_request else None,
        facts=json.dumps(told | {"planted": f"a {canary} b"}),
    )
    again = codec.decode(ActObserved, codec.encode(observed))
    one, two = (act_entry(value, SOURCE, T0, context()) for value in (observed, again))
    assert bytes_of([one]) == bytes_of([two])
    assert [found for found in CANARIES if found.encode() in in_clear([one])] == []


PLANTED = keys().request(replace(register(LEAKING), query=f"mail={EMAIL}"))


def test_another_act_is_another_entry() -> None:
    assert entry_of(act()).id != entry_of(act(act_id="act-2")).id


# ---------------------------------------------------------------- quarantine


def test_a_message_that_could_not_be_processed_is_accounted_for() -> None:
    source = Source("changes.intercepted", 2, 99)
    output = quarantine_entry(source, T0, f"unknown schema, near {CARD}", context())
    entry = output.event
    assert isinstance(entry, EvidenceEntry)
    leaf = leaf_of(entry)
    assert entry.kind == "act.quarantined"
    assert leaf["source"] == {"topic": "changes.intercepted", "partition": 2, "offset": 99}
    assert leaf["facts"]["consumer"] == "streams"
    assert leaf["facts"]["error"].startswith("unknown schema, near CARD~K1~")
    assert (leaf["bodies"], leaf["sealed"], entry.actors) == ([], [], ())
    assert bytes_of([output]) == bytes_of([quarantine_entry(source, T0, f"unknown schema, near {CARD}", context())])
    ids = {
        quarantine_entry(Source(topic, partition, offset), T0, "e", context()).event_id
        for topic in ("changes.intercepted", "acts.observed")
        for partition in (1, 11)
        for offset in (1, 11)
    }
    assert len(ids) == 8
