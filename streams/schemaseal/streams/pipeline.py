"""One event and the subject's state → the new state and the records to write. Pure.

The agent does the I/O: it decodes the record, has the sealed token verified at the record's time, calls
`handle`, and writes what comes back in the order given. Time here is always the record's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from schemaseal.approvals import state as machine
from schemaseal.contracts.events import (
    ApprovalDecided,
    ApprovalRequested,
    Change,
    ChangeApplying,
    ChangeIntercepted,
    ChangeStatus,
    Person,
    SealedPart,
    SubjectState,
    TimerDue,
)
from schemaseal.contracts.http import HttpMessageError, HttpResponse
from schemaseal.contracts.leaf import Source
from schemaseal.contracts.records import Outgoing
from schemaseal.contracts.timestamps import timestamp
from schemaseal.contracts.topics import RELEASED, REQUESTED, STATUS
from schemaseal.core.errors import SealingError
from schemaseal.core.ids import derived_id
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.sealing.box import open_sealed
from schemaseal.streams.assess import Assessment, assess, reassess
from schemaseal.streams.context import Context
from schemaseal.streams.gate import MaskedBody
from schemaseal.streams.releases import release

Keyed = ChangeIntercepted | ApprovalDecided | ChangeApplying | TimerDue
Identity = Verified | Refusal | None
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A decoded record: where it stood, its key, its time, and what was verified of its token."""

    source: Source
    key: bytes
    at: datetime
    event: Keyed
    identity: Identity = None


@dataclass(slots=True)
class _Turn:
    """What one event adds to an entry beyond what the state machine knows."""

    incoming: Incoming
    ctx: Context
    assessments: dict[str, Assessment]
    sealed: tuple[SealedPart, ...] = ()
    bodies: tuple[MaskedBody, ...] = ()
    people: tuple[Person, ...] = ()


def sealed_token(event: Keyed) -> SealedPart | None:
    """The token that must be verified before `handle`, or None."""
    return event.token if isinstance(event, ChangeIntercepted | ApprovalDecided) else None


def handle(state: SubjectState, incoming: Incoming, ctx: Context) -> tuple[SubjectState, list[Outgoing]]:
    """New state and records, in the order to be written. A repeat by position gives the state unchanged."""
    topic = incoming.source.topic
    if state.handled.get(topic, -1) >= incoming.source.offset:
        return state, []
    turn = _Turn(incoming, ctx, {})
    match incoming.event:
        case ChangeIntercepted():
            event = _intercepted(state, incoming.event, turn)
        case ApprovalDecided():
            event = _decided(incoming.event, turn)
        case ChangeApplying():
            event = _applying(incoming.event, turn)
        case TimerDue():
            event = machine.Due(incoming.event.change_id, incoming.event.what)
    new, outputs = machine.step(state, event, incoming.at)
    new, outputs = _settle(new, outputs, turn)
    new = replace(new, handled={**new.handled, topic: incoming.source.offset})
    records = [record for output in outputs for record in _render(output, turn)]
    if not isinstance(incoming.event, TimerDue) and not any(isinstance(output, machine.Note) for output in outputs):
        records.append(_ignored(turn))
    return new, records


def _ignored(turn: _Turn) -> Outgoing:
    """The leaf of an event that changed nothing: a repeat under another offset, a word about what is over.

    Every message becomes evidence, or a vote or an outcome could vanish without a trace.
    """
    source, event = turn.incoming.source, turn.incoming.event
    return turn.ctx.gate.entry(
        leaf_id=derived_id("ignored", source.topic, str(source.partition), str(source.offset)),
        kind="change.ignored",
        at=turn.incoming.at,
        source=source,
        facts={"event": type(event).__name__, "reason": "nothing is open that this could change"},
        change_id=event.change_id,
        bodies=list(turn.bodies),
        sealed=turn.sealed,
        people=turn.people,
    )


def _settle(
    state: SubjectState, outputs: list[machine.Output], turn: _Turn
) -> tuple[SubjectState, list[machine.Output]]:
    """Judge what the machine asked to be judged again, and step once more with all of it."""
    asked = [output for output in outputs if isinstance(output, machine.Reassess)]
    if not asked:
        return state, outputs
    done = [output for output in outputs if not isinstance(output, machine.Reassess)]
    judged: list[tuple[Change, machine.Verdict]] = []
    for ask in asked:
        assessment = reassess(ask.change, ask.base, ask.base_identity, turn.ctx)
        turn.assessments[ask.change.change_id] = assessment
        judged.append((assessment.change, assessment.verdict))
    state, more = machine.step(state, machine.Reassessed(tuple(judged)), turn.incoming.at)
    return state, done + more


