"""Whole lives of changes through `handle`: sealed events in, records and the subject's state out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemaseal.approvals import state as machine
from schemaseal.contracts import codec
from schemaseal.contracts.events import ChangeReleased, EvidenceEntry, ReleaseOrder, SealedPart, SubjectState, TimerDue
from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.contracts.records import Outgoing
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.registry.base import Base
from schemaseal.sealing.signing import RECEIPT_DOMAIN, RELEASE_DOMAIN, verify
from schemaseal.streams.pipeline import Identity, Keyed, due_at, handle, sealed_token
from tests.unit.streams_builder import (
    ALICE,
    BASE,
    BOB,
    CANARIES,
    CARD,
    CAROL,
    CI,
    EMAIL,
    ISS,
    JSON,
    KEY,
    LEAKING,
    NARROWER,
    OLD,
    POLICY,
    REFUSED,
    SSN,
    T0,
    TOKEN,
    WIDER,
    WINDOW,
    Subject,
    applying,
    asks,
    body_of,
    bytes_of,
    context,
    decided,
    entries,
    facts_of,
    human,
    in_clear,
    intercepted,
    keys,
    kinds,
    leaf_of,
    orders,
    policy_sha256,
    proven,
    register,
    released,
    schema,
    statuses,
)

OTHER = schema(id={"type": "integer"}, other={"type": "string"})
V2 = Base(identity="v2:id8", version=2, schema_id=8, schema_type="JSON", schema_text=OLD, versions=(1, 2))
ANSWER = HttpResponse(200, JSON, b'{"id":8}')


def pending(**over: Any) -> Subject:
    """A subject with one change that waits for one person."""
    subject = Subject()
    subject.take(intercepted(request=register(NARROWER), **over))
    assert subject.change().state == machine.PENDING
    return subject


def states(outputs: list[Outgoing]) -> list[str]:
    return [status.state for status in statuses(outputs)]


def refusals(outputs: list[Outgoing]) -> list[str | None]:
    return [status.refusal for status in statuses(outputs) if status.decision_id is not None]


# ---------------------------------------------------------------- low risk


def test_low_risk_is_released_applied_and_answered() -> None:
    subject = Subject()
    sent = intercepted()
    outputs = subject.take(sent)
    assert kinds(outputs) == ["change.assessed", "change.released"]
    assert states(outputs) == ["released"]
    assert asks(outputs) == []

    (order,) = orders(outputs)
    assert order.request == sent.request, "what was sealed goes on as it came"
    assert (order.commitment, order.base_identity) == (sent.request.commitment, "v1:id7")
    assert order.votes == ()
    assert order.deadline == T0 + timedelta(hours=1)

    outputs = subject.take(applying(subject.change()))
    assert kinds(outputs) == ["change.applying"]
    assert subject.change().state == machine.APPLYING

    answer = keys().response(ANSWER)
    outputs = subject.take(
        applying(
            subject.change(),
            "applied",
            status=200,
            response=answer,
            base_after=keys().base(V2),
            base_after_identity="v2:id8",
        )
    )
    assert kinds(outputs) == ["change.closed"]
    (status,) = statuses(outputs)
    assert (status.state, status.answer, status.at) == ("applied", answer, T0)
    facts = facts_of(outputs, "change.closed")
    assert (facts["outcome"], facts["status"], facts["base_after"]) == ("applied", 200, "v2:id8")
    (closed,) = entries(outputs)
    assert body_of(closed, "response-body") == b'{"id":8}'
    assert closed.sealed == (answer, subject_base(closed.sealed))


def subject_base(sealed: tuple[SealedPart, ...]) -> SealedPart:
    (base,) = [part for part in sealed if part.name == "base"]
    return base


def test_an_answer_is_told_only_at_the_end() -> None:
    subject = Subject()
    subject.take(intercepted())
    outputs = subject.take(applying(subject.change(), "unresolved", response=keys().response(ANSWER)))
    assert [(s.state, s.answer) for s in statuses(outputs)] == [("unresolved", None)]


def test_the_order_is_signed_for_the_applier_and_for_nothing_else() -> None:
    (event,) = released(Subject().take(intercepted()))
    public = keys().public
    assert verify(public, "streams", event.key_id, RELEASE_DOMAIN, event.order, event.signature)
    assert not verify(public, "streams", event.key_id, RECEIPT_DOMAIN, event.order, event.signature)
    assert not verify(public, "ingress", event.key_id, RELEASE_DOMAIN, event.order, event.signature)
    order = codec.decode(ReleaseOrder, event.order)
    forged = codec.encode(replace(order, deadline=order.deadline + timedelta(milliseconds=1)))
    assert not verify(public, "streams", event.key_id, RELEASE_DOMAIN, forged, event.signature)


def test_what_came_sealed_stands_with_the_leaf_that_is_about_it() -> None:
    sent = intercepted()
    outputs = Subject().take(sent)
    assessed, release_entry = entries(outputs)
    assert assessed.sealed == (sent.request, sent.base, sent.token)
    assert [item["commitment"] for item in leaf_of(assessed)["sealed"]] == [p.commitment.hex() for p in assessed.sealed]
    assert [person.sub for person in assessed.actors] == ["alice"]
    assert (release_entry.sealed, release_entry.actors, release_entry.bodies) == ((), (), ())


# ---------------------------------------------------------------- high risk


def test_high_risk_is_put_before_people() -> None:
    subject = Subject()
    sent = intercepted(request=register(NARROWER, headers=(*JSON, ("schemaseal-reason", "because"))))
    outputs = subject.take(sent)
    assert kinds(outputs) == ["change.assessed"]
    assert states(outputs) == ["pending"]
    (ask,) = asks(outputs)
    assert (ask.required, ask.groups, ask.rule) == (1, ("schema-owners",), "register")
    assert ask.commitment == sent.request.commitment
    assert (ask.requested_at, ask.expires_at) == (T0, T0 + timedelta(hours=2))
    assert (ask.reason, ask.subject, ask.base_identity) == ("because", "orders", "v1:id7")
    assert [item["code"] for item in json.loads(ask.differences)] == ["bound-tightened"]
    assert released(outputs) == []


@pytest.mark.parametrize(
    ("voter", "code"),
    [
        (ALICE, "own_change"),
        (CI, "not_a_person"),
        (human("mallory", groups=("engineers",)), "not_in_group"),
        (human("mallory", groups=()), "not_in_group"),
    ],
)
def test_who_may_not_approve(voter: Any, code: str) -> None:
    subject = pending()
    outputs = subject.take(decided(subject.change(), voter))
    assert refusals(outputs) == [code]
    facts = facts_of(outputs, "change.decided")
    assert (facts["accepted"], facts["refusal"], facts["votes"]) == (False, code, 0)
    assert released(outputs) == []
    assert subject.change().state == machine.PENDING


def test_the_person_behind_a_machine_may_not_approve_and_a_second_person_may() -> None:
    subject = pending(actor=CI, initiator=ALICE.person)
    assert refusals(subject.take(decided(subject.change(), ALICE))) == ["own_change"]
    assert refusals(subject.take(decided(subject.change(), CI))) == ["not_a_person"]
    outputs = subject.take(decided(subject.change(), BOB))
    assert states(outputs) == ["approved", "released"]
    assert refusals(outputs) == [None]
    assert kinds(outputs) == ["change.decided", "change.released"]
    (order,) = orders(outputs)
    assert order.votes == ("approve-bob-change-1",)


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        (REFUSED, "token:expired"),
        (None, "token:not_the_token_of_this_person"),
        (Verified(CAROL), "token:not_the_token_of_this_person"),
        (Verified(replace(BOB, iss="https://other.example")), "token:not_the_token_of_this_person"),
        (Verified(replace(BOB, groups=("engineers",))), "not_in_group"),
        (Verified(replace(BOB, kind="service")), "not_a_person"),
    ],
)
def test_a_vote_counts_by_what_its_token_proves(identity: Identity, code: str) -> None:
    subject = pending()
    outputs = subject.take(decided(subject.change(), BOB), identity)
    assert refusals(outputs) == [code]
    assert released(outputs) == []


def test_the_groups_of_a_vote_are_those_of_the_token() -> None:
    subject = pending()
    claimed = decided(subject.change(), replace(BOB, groups=("engineers",)))
    assert refusals(subject.take(claimed, Verified(BOB))) == [None]
    assert subject.change().votes[0].groups == ("schema-owners",)


def test_a_vote_on_other_bytes_is_no_vote() -> None:
    subject = pending()
    outputs = subject.take(decided(subject.change(), BOB, commitment=b"\0" * 32))
    assert refusals(outputs) == ["other_payload"]
    assert released(outputs) == []


def test_two_must_agree_where_policy_says_two() -> None:
    subject = Subject()
    subject.take(intercepted(request=HttpRequest("DELETE", "/subjects/orders")))
    assert subject.change().required == 2
    assert released(subject.take(decided(subject.change(), BOB))) == []
    again = decided(subject.change(), BOB, decision_id="another")
    assert refusals(subject.take(again)) == ["already_voted"]
    (status,) = [s for s in statuses(subject.written) if s.decision_id == "another"]
    assert (status.approvals, status.required) == (1, 2)
    outputs = subject.take(decided(subject.change(), CAROL))
    assert orders(outputs)[0].votes == ("approve-bob-change-1", "approve-carol-change-1")


def test_rejected_with_a_reason_masked_in_what_is_told() -> None:
    subject = pending()
    reason = keys().seal(f"no: {EMAIL} and {CARD} are in it".encode(), "reason", "text/plain")
    outputs = subject.take(decided(subject.change(), BOB, "reject", reason=reason))
    assert subject.change().state == machine.REJECTED
    assert kinds(outputs) == ["change.decided", "change.closed"]
    told = [status.reason for status in statuses(outputs)]
    assert all(text is not None and text.startswith("no: EMAIL~K1~") for text in told)
    assert facts_of(outputs, "change.closed")["by"] == {"iss": ISS, "sub": "bob"}
    assert reason in entries(outputs)[0].sealed
    assert refusals(subject.take(decided(subject.change(), CAROL))) == ["closed:rejected"]


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_reason_that_cannot_be_read_does_not_undo_the_decision(content: bytes | None) -> None:
    subject = pending()
    to = ("custody",) if content is None else ("streams",)
    reason = keys().seal(content or b"for others", "reason", "text/plain", *to)
    outputs = subject.take(decided(subject.change(), BOB, "reject", reason=reason))
    assert subject.change().state == machine.REJECTED
    assert facts_of(outputs, "change.closed")["reason"] == "(the reason could not be read)"


def test_withdrawn_by_the_requester_only() -> None:
    subject = pending()
    assert refusals(subject.take(decided(subject.change(), BOB, "withdraw"))) == ["not_yours"]
    subject.take(decided(subject.change(), ALICE, "withdraw"))
    assert subject.change().state == machine.WITHDRAWN


# ---------------------------------------------------------------- time


def test_expiry_is_by_the_records_time_alone() -> None:
    subject = pending()
    expires = subject.change().expires_at
    due = TimerDue(change_id="change-1", what="expiry", due_at=T0 - timedelta(days=1))
    subject.at = expires - timedelta(milliseconds=1)
    assert subject.take(due) == []
    assert subject.change().state == machine.PENDING
    subject.at = expires
    outputs = subject.take(due)
    assert (kinds(outputs), states(outputs)) == (["change.closed"], ["expired"])
    assert refusals(subject.take(decided(subject.change(), BOB))) == ["closed:expired"]


def test_a_vote_after_expiry_is_refused_though_the_timer_is_late() -> None:
    subject = pending()
    subject.at = subject.change().expires_at
    assert refusals(subject.take(decided(subject.change(), BOB))) == ["expired"]
    assert subject.change().state == machine.PENDING
    subject.at -= timedelta(milliseconds=1)
    in_time = decided(subject.change(), CAROL)
    assert refusals(subject.take(in_time)) == [None]


def test_a_closed_change_is_forgotten_and_when_timers_look() -> None:
    subject = pending()
    assert due_at(subject.change(), WINDOW) == subject.change().expires_at
    subject.take(decided(subject.change(), BOB, "reject"))
    assert due_at(subject.change(), WINDOW) == T0 + WINDOW
    assert subject.take(TimerDue(change_id="change-1", what="forget", due_at=T0)) == []
    assert subject.state.changes == ()
    subject.take(intercepted("change-2"))
    assert due_at(subject.change("change-2"), WINDOW) is None, "only the applier's word ends a release"


# ---------------------------------------------------------------- repeats


def test_the_same_request_again_attaches() -> None:
    subject = Subject()
    first = intercepted(request=register(NARROWER))
    subject.take(first)
    again = replace(first, change_id="change-2", request=keys().request(register(NARROWER)))
    outputs = subject.take(again)
    assert kinds(outputs) == ["change.attached"]
    assert [(s.change_id, s.waiters) for s in statuses(outputs)] == [("change-1", ("change-2",))]
    (entry,) = entries(outputs)
    assert (leaf_of(entry)["change_id"], facts_of(outputs, "change.attached")["request_id"]) == ("change-1", "change-2")
    assert entry.sealed == (again.request, again.token)
    assert [change.change_id for change in subject.state.changes] == ["change-1"]
    assert asks(outputs) == []


def test_the_same_request_by_somebody_else_does_not_attach() -> None:
    subject = pending()
    subject.take(intercepted("change-2", register(NARROWER), actor=BOB))
    assert [change.change_id for change in subject.state.changes] == ["change-1", "change-2"]


@pytest.mark.parametrize(("minutes", "joins"), [(9, True), (10, False)])
def test_a_closed_change_is_joined_within_the_window(minutes: int, joins: bool) -> None:
    subject = pending()
    subject.take(decided(subject.change(), BOB, "reject"))
    subject.at += timedelta(minutes=minutes)
    outputs = subject.take(intercepted("change-2", register(NARROWER)))
    assert kinds(outputs) == (["change.attached"] if joins else ["change.assessed"])


def test_the_same_change_under_two_offsets_counts_once() -> None:
    subject = Subject()
    sent = intercepted()
    subject.take(sent)
    before = subject.state.changes
    again = subject.take(sent)
    assert (len(again), kinds(again)) == (1, ["change.ignored"]), "nothing is done, and the message is accounted for"
    assert subject.state.changes == before


def test_an_event_that_was_handled_is_known_by_its_position() -> None:
    """An attached request heard again would be told again; its position says that it was."""
    subject = pending()
    incoming = subject.incoming(intercepted("change-2", register(NARROWER)), Verified(ALICE))
    once, outputs = handle(subject.state, incoming, subject.ctx)
    assert statuses(outputs)
    assert handle(once, incoming, subject.ctx) == (once, [])
    assert bytes_of(handle(subject.state, incoming, subject.ctx)[1]) == bytes_of(outputs)


# ---------------------------------------------------------------- a base that moves


def applied_to_v2(subject: Subject, change_id: str, base: Base = V2) -> list[Outgoing]:
    change = subject.change(change_id)
    word = applying(change, "applied", status=200, base_after=keys().base(base), base_after_identity=base.identity)
    return subject.take(word)


def test_low_risk_that_waited_is_judged_against_the_new_base() -> None:
    subject = Subject()
    subject.take(intercepted("change-1", register(WIDER)))
    assert kinds(subject.take(intercepted("change-2", register(OTHER)))) == ["change.assessed"]
    outputs = applied_to_v2(subject, "change-1")
    assert kinds(outputs) == ["change.closed", "change.rebased", "change.released"]
    assert subject.change("change-2").base_identity == "v2:id8"
    (order,) = orders(outputs)
    assert (order.change_id, order.base_identity) == ("change-2", "v2:id8")
    rebased = next(entry for entry in entries(outputs) if entry.kind == "change.rebased")
    assert rebased.sealed == (), "parts that came with the outcome stand with the outcome"
    assert body_of(rebased, "request-head")


def test_what_is_high_risk_on_the_new_base_is_superseded() -> None:
    subject = Subject()
    subject.take(intercepted("change-1", register(WIDER)))
    subject.take(intercepted("change-2", register(OTHER)))
    wider = replace(V2, schema_text=schema(id={"type": "integer"}, note={"type": "string"}))
    outputs = applied_to_v2(subject, "change-1", wider)
    assert subject.change("change-2").state == machine.SUPERSEDED, "without `note` it now takes something away"
    assert released(outputs) == []
    assert "v2:id8" in (subject.change("change-2").reason or "")


def test_what_people_voted_on_is_superseded_even_if_it_became_harmless() -> None:
    subject = Subject()
    subject.take(intercepted("change-1", register(WIDER)))
    subject.take(intercepted("change-2", register(NARROWER)))
    subject.take(decided(subject.change("change-2"), BOB))
    assert subject.change("change-2").state == machine.APPROVED
    outputs = applied_to_v2(subject, "change-1", replace(V2, schema_text=NARROWER))
    assert subject.change("change-2").state == machine.SUPERSEDED
    assert released(outputs) == []


def test_a_rule_about_the_sender_is_not_lost_when_the_base_moves() -> None:
    """The requester's groups are not in the state: judged without them, the change was released unapproved."""
    contractors = """\
rules:
  - name: contractors
    when: {operations: [register], requester_groups: [contractors]}
    verdict: require
    approvals: 2
    groups: [schema-owners]
"""
    policy = POLICY.replace("rules:\n", contractors, 1)
    stamped = policy_sha256(policy)
    subject = Subject(context(policy))
    subject.take(intercepted("change-1", register(WIDER), policy_sha256=stamped))
    dave = human("dave", groups=("contractors",))
    subject.take(intercepted("change-2", register(OTHER), actor=dave, policy_sha256=stamped))
    assert (subject.change("change-2").state, subject.change("change-2").required) == (machine.PENDING, 2)
    outputs = applied_to_v2(subject, "change-1")
    assert released(outputs) == []
    assert subject.change("change-2").state == machine.SUPERSEDED


