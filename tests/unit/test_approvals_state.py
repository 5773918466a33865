"""The life of a change: named cases, other people's mistakes, and arbitrary interleavings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemaseal.approvals import state as m
from schemaseal.contracts.events import Change, Person, SealedPart, SubjectState

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ISS = "https://issuer.example"
ALICE, BOB, CAROL, CI = (Person(iss=ISS, sub=sub) for sub in ("alice", "bob", "carol", "ci"))
OWNERS = ("schema-owners",)


def part(name: str, content: bytes) -> SealedPart:
    return SealedPart(name=name, media_type="x", size=len(content), commitment=content, jwe=b"{}")


def change(change_id: str = "c1", *, verdict: str = "require", **over: Any) -> Change:
    fields: dict[str, Any] = {
        "change_id": change_id,
        "state": "",
        "target": "registry",
        "operation": "register",
        "requester": ALICE,
        "requester_kind": "human",
        "attach_key": change_id.encode(),
        "policy_sha256": "p",
        "verdict": verdict,
        "rule": "r",
        "why": "w",
        "required": 1 if verdict == "require" else 0,
        "groups": OWNERS,
        "requested_at": T0,
        "expires_at": T0 + timedelta(hours=1),
        "apply_within_ms": 60_000,
        "base_identity": "v1",
        "request": part("request", b"bytes-" + change_id.encode()),
    }
    return Change(**(fields | over))


def vote(who: Person, decision: Any = "approve", change_id: str = "c1", **over: Any) -> m.Decided:
    fields: dict[str, Any] = {
        "decision_id": f"{who.sub}-{decision}-{change_id}",
        "change_id": change_id,
        "decision": decision,
        "voter": who,
        "voter_kind": "human",
        "groups": OWNERS,
        "custody": "attested",
        "commitment": b"bytes-" + change_id.encode(),
    }
    return m.Decided(**(fields | over))


def run(*events: m.StateEvent, at: datetime = T0) -> tuple[SubjectState, list[m.Output]]:
    state = SubjectState()
    outputs: list[m.Output] = []
    for event in events:
        state, outputs = m.step(state, event, at)
    return state, outputs


def only(state: SubjectState, change_id: str = "c1") -> Change:
    found = state.find(change_id)
    assert found is not None
    return found


def outcome(state: SubjectState, what: Any, change_id: str = "c1", **over: Any) -> m.Outcome:
    release_id = only(state, change_id).release_id
    assert release_id is not None
    fields: dict[str, Any] = {"change_id": change_id, "release_id": release_id, "outcome": what}
    return m.Outcome(**(fields | over))


def releases(outputs: list[m.Output]) -> list[str]:
    return [o.change.change_id for o in outputs if isinstance(o, m.Release)]


def test_low_risk_is_released_at_once() -> None:
    state, outputs = run(m.Assessed(change(verdict="allow")))
    assert only(state).state == m.RELEASED
    assert releases(outputs) == ["c1"]
    assert only(state).deadline == T0 + timedelta(minutes=1)


def test_high_risk_waits_and_is_released_by_a_vote() -> None:
    state, outputs = run(m.Assessed(change()))
    assert only(state).state == m.PENDING
    assert [type(o) for o in outputs] == [m.Note, m.Ask, m.Tell]
    state, outputs = m.step(state, vote(BOB), T0)
    assert only(state).state == m.RELEASED
    assert releases(outputs) == ["c1"]


def test_denied_is_closed_and_told() -> None:
    state, outputs = run(m.Assessed(change(verdict="deny")))
    assert only(state).state == m.DENIED
    assert releases(outputs) == []


@pytest.mark.parametrize(
    ("event", "at", "code"),
    [
        (vote(ALICE), T0, "own_change"),
        (vote(ALICE, "reject"), T0, "own_change"),
        (vote(CAROL, "withdraw"), T0, "not_yours"),
        (vote(BOB, groups=("engineers",)), T0, "not_in_group"),
        (vote(BOB, groups=()), T0, "not_in_group"),
        (vote(BOB, voter_kind="service"), T0, "not_a_person"),
        (vote(BOB, commitment=b"other"), T0, "other_payload"),
        (vote(BOB, refused="expired"), T0, "token:expired"),
        (vote(BOB), T0 + timedelta(hours=1), "expired"),
    ],
)
def test_decisions_that_do_not_count(event: m.Decided, at: datetime, code: str) -> None:
    state, _ = run(m.Assessed(change()))
    state, outputs = m.step(state, event, at)
    assert only(state).state == m.PENDING
    told = [o for o in outputs if isinstance(o, m.Tell)]
    assert [t.refusal for t in told] == [code]
    noted = [o for o in outputs if isinstance(o, m.Note)]
    assert [(n.kind, n.facts["accepted"]) for n in noted] == [("change.decided", False)]


def test_initiator_of_a_machine_cannot_approve() -> None:
    """Alice pushes, CI requests, Alice approves: a known way around four eyes."""
    state, _ = run(m.Assessed(change(requester=CI, requester_kind="service", initiator=ALICE)))
    state, outputs = m.step(state, vote(ALICE), T0)
    assert [o.refusal for o in outputs if isinstance(o, m.Tell)] == ["own_change"]
    state, _ = m.step(state, vote(BOB), T0)
    assert only(state).state == m.RELEASED


def test_one_person_in_two_groups_is_one_vote() -> None:
    state, _ = run(m.Assessed(change(required=2, groups=("a", "b"))))
    state, _ = m.step(state, vote(BOB, groups=("a", "b")), T0)
    state, outputs = m.step(state, vote(BOB, groups=("b",), decision_id="again"), T0)
    assert [o.refusal for o in outputs if isinstance(o, m.Tell)] == ["already_voted"]
    assert only(state).state == m.PENDING
    state, outputs = m.step(state, vote(CAROL, groups=("b",)), T0)
    assert releases(outputs) == ["c1"]


def test_no_approver_group_approves_nothing() -> None:
    """An empty approver set approved itself elsewhere."""
    state, _ = run(m.Assessed(change(groups=())))
    state, _ = m.step(state, vote(BOB), T0)
    assert only(state).state == m.PENDING


def test_a_vote_that_repeats_hears_the_first_answer() -> None:
    state, _ = run(m.Assessed(change(required=2)))
    state, _ = m.step(state, vote(BOB), T0)
    again, outputs = m.step(state, vote(BOB), T0)
    assert again == state
    assert [(type(o), getattr(o, "refusal", 0)) for o in outputs] == [(m.Tell, None)]


def test_rejected_with_a_reason() -> None:
    state, outputs = run(m.Assessed(change()), vote(CAROL, "reject", reason="not in the summer"))
    assert only(state).state == m.REJECTED
    assert only(state).reason == "not in the summer"
    assert releases(outputs) == []
    state, outputs = m.step(state, vote(BOB), T0)
    assert [o.refusal for o in outputs if isinstance(o, m.Tell)] == ["closed:rejected"]


def test_withdrawn_by_the_requester() -> None:
    state, _ = run(m.Assessed(change()), vote(ALICE, "withdraw", groups=()))
    assert only(state).state == m.WITHDRAWN


def test_one_release_at_a_time_and_the_next_when_it_is_over() -> None:
    state, _ = run(m.Assessed(change("c1", verdict="allow")))
    state, outputs = m.step(state, m.Assessed(change("c2", verdict="allow")), T0)
    assert releases(outputs) == []
    state, outputs = m.step(state, outcome(state, "failed", status=409), T0)
    assert only(state).state == m.FAILED
    assert releases(outputs) == ["c2"]


def test_unresolved_blocks_the_subject() -> None:
    state, _ = run(m.Assessed(change("c1", verdict="allow")), m.Assessed(change("c2", verdict="allow")))
    state, outputs = m.step(state, outcome(state, "unresolved"), T0)
    assert only(state).state == m.UNRESOLVED
    assert releases(outputs) == []


def test_word_of_an_applier_about_an_older_release_is_ignored() -> None:
    state, _ = run(m.Assessed(change(verdict="allow")))
    stale = m.Outcome("c1", "some-other-release", "applied", 200)
    assert m.step(state, stale, T0) == (state, [])


def test_applied_asks_to_judge_the_others_again() -> None:
    state, _ = run(m.Assessed(change("c1", verdict="allow")), m.Assessed(change("c2")), m.Assessed(change("c3")))
    state, _ = m.step(state, vote(BOB, change_id="c3"), T0)
    assert only(state, "c3").state == m.APPROVED
    state, outputs = m.step(
        state,
        outcome(state, "applied", status=200, base_after=part("base", b"b2"), base_after_identity="v2"),
        T0,
    )
    asked = [o.change.change_id for o in outputs if isinstance(o, m.Reassess)]
    assert asked == ["c2", "c3"]
    assert releases(outputs) == []
    judged: Any = [(replace(only(state, c), base_identity="v2"), "allow") for c in asked]
    state, outputs = m.step(state, m.Reassessed(tuple(judged)), T0)
    assert only(state, "c2").state == m.RELEASED
    assert only(state, "c2").base_identity == "v2"
    assert only(state, "c3").state == m.SUPERSEDED, "people voted on another base"


def test_base_moved_under_a_release_is_judged_again() -> None:
    state, _ = run(m.Assessed(change(verdict="allow")))
    state, outputs = m.step(state, outcome(state, "base_moved", base_after_identity="v2"), T0)
    assert only(state).state == m.ALLOWED
    assert [type(o) for o in outputs] == [m.Note, m.Reassess]
    judged = ((replace(only(state), base_identity="v2"), "require"),)
    state, _ = m.step(state, m.Reassessed(judged), T0)  # type: ignore[arg-type]
    assert only(state).state == m.SUPERSEDED


def test_expires_only_by_record_time() -> None:
    state, _ = run(m.Assessed(change()))
    early, outputs = m.step(state, m.Due("c1", "expiry"), T0)
    assert (early, outputs) == (state, [])
    state, outputs = m.step(state, m.Due("c1", "expiry"), T0 + timedelta(hours=1))
    assert only(state).state == m.EXPIRED


def test_what_was_applied_is_joined_only_until_something_else_is() -> None:
    first = replace(change("a1"), state=m.APPLIED, closed_at=T0, attach_key=b"set A")
    later = replace(change("b1"), state=m.APPLIED, closed_at=T0 + timedelta(minutes=1), attach_key=b"set B")
    at, window = T0 + timedelta(minutes=2), timedelta(minutes=10)
    assert m.attach_to(SubjectState(changes=(first,)), b"set A", at, window) is first
    assert m.attach_to(SubjectState(changes=(first, later)), b"set A", at, window) is None
    assert m.attach_to(SubjectState(changes=(first, later)), b"set B", at, window) is later


def test_the_same_request_attaches() -> None:
    state, _ = run(m.Assessed(change()))
    found = m.attach_to(state, b"c1", T0, timedelta(minutes=10))
    assert found is not None
    state, outputs = m.step(state, m.Attaching("c1", "c9"), T0)
    assert only(state).waiters == ("c9",)
    assert [type(o) for o in outputs] == [m.Note, m.Tell]
    again, outputs = m.step(state, m.Attaching("c1", "c9"), T0)
    assert again == state
    assert [type(o) for o in outputs] == [m.Tell]
    closed, _ = m.step(state, vote(CAROL, "reject"), T0)
    assert m.attach_to(closed, b"c1", T0 + timedelta(minutes=9), timedelta(minutes=10)) is not None
    assert m.attach_to(closed, b"c1", T0 + timedelta(minutes=10), timedelta(minutes=10)) is None
    forgotten, _ = m.step(closed, m.Due("c1", "forget"), T0)
    assert forgotten.changes == ()


class Interleavings(RuleBasedStateMachine):
    """Arbitrary orders of everything that can happen, with repeats; a model checks what must never be."""

    @initialize()
    def start(self) -> None:
        self.state = SubjectState()
        self.at = T0
        self.released: dict[str, str] = {}
        self.counted: dict[str, set[str]] = {}
        self.history: list[m.StateEvent] = []

    def apply(self, event: m.StateEvent) -> None:
        before = self.state
        self.state, outputs = m.step(self.state, event, self.at)
        asked = [o for o in outputs if isinstance(o, m.Reassess)]
        if asked:
            judged: Any = [(replace(a.change, base_identity=a.base_identity), "require") for a in asked]
            self.state, more = m.step(self.state, m.Reassessed(tuple(judged)), self.at)
            outputs = outputs + more
        for output in outputs:
            if isinstance(output, m.Release):
                released = output.change
                assert released.release_id is not None
                assert self.released.setdefault(released.release_id, released.change_id) == released.change_id
                if released.required:
                    voters = {v.voter.sub for v in released.votes}
                    assert len(voters) >= released.required
                    assert not voters & {"alice", "ci"}
                    assert all(v.at < released.expires_at for v in released.votes)
        for old in before.changes:
            new = self.state.find(old.change_id)
            if old.state in m.CLOSED and new is not None:
                assert new.state == old.state, "an end is final"
        self.history.append(event)

    @rule(
        number=st.integers(0, 3),
        verdict=st.sampled_from(["allow", "require", "deny"]),
        required=st.integers(1, 2),
    )
    def intercept(self, number: int, verdict: str, required: int) -> None:
        wanted = change(f"c{number}", verdict=verdict, requester=CI, requester_kind="service", initiator=ALICE)
        self.apply(m.Assessed(replace(wanted, required=required if verdict == "require" else 0)))

    @rule(
        number=st.integers(0, 3),
        who=st.sampled_from([ALICE, BOB, CAROL, CI]),
        decision=st.sampled_from(["approve", "reject", "withdraw"]),
        swap=st.booleans(),
        again=st.integers(0, 1),
    )
    def decide(self, number: int, who: Person, decision: Any, swap: bool, again: int) -> None:
        event = vote(who, decision, f"c{number}", decision_id=f"{who.sub}{decision}{number}{again}")
        self.apply(replace(event, commitment=b"swapped") if swap else event)

    @rule(number=st.integers(0, 3))
    def sending(self, number: int) -> None:
        found = self.state.find(f"c{number}")
        if found is not None and found.release_id is not None:
            self.apply(m.Sending(found.change_id, found.release_id))

    @rule(
        number=st.integers(0, 3),
        what=st.sampled_from(["applied", "failed", "base_moved", "lapsed", "unresolved"]),
        base=st.sampled_from([None, "v1", "v2", "v3"]),
    )
    def applier_says(self, number: int, what: Any, base: str | None) -> None:
        found = self.state.find(f"c{number}")
        if found is None or found.release_id is None or (what == "base_moved" and base in (None, found.base_identity)):
            return
        self.apply(m.Outcome(found.change_id, found.release_id, what, 200, base_after_identity=base))

    @rule(minutes=st.integers(1, 50))
    def time_passes(self, minutes: int) -> None:
        self.at += timedelta(minutes=minutes)

    @rule(number=st.integers(0, 3), what=st.sampled_from(["expiry", "forget"]))
    def timer(self, number: int, what: Any) -> None:
        self.apply(m.Due(f"c{number}", what))

    @rule(back=st.integers(1, 5))
    def redelivered(self, back: int) -> None:
        if len(self.history) >= back:
            self.apply(self.history[-back])

    @invariant()
    def at_most_one_is_out(self) -> None:
        if hasattr(self, "state"):
            assert sum(c.state in m.IN_FLIGHT for c in self.state.changes) <= 1

    @invariant()
    def nothing_ready_is_left_lying(self) -> None:
        if hasattr(self, "state") and any(c.state in m.READY for c in self.state.changes):
            assert any(c.state in m.IN_FLIGHT for c in self.state.changes)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