# ---------------------------------------------------------------- events into the machine's terms


def _intercepted(state: SubjectState, event: ChangeIntercepted, turn: _Turn) -> machine.StateEvent:
    at = turn.incoming.at
    joined = machine.attach_to(state, event.attach_key, at, turn.ctx.attach_window)
    if joined is not None and joined.change_id != event.change_id:
        turn.sealed = (event.request, *_present(event.token))
        turn.people = _present(event.actor.person, event.initiator)
        return machine.Attaching(joined.change_id, event.change_id)
    assessment = assess(event, turn.incoming.identity, at, turn.ctx)
    turn.assessments[event.change_id] = assessment
    turn.sealed = (event.request, *_present(event.base, event.token))
    turn.bodies = assessment.bodies
    turn.people = _present(event.actor.person, event.initiator)
    return machine.Assessed(assessment.change)


def _decided(event: ApprovalDecided, turn: _Turn) -> machine.StateEvent:
    identity, refused = turn.incoming.identity, None
    voter, kind, groups = event.actor.person, event.actor.kind, event.actor.groups
    if isinstance(identity, Refusal):
        refused = identity.code
    elif identity is None or identity.actor.person.key != voter.key:
        refused = "not_the_token_of_this_person"
    else:
        kind, groups = identity.actor.kind, identity.actor.groups
    reason = None
    if event.reason is not None:
        try:
            reason = turn.ctx.gate.text(open_sealed(event.reason, turn.ctx.keys).decode())
        except (SealingError, UnicodeDecodeError):
            reason = "(the reason could not be read)"
    turn.sealed = (event.token, *_present(event.reason))
    turn.people = (voter,)
    return machine.Decided(
        decision_id=event.decision_id,
        change_id=event.change_id,
        decision=event.decision,
        voter=voter,
        voter_kind=kind,
        groups=groups,
        custody=event.custody,
        commitment=event.commitment,
        reason=reason,
        refused=refused,
    )


def _applying(event: ChangeApplying, turn: _Turn) -> machine.StateEvent:
    if event.phase == "sending" or event.outcome is None:
        return machine.Sending(event.change_id, event.release_id)
    turn.sealed = _present(event.response, event.base_after)
    if event.response is not None:
        turn.bodies = _response_bodies(event.response, turn.ctx)
    return machine.Outcome(
        change_id=event.change_id,
        release_id=event.release_id,
        outcome=event.outcome,
        status=event.status,
        answer=event.response,
        base_after=event.base_after,
        base_after_identity=event.base_after_identity,
        reason=event.reason,
    )


def _response_bodies(part: SealedPart, ctx: Context) -> tuple[MaskedBody, ...]:
    try:
        raw = open_sealed(part, ctx.keys)
        return tuple(ctx.gate.response(HttpResponse.from_bytes(raw)))
    except (SealingError, HttpMessageError):
        return (ctx.gate.stub("response-body", part.jwe, "unreadable"),)


def _present(*parts: T | None) -> tuple[T, ...]:
    return tuple(part for part in parts if part is not None)


# ---------------------------------------------------------------- outputs into records


def _render(output: machine.Output, turn: _Turn) -> list[Outgoing]:
    match output:
        case machine.Ask():
            return [_ask(output.change, turn)]
        case machine.Release():
            event = release(output.change, turn.ctx.signer)
            return [Outgoing(RELEASED, turn.incoming.key, event, output.change.release_id or "")]
        case machine.Tell():
            return [_tell(output, turn)]
        case machine.Note():
            return [_note(output, turn)]
        case machine.Reassess():
            raise AssertionError("settled before anything is rendered")