def test_base_moved_under_a_release_is_released_again_as_another_attempt() -> None:
    subject = Subject()
    first = orders(subject.take(intercepted()))[0]
    word = applying(subject.change(), "base_moved", base_after=keys().base(V2), base_after_identity="v2:id8")
    outputs = subject.take(word)
    assert kinds(outputs) == ["change.base_moved", "change.rebased", "change.released"]
    (order,) = orders(outputs)
    assert order.release_id != first.release_id
    assert order.base_identity == "v2:id8"
    late = subject.take(replace(word, outcome="applied"))
    assert (len(late), kinds(late)) == (1, ["change.ignored"]), "the word on the first release came too late"
    assert facts_of(late, "change.ignored")["event"] == "ChangeApplying"


def test_a_vote_on_what_is_not_known_is_in_the_evidence() -> None:
    subject = pending()
    vote = decided(subject.change(), BOB)
    stranger = Subject()
    outputs = stranger.take(vote)
    assert kinds(outputs) == ["change.ignored"]
    (entry,) = entries(outputs)
    assert [part.commitment for part in entry.sealed] == [vote.token.commitment]


def test_a_base_that_moves_to_and_fro_is_told_by_entries_of_their_own() -> None:
    """Entries that differ under one id are an integrity finding; these differ, so they need ids of their own."""
    subject = Subject()
    subject.take(intercepted())
    rebased = []
    for number in (2, 3, 2):
        base = replace(V2, identity=f"v{number}:id{number}")
        word = applying(subject.change(), "base_moved", base_after=keys().base(base), base_after_identity=base.identity)
        rebased += [entry for entry in entries(subject.take(word)) if entry.kind == "change.rebased"]
    assert [leaf_of(entry)["facts"]["base_version"] for entry in rebased] == ["v2:id2", "v3:id3", "v2:id2"]
    assert len({entry.id for entry in rebased}) == 3


