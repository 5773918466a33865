"""The life of a change: one pure function `step(state, event) → (state, outputs)`.

    received → assessed → (allowed | pending → approved) → released → applying → applied
    other ends: denied rejected withdrawn expired lapsed superseded failed; unresolved waits for a human

Invariants
* Quorum counts distinct identities (issuer, subject) with `>=`; requester and initiator never count.
* A vote names the commitment that was shown; any other bytes are not approved by it.
* Per subject at most one change is out with the applier, and only the applier's word ends that.
* Time is the event's record time. A vote at or after `expires_at` is refused in whatever order it arrives.
* A repeat of an event that was handled changes nothing and says nothing new.

Outputs are values; `schemaseal.streams.pipeline` turns them into records. `Reassess` asks the caller to
judge a change against a new base and to come back with `Reassessed` before anything else happens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from schemaseal.approvals.terms import (
    ALLOWED,
    APPLIED,
    APPLYING,
    APPROVED,
    CLOSED,
    DENIED,
    EXPIRED,
    FAILED,
    IN_FLIGHT,
    LAPSED,
    OPEN,
    PENDING,
    READY,
    REJECTED,
    RELEASED,
    SUPERSEDED,
    UNRESOLVED,
    WITHDRAWN,
    Ask,
    Assessed,
    Attaching,
    Decided,
    Due,
    Note,
    Outcome,
    Output,
    Reassess,
    Reassessed,
    Release,
    Sending,
    StateEvent,
    Step,
    Tell,
    Verdict,
)
from schemaseal.contracts.events import Change, SubjectState, Vote
from schemaseal.core.ids import derived_id

__all__ = [
    "ALLOWED",
    "APPLIED",
    "APPLYING",
    "APPROVED",
    "CLOSED",
    "DENIED",
    "EXPIRED",
    "FAILED",
    "IN_FLIGHT",
    "LAPSED",
    "OPEN",
    "PENDING",
    "READY",
    "REJECTED",
    "RELEASED",
    "SUPERSEDED",
    "UNRESOLVED",
    "WITHDRAWN",
    "Ask",
    "Assessed",
    "Attaching",
    "Decided",
    "Due",
    "Note",
    "Outcome",
    "Output",
    "Reassess",
    "Reassessed",
    "Release",
    "Sending",
    "StateEvent",
    "Step",
    "Tell",
    "Verdict",
    "attach_to",
    "refusal_of",
    "step",
]


def step(state: SubjectState, event: StateEvent, at: datetime) -> Step:
    """What the event makes of the subject. `at`: record time of the event. Never raises on a repeat."""
    match event:
        case Assessed():
            new, outputs = _assessed(state, event, at)
        case Attaching():
            new, outputs = _attach(state, event)
        case Decided():
            new, outputs = _decided(state, event, at)
        case Sending():
            new, outputs = _sending(state, event)
        case Outcome():
            new, outputs = _outcome(state, event, at)
        case Reassessed():
            new, outputs = _reassessed(state, event, at)
        case Due():
            new, outputs = _due(state, event, at)
    if any(isinstance(output, Reassess) for output in outputs):
        return new, outputs  # the next release depends on how those are judged
    new, more = _advance(new, at)
    return new, outputs + more


def attach_to(state: SubjectState, attach_key: bytes, at: datetime, window: timedelta) -> Change | None:
    """The change that the same request by the same identity joins: open, or closed within the window.

    An applied change is joined only while nothing else was applied since: afterwards the same request means
    something else (set A, set B, set A again).
    """
    last_applied = max((c.closed_at for c in state.changes if c.state == APPLIED and c.closed_at), default=None)
    for change in reversed(state.changes):
        if change.attach_key != attach_key:
            continue
        if change.state in OPEN:
            return change
        if change.closed_at is None or at - change.closed_at >= window or change.state == SUPERSEDED:
            continue
        if change.state != APPLIED or change.closed_at == last_applied:
            return change
    return None


def _put(state: SubjectState, change: Change) -> SubjectState:
    if state.find(change.change_id) is None:
        return replace(state, changes=(*state.changes, change))
    return replace(state, changes=tuple(change if c.change_id == change.change_id else c for c in state.changes))


def _close(state: SubjectState, change: Change, end: str, at: datetime, facts: dict[str, Any]) -> Step:
    closed = replace(change, state=end, closed_at=at)
    note = Note("change.closed", closed, end, {"outcome": end, "reason": closed.reason, "by": None} | facts)
    return _put(state, closed), [note, Tell(closed)]


def _assessed(state: SubjectState, event: Assessed, at: datetime) -> Step:
    change = event.change
    if state.find(change.change_id) is not None:
        return state, []  # delivered twice under two offsets: the first one counted
    if change.verdict == "deny":
        assessed = replace(change, state=DENIED)
        new, outputs = _close(state, assessed, DENIED, at, {})
        return new, [Note("change.assessed", assessed), *outputs]
    if change.verdict == "allow":
        allowed = replace(change, state=ALLOWED)
        return _put(state, allowed), [Note("change.assessed", allowed)]
    pending = replace(change, state=PENDING)
    return _put(state, pending), [Note("change.assessed", pending), Ask(pending), Tell(pending)]


def _attach(state: SubjectState, event: Attaching) -> Step:
    change = state.find(event.change_id)
    if change is None or event.waiter in change.waiters:
        return state, [] if change is None else [Tell(change)]
    joined = replace(change, waiters=(*change.waiters, event.waiter))
    note = Note("change.attached", joined, event.waiter, {"request_id": event.waiter})
    return _put(state, joined), [note, Tell(joined)]


def refusal_of(change: Change, event: Decided, at: datetime) -> str | None:
    """Why this decision does not count, as a code, or None. The order is the order of the record.

    1. the token was refused; 2. a machine; 3. the change is not open for decisions; 4. too late;
    5. other bytes; 6. withdraw by a stranger; 7. own change; 8. wrong group; 9. second vote.
    """
    own = event.voter.key == change.requester.key or (
        change.initiator is not None and event.voter.key == change.initiator.key
    )
    voted = any(vote.voter.key == event.voter.key for vote in change.votes)
    checks: list[tuple[bool, str]] = [
        (event.refused is not None, f"token:{event.refused}"),
        (event.voter_kind != "human", "not_a_person"),
        (change.state in CLOSED, f"closed:{change.state}"),
        (change.state in IN_FLIGHT, "already_released"),
        (event.decision == "approve" and change.state != PENDING, "not_pending"),
        (at >= change.expires_at, "expired"),
        (event.commitment != change.request.commitment, "other_payload"),
        (event.decision == "withdraw" and not own, "not_yours"),
        (event.decision != "withdraw" and own, "own_change"),
        (
            event.decision != "withdraw" and not set(change.groups) & set(event.groups),
            "not_in_group",
        ),
        (event.decision == "approve" and voted, "already_voted"),
    ]
    return next((code for failed, code in checks if failed), None)


def _decided(state: SubjectState, event: Decided, at: datetime) -> Step:
    change = state.find(event.change_id)
    if change is None:
        return state, []
    if event.decision_id in change.decisions:  # a repeat hears what the first one heard
        return state, [Tell(change, event.decision_id, change.decisions[event.decision_id] or None)]
    refusal = refusal_of(change, event, at)
    change = replace(change, decisions={**change.decisions, event.decision_id: refusal or ""})
    if refusal is None and event.decision == "approve":
        vote = Vote(
            decision_id=event.decision_id,
            voter=event.voter,
            groups=event.groups,
            custody=event.custody,
            at=at,
        )
        change = replace(change, votes=(*change.votes, vote))
        if len({vote.voter.key for vote in change.votes}) >= change.required:
            change = replace(change, state=APPROVED)
    note = Note(
        "change.decided",
        change,
        event.decision_id,
        {
            "decision_id": event.decision_id,
            "decision": event.decision,
            "accepted": refusal is None,
            "refusal": refusal,
            "approver": {"iss": event.voter.iss, "sub": event.voter.sub, "groups": list(event.groups)},
            "custody": event.custody,
            "reason": event.reason,
            "votes": len(change.votes),
            "required": change.required,
        },
    )
    if refusal is not None or event.decision == "approve":
        return _put(state, change), [note, Tell(change, event.decision_id, refusal)]
    end = REJECTED if event.decision == "reject" else WITHDRAWN
    change = replace(change, reason=event.reason)
    new, outputs = _close(state, change, end, at, {"by": {"iss": event.voter.iss, "sub": event.voter.sub}})
    closed = new.find(change.change_id)
    assert closed is not None  # noqa: S101 - just put there
    return new, [note, *outputs, Tell(closed, event.decision_id)]


def _advance(state: SubjectState, at: datetime) -> Step:
    """Release the oldest change that may go, unless one is out already."""
    if any(change.state in IN_FLIGHT for change in state.changes):
        return state, []
    ready = next((change for change in state.changes if change.state in READY), None)
    if ready is None:
        return state, []
    attempt = ready.attempt + 1
    released = replace(
        ready,
        state=RELEASED,
        attempt=attempt,
        release_id=derived_id("release", ready.change_id, str(attempt)),
        deadline=at + timedelta(milliseconds=ready.apply_within_ms),
        sending=False,
    )
    facts = {
        "release_id": released.release_id,
        "attempt": attempt,
        "votes": [vote.decision_id for vote in released.votes],
    }
    note = Note("change.released", released, str(attempt), facts)
    return _put(state, released), [note, Release(released), Tell(released)]


def _current(state: SubjectState, change_id: str, release_id: str) -> Change | None:
    change = state.find(change_id)
    if change is None or change.state not in IN_FLIGHT or change.release_id != release_id:
        return None  # a repeat, or the word of an applier about a release that is over
    return change


def _sending(state: SubjectState, event: Sending) -> Step:
    change = _current(state, event.change_id, event.release_id)
    if change is None or change.state != RELEASED:
        return state, []
    applying = replace(change, state=APPLYING, sending=True)
    note = Note("change.applying", applying, event.release_id, {"release_id": event.release_id})
    return _put(state, applying), [note]


def _outcome(state: SubjectState, event: Outcome, at: datetime) -> Step:
    change = _current(state, event.change_id, event.release_id)
    if change is None:
        return state, []
    change = replace(change, answer=event.answer, reason=event.reason)
    outputs: list[Output]
    facts: dict[str, Any] = {"status": event.status, "release_id": event.release_id}
    if event.base_after_identity is not None:
        facts["base_after"] = event.base_after_identity
    match event.outcome:
        case "unresolved":
            waiting = replace(change, state=UNRESOLVED)
            note = Note("change.unresolved", waiting, event.release_id, facts | {"reason": event.reason})
            return _put(state, waiting), [note, Tell(waiting)]
        case "base_moved":
            moved = replace(change, state=APPROVED if change.votes else ALLOWED, sending=False)
            note = Note("change.base_moved", moved, event.release_id, facts)
            state, outputs = _put(state, moved), [note]
        case "applied":
            state, outputs = _close(state, change, APPLIED, at, facts)
        case "failed":
            state, outputs = _close(state, change, FAILED, at, facts)
        case "lapsed":
            state, outputs = _close(state, change, LAPSED, at, facts)
    if event.base_after_identity is None:
        return state, outputs
    return state, outputs + _moved(state, event)


def _moved(state: SubjectState, event: Outcome) -> list[Output]:
    """Every other open change that starts from a base that is no longer there."""
    identity = event.base_after_identity or ""
    return [
        Reassess(change, event.base_after, identity)
        for change in state.changes
        if change.state in READY | {PENDING} and change.base_identity != identity
    ]


def _reassessed(state: SubjectState, event: Reassessed, at: datetime) -> Step:
    """Low risk and not voted on: rebased. Anything else: superseded, because people judged another base."""
    outputs: list[Output] = []
    for judged, verdict in event.judged:
        change = state.find(judged.change_id)
        if change is None or change.state not in READY | {PENDING}:
            continue
        if verdict == "allow" and not change.votes:
            rebased = replace(judged, state=ALLOWED)
            facts = {"base_version": rebased.base_identity}
            state = _put(state, rebased)
            outputs += [Note("change.rebased", rebased, rebased.base_identity, facts), Tell(rebased)]
            continue
        superseded = replace(change, reason=f"the subject moved to {judged.base_identity} meanwhile")
        state, more = _close(state, superseded, SUPERSEDED, at, {"base_after": judged.base_identity})
        outputs += more
    return state, outputs


def _due(state: SubjectState, event: Due, at: datetime) -> Step:
    change = state.find(event.change_id)
    if change is None:
        return state, []
    if event.what == "forget":
        if change.state not in CLOSED:
            return state, []
        kept = tuple(c for c in state.changes if c.change_id != event.change_id)
        return replace(state, changes=kept), []
    if change.state != PENDING or at < change.expires_at:
        return state, []
    expired = replace(change, reason="nobody decided in time")
    return _close(state, expired, EXPIRED, at, {})