def _ask(change: Change, turn: _Turn) -> Outgoing:
    assessment = turn.assessments[change.change_id]
    event = ApprovalRequested(
        change_id=change.change_id,
        target=change.target,
        subject=change.subject,
        operation=change.operation,
        requester=change.requester,
        initiator=change.initiator,
        reason=assessment.reason,
        differences=assessment.differences,
        findings=assessment.findings,
        hidden=assessment.hidden,
        rule=change.rule,
        why=change.why,
        required=change.required,
        groups=change.groups,
        commitment=change.request.commitment,
        base_identity=change.base_identity,
        requested_at=change.requested_at,
        expires_at=change.expires_at,
    )
    return Outgoing(REQUESTED, turn.incoming.key, event, derived_id("ask", change.change_id))


def _tell(output: machine.Tell, turn: _Turn) -> Outgoing:
    change = output.change
    event = ChangeStatus(
        change_id=change.change_id,
        waiters=change.waiters,
        state=change.state,
        at=turn.incoming.at,
        rule=change.rule,
        reason=change.reason,
        required=change.required,
        approvals=len({vote.voter.key for vote in change.votes}),
        groups=change.groups,
        expires_at=change.expires_at,
        commitment=change.request.commitment,
        answer=change.answer if change.state in machine.CLOSED else None,
        decision_id=output.decision_id,
        refusal=output.refusal,
    )
    source = turn.incoming.source
    event_id = derived_id(
        "status", change.change_id, change.state, source.topic, str(source.offset), output.decision_id or ""
    )
    return Outgoing(STATUS, turn.incoming.key, event, event_id)


def _note(output: machine.Note, turn: _Turn) -> Outgoing:
    """The leaf of one step. The parts that arrived with the event go with the leaf that is about it."""
    change, source = output.change, turn.incoming.source
    event = turn.incoming.event
    own = change.change_id == event.change_id or output.kind == "change.attached"
    carries = own and output.kind in _CARRIER.get(type(event), ())
    facts = dict(output.facts)
    bodies: list[MaskedBody] = list(turn.bodies) if carries else []
    if output.kind == "change.assessed":
        facts |= _assessed_facts(change, turn.assessments[change.change_id])
    elif output.kind == "change.rebased":
        bodies = list(turn.assessments[change.change_id].bodies)
    place = (source.topic, str(source.offset)) if output.kind in _RECURRING else ()
    return turn.ctx.gate.entry(
        leaf_id=derived_id("leaf", change.change_id, output.kind, output.discriminator, *place),
        kind=output.kind,
        at=turn.incoming.at,
        source=source,
        facts=facts,
        target=change.target,
        change_id=change.change_id,
        bodies=bodies,
        sealed=turn.sealed if carries else (),
        people=turn.people if carries else (),
    )


# Steps that one change can take twice with the same discriminator: without the position, two entries of one id.
_RECURRING = ("change.unresolved", "change.rebased")
_CARRIER: dict[type[Any], tuple[str, ...]] = {
    ChangeIntercepted: ("change.assessed", "change.attached"),
    ApprovalDecided: ("change.decided",),
    ChangeApplying: ("change.closed", "change.base_moved", "change.unresolved"),
}


def _assessed_facts(change: Change, assessment: Assessment) -> dict[str, Any]:
    return {
        "subject": change.subject,
        "operation": change.operation,
        "requester": {
            "iss": change.requester.iss,
            "sub": change.requester.sub,
            "kind": change.requester_kind,
            "groups": list(assessment.groups),
        },
        "initiator": change.initiator and {"iss": change.initiator.iss, "sub": change.initiator.sub},
        "identity": assessment.identity,
        "reason": assessment.reason,
        "verdict": change.verdict,
        "rule": change.rule,
        "why": change.why,
        "observed_only": assessment.observed_only,
        "differences": assessment.difference_codes,
        "findings": assessment.finding_codes,
        "hidden": assessment.hidden,
        "base_version": change.base_identity,
        "required_approvals": change.required,
        "groups": list(change.groups),
        "commitment": change.request.commitment.hex(),
        "policy_sha256": change.policy_sha256,
        "requested_at": timestamp(change.requested_at),
        "expires_at": timestamp(change.expires_at) if change.required else None,
    }


def due_at(change: Change, attach_window: timedelta) -> datetime | None:
    """When a timer should look at this change again, or None."""
    if change.state == machine.PENDING:
        return change.expires_at
    if change.state in machine.CLOSED and change.closed_at is not None:
        return change.closed_at + attach_window
    return None