def test_unresolved_twice_is_two_entries_and_still_out() -> None:
    subject = Subject()
    subject.take(intercepted())
    word = applying(subject.change(), "unresolved", reason="answer_lost")
    told = [entry.id for _ in range(2) for entry in entries(subject.take(word))]
    assert len(told) == len(set(told)) == 2
    subject.take(intercepted("change-2", register(OTHER)))
    assert subject.change("change-2").state == machine.ALLOWED, "nothing goes out beside it"


# ---------------------------------------------------------------- denied


def unopened() -> SealedPart:
    return keys().request(register(WIDER), "applier", "custody")


@pytest.mark.parametrize(
    ("over", "identity", "rule_name"),
    [
        ({}, REFUSED, "identity"),
        ({}, None, "identity"),
        ({}, Verified(BOB), "identity"),
        ({}, Verified(replace(ALICE, iss="https://other.example")), "identity"),
        ({}, Verified(replace(ALICE, groups=())), "identity"),
        ({}, Verified(replace(ALICE, kind="service")), "identity"),
        ({}, Verified(ALICE, BOB.person), "identity"),
        ({"actor": CI, "initiator": None}, Verified(CI, ALICE.person), "identity"),
        ({"actor": CI, "initiator": BOB.person}, Verified(CI, ALICE.person), "identity"),
        ({"policy_sha256": "0" * 64}, "proven", "unknown-policy"),
        ({"target": "elsewhere"}, "proven", "unknown-target"),
        ({"request": unopened()}, "proven", "unreadable"),
        ({"request": replace(unopened(), jwe=b"not a jwe")}, "proven", "unreadable"),
        ({"request": keys().seal(b"\0\0", "request", "x")}, "proven", "unreadable"),
        ({"base": keys().seal(b"{", "base", "x")}, "proven", "unreadable"),
    ],
)
def test_denied_and_told(over: dict[str, Any], identity: Identity | str, rule_name: str) -> None:
    subject = Subject()
    outputs = subject.take(replace(intercepted(), **over), identity)
    assert kinds(outputs) == ["change.assessed", "change.closed"]
    facts = facts_of(outputs, "change.assessed")
    assert (facts["verdict"], facts["rule"]) == ("deny", rule_name)
    assert states(outputs) == ["denied"]
    assert statuses(outputs)[0].reason == facts["why"]
    assert released(outputs) == []
    assert subject.change().state == machine.DENIED


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("GET", "/subjects"),
        HttpRequest("POST", "/not/a/route", "", JSON, b"{}"),
        HttpRequest("POST", "/subjects/orders/versions", "", (*JSON, ("X-HTTP-Method-Override", "DELETE")), b"{}"),
    ],
)
def test_a_request_that_is_no_known_change_is_denied(request_: HttpRequest) -> None:
    outputs = Subject().take(intercepted(request=request_))
    assert facts_of(outputs, "change.assessed")["rule"] == "unclassified"
    assert released(outputs) == []


def test_policy_may_deny() -> None:
    subject = Subject()
    outputs = subject.take(intercepted(request=HttpRequest("DELETE", "/subjects/orders", "permanent=true")))
    assert (subject.change().state, subject.change().rule) == (machine.DENIED, "never-permanent")
    why = "what is deleted permanently cannot be brought back"
    assert statuses(outputs)[0].reason == f"Refused by rule never-permanent: {why}"


def test_a_token_is_asked_for_where_one_must_prove_something() -> None:
    sent = intercepted()
    assert sealed_token(sent) is sent.token
    subject = pending()
    assert sealed_token(decided(subject.change(), BOB)) is not None
    assert sealed_token(applying(subject.change())) is None
    assert sealed_token(TimerDue(change_id="change-1", what="expiry", due_at=T0)) is None


# ---------------------------------------------------------------- nothing in clear


def test_no_output_holds_what_was_planted() -> None:
    subject = Subject()
    planted = register(
        LEAKING,
        subject=f"orders-{CARD}",
        headers=(
            ("content-type", f"application/json; note={CARD}"),
            ("authorization", f"Bearer {TOKEN}"),
            ("cookie", f"session={TOKEN}"),
            ("user-agent", f"agent of {EMAIL}"),
            ("schemaseal-reason", f"for {EMAIL}, {SSN}"),
        ),
    )
    subject.take(intercepted(request=planted, base=replace(BASE, schema_text=schema(id={"default": CARD}))))
    reason = keys().seal(f"fine by {EMAIL} {CARD}".encode(), "reason", "text/plain")
    subject.take(decided(subject.change(), BOB, reason=reason))
    response = keys().response(HttpResponse(200, (*JSON, ("set-cookie", TOKEN)), json.dumps({"m": LEAKING}).encode()))
    subject.take(applying(subject.change(), "applied", response=response, base_after=keys().base(BASE)))
    assert subject.change().state == machine.APPLIED
    shown = in_clear(subject.written)
    assert [canary for canary in CANARIES if canary.encode() in shown] == []
    assert shown.count(b"CARD~K1~") > 5, "it was there to be masked"
    assert b"Displayname" not in b"".join(entry.leaf for entry in entries(subject.written))


def test_a_response_that_cannot_be_opened_is_a_stub() -> None:
    subject = Subject()
    subject.take(intercepted())
    response = keys().response(ANSWER, "ingress")
    outputs = subject.take(applying(subject.change(), "applied", status=200, response=response))
    assert json.loads(body_of(entries(outputs)[0], "response-body"))["reason"] == "unreadable"
    assert statuses(outputs)[0].answer == response


# ---------------------------------------------------------------- any order, any repeat, a crash anywhere

PEOPLE = (ALICE, BOB, CAROL, CI)
REQUESTS = (*map(register, (WIDER, OTHER, NARROWER, LEAKING)), HttpRequest("DELETE", "/subjects/orders"))
TEXTS = (OLD, WIDER, NARROWER)


class Interleavings(RuleBasedStateMachine):
    """Everything that can happen to one subject. Each event is handled twice from the state before it (a crash
    between outputs and table), and once more by its position afterwards (a crash before the acknowledgement)."""

    @initialize()
    def start(self) -> None:
        self.subject = Subject()
        self.sealed = [keys().request(request) for request in REQUESTS]
        self.bases = [keys().base(replace(V2, identity=f"v{n}:id{n}", schema_text=TEXTS[n % 3])) for n in range(4)]
        self.reason = keys().seal(f"says {EMAIL} {CARD}".encode(), "reason", "text/plain")
        self.response = keys().response(HttpResponse(200, JSON, json.dumps({"echo": LEAKING}).encode()))
        self.token = keys().token()
        self.out: set[str] = set()
        self.leaves: dict[str, bytes] = {}
        self.history: list[tuple[Keyed, Identity]] = []
        self.count = 0

    def take(self, event: Keyed, identity: Identity) -> None:
        subject, before = self.subject, self.subject.state
        encoded = codec.encode(before)
        incoming = subject.incoming(event, identity)
        after, outputs = handle(before, incoming, subject.ctx)
        assert codec.encode(before) == encoded, "the old state is as it was"

        again, repeated = handle(codec.decode(SubjectState, encoded), incoming, subject.ctx)
        assert bytes_of(repeated) == bytes_of(outputs), "a crash before the table was written"
        assert again == after
        assert handle(after, incoming, subject.ctx) == (after, []), "a crash before the acknowledgement"

        ids = [output.event_id for output in outputs]
        assert len(ids) == len(set(ids)), "two records of one event are two records"
        for output in outputs:
            if isinstance(output.event, EvidenceEntry):
                written = codec.encode(output.event)
                assert self.leaves.setdefault(output.event_id, written) == written, "an id is of one entry"
            if isinstance(output.event, ChangeReleased):
                self.check_release(output.event, after)
        assert [canary for canary in CANARIES if canary.encode() in in_clear(outputs)] == []
        for entry in entries(outputs):
            source = leaf_of(entry)["source"]
            assert (source["topic"], source["offset"]) == (incoming.source.topic, incoming.source.offset)
            assert b"Displayname" not in entry.leaf
        assert all(output.key in (KEY, None) for output in outputs)
        subject.state = after
        self.history.append((event, identity))

    def check_release(self, event: ChangeReleased, after: SubjectState) -> None:
        assert verify(keys().public, "streams", event.key_id, RELEASE_DOMAIN, event.order, event.signature)
        order = codec.decode(ReleaseOrder, event.order)
        assert order.release_id not in self.out, "each release is given once"
        self.out.add(order.release_id)
        change = after.find(order.change_id)
        assert change is not None
        assert order.commitment == change.request.commitment == order.request.commitment
        if change.verdict != "allow":
            voters = {vote.voter.key for vote in change.votes}
            assert change.verdict == "require"
            assert len(voters) >= change.required > 0
            assert not voters & {change.requester.key, change.initiator.key if change.initiator else None}
            assert {"alice", "ci"}.isdisjoint(sub for _, sub in voters)
            assert all(vote.at < change.expires_at for vote in change.votes)
            assert [vote.decision_id for vote in change.votes] == list(order.votes)

    @rule(what=st.integers(0, len(REQUESTS) - 1), machine_made=st.booleans(), proof=st.integers(0, 9))
    def intercept(self, what: int, machine_made: bool, proof: int) -> None:
        actor, initiator = (CI, ALICE.person) if machine_made else (ALICE, None)
        if len(self.subject.state.changes) >= 6:
            return
        event = intercepted(
            f"change-{self.count}",
            actor=actor,
            initiator=initiator,
            request=REQUESTS[what],
        )
        attach_key = bytes([what, machine_made])
        event = replace(event, request=self.sealed[what], token=self.token, attach_key=attach_key)
        self.count += 1
        identity: Identity = proven(event)
        if proof == 0:
            identity = Refusal("expired", "x")
        elif proof == 1:
            identity = Verified(BOB)
        self.take(event, identity)

    @rule(
        which=st.integers(0, 5),
        who=st.sampled_from(PEOPLE),
        decision=st.sampled_from(["approve", "approve", "approve", "reject", "withdraw"]),
        proof=st.integers(0, 9),
        swap=st.integers(0, 9),
    )
    def decide(self, which: int, who: Any, decision: str, proof: int, swap: int) -> None:
        changes = self.subject.state.changes
        if which >= len(changes):
            return
        event = decided(changes[which], who, decision, token=self.token, reason=self.reason)
        if swap == 0:
            event = replace(event, commitment=b"\0" * 32, decision_id=event.decision_id + "-swapped")
        identity: Identity = proven(event) if proof else Verified(CAROL)
        self.take(event, identity)

    @rule()
    def sending(self) -> None:
        for change in self.subject.state.changes:
            if change.state in machine.IN_FLIGHT:
                self.take(applying(change), None)
                return

    @rule(
        outcome=st.sampled_from(["applied", "failed", "base_moved", "lapsed", "unresolved"]),
        base=st.integers(0, 3),
        which=st.integers(0, 7),
    )
    def applier_says(self, outcome: str, base: int, which: int) -> None:
        changes = [change for change in self.subject.state.changes if change.release_id is not None]
        if not changes:
            return
        flying = [change for change in changes if change.state in machine.IN_FLIGHT]
        change = (flying or changes)[0] if which else changes[-1]
        event = applying(change, outcome, status=200, response=self.response)
        if base or outcome == "base_moved":
            event = replace(event, base_after=self.bases[base], base_after_identity=f"v{base}:id{base}")
        self.take(event, None)

    @rule(which=st.integers(0, 5), what=st.sampled_from(["expiry", "expiry", "forget"]))
    def timer(self, which: int, what: Any) -> None:
        changes = self.subject.state.changes
        if which < len(changes):
            self.take(TimerDue(change_id=changes[which].change_id, what=what, due_at=self.subject.at), None)

    @rule(minutes=st.integers(1, 90))
    def time_passes(self, minutes: int) -> None:
        self.subject.at += timedelta(minutes=minutes)

    @rule(back=st.integers(1, 6))
    def produced_twice(self, back: int) -> None:
        """The same event at another position: its producer did not hear that the first one was written."""
        if len(self.history) < back:
            return
        event, identity = self.history[-back]
        if self.subject.state.find(event.change_id) is not None:  # what was forgotten was closed for minutes
            self.take(event, identity)

    @invariant()
    def at_most_one_is_out(self) -> None:
        if hasattr(self, "subject"):
            assert sum(change.state in machine.IN_FLIGHT for change in self.subject.state.changes) <= 1

    @invariant()
    def nothing_ready_is_left_lying(self) -> None:
        if hasattr(self, "subject"):
            changes = self.subject.state.changes
            ready = any(change.state in machine.READY for change in changes)
            assert not ready or any(change.state in machine.IN_FLIGHT for change in changes)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
