"""The events of every topic as frozen dataclasses; field for field the Avro records in `avsc/`.

Times are timezone-aware UTC datetimes with millisecond resolution. `bytes` digests are raw, not hex.
A test holds the fields here equal to the fields of the Avro schemas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

ActorKind = Literal["human", "service"]
DecisionKind = Literal["approve", "reject", "withdraw"]
Custody = Literal["attested", "step_up"]
ApplyPhase = Literal["sending", "outcome"]
ApplyOutcome = Literal["applied", "failed", "base_moved", "lapsed", "unresolved"]
TimerKind = Literal["expiry", "forget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One identity as an issuer names it. `name` is erasable and never part of a leaf."""

    iss: str
    sub: str
    name: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes two mentions the same identity: issuer and subject, never a display name."""
        return (self.iss, self.sub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who sent it: what was verified of the token, and what was merely carried."""

    iss: str
    sub: str
    name: str | None = None
    kind: ActorKind
    client_id: str | None = None
    groups: tuple[str, ...] = ()
    jti: str | None = None
    auth_time: datetime | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    kid: str | None = None
    key_thumbprint: str | None = None
    expires_at: datetime | None = None
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def person(self) -> Person:
        return Person(iss=self.iss, sub=self.sub, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPart:
    """Bytes that only the named recipients can open. `commitment` is HMAC-SHA256(salt, bytes)."""

    name: str
    media_type: str
    size: int
    commitment: bytes
    jwe: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeIntercepted:
    change_id: str
    received_at: datetime
    target: str
    request: SealedPart
    base: SealedPart | None = None
    base_identity: str
    actor: Actor
    initiator: Person | None = None
    token: SealedPart | None = None
    policy_sha256: str
    detectors: str
    mask_key_id: str
    attach_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    change_id: str
    target: str
    subject: str | None = None
    operation: str
    requester: Person
    initiator: Person | None = None
    reason: str | None = None
    differences: str
    findings: str
    hidden: int
    rule: str
    why: str
    required: int
    groups: tuple[str, ...] = ()
    commitment: bytes
    base_identity: str
    requested_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecided:
    decision_id: str
    change_id: str
    decision: DecisionKind
    actor: Actor
    token: SealedPart
    custody: Custody
    commitment: bytes
    reason: SealedPart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOrder:
    release_id: str
    change_id: str
    target: str
    operation: str
    commitment: bytes
    base_identity: str
    deadline: datetime
    policy_sha256: str
    votes: tuple[str, ...] = ()
    request: SealedPart


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReleased:
    order: bytes
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeApplying:
    change_id: str
    release_id: str
    phase: ApplyPhase
    at: datetime
    outcome: ApplyOutcome | None = None
    status: int | None = None
    response: SealedPart | None = None
    base_after: SealedPart | None = None
    base_after_identity: str | None = None
    reason: str | None = None
    finding: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStatus:
    change_id: str
    waiters: tuple[str, ...] = ()
    state: str
    at: datetime
    rule: str | None = None
    reason: str | None = None
    required: int = 0
    approvals: int = 0
    groups: tuple[str, ...] = ()
    expires_at: datetime | None = None
    commitment: bytes | None = None
    answer: SealedPart | None = None
    decision_id: str | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerDue:
    change_id: str
    what: TimerKind
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActObserved:
    act_id: str
    kind: str
    at: datetime
    observer: str
    target: str | None = None
    actor: Actor | None = None
    initiator: Person | None = None
    change_id: str | None = None
    request: SealedPart | None = None
    response: SealedPart | None = None
    token: SealedPart | None = None
    facts: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Masked content under a salted digest: HMAC-SHA256(salt, content)."""

    digest: bytes
    salt: bytes
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceEntry:
    id: str
    kind: str
    leaf: bytes
    bodies: tuple[Body, ...] = ()
    sealed: tuple[SealedPart, ...] = ()
    actors: tuple[Person, ...] = ()
    key_id: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheckpoint:
    origin: str
    size: int
    root: bytes
    note: bytes
    range: bytes
    next_offset: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigVersion:
    kind: str
    version: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    topic: str
    partition: int
    offset: int
    consumer: str
    error: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """An approval that counts."""

    decision_id: str
    voter: Person
    groups: tuple[str, ...] = ()
    custody: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a subject, open or recently closed; its life is `schemaseal.approvals.state`."""

    change_id: str
    state: str
    target: str
    operation: str
    subject: str | None = None
    requester: Person
    requester_kind: str
    initiator: Person | None = None
    attach_key: bytes
    policy_sha256: str
    verdict: str
    rule: str
    why: str
    required: int
    groups: tuple[str, ...] = ()
    requested_at: datetime
    expires_at: datetime
    apply_within_ms: int
    base_identity: str
    base: SealedPart | None = None
    request: SealedPart
    votes: tuple[Vote, ...] = ()
    decisions: dict[str, str] = field(default_factory=dict)
    waiters: tuple[str, ...] = ()
    attempt: int = 0
    release_id: str | None = None
    deadline: datetime | None = None
    sending: bool = False
    reason: str | None = None
    answer: SealedPart | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectState:
    """Everything streams know about one subject: one row of the table, versioned like an event."""

    changes: tuple[Change, ...] = ()
    handled: dict[str, int] = field(default_factory=dict)

    def find(self, change_id: str) -> Change | None:
        return next((change for change in self.changes if change.change_id == change_id), None)


Event = (
    ChangeIntercepted
    | ApprovalRequested
    | ApprovalDecided
    | ReleaseOrder
    | ChangeReleased
    | ChangeApplying
    | ChangeStatus
    | TimerDue
    | ActObserved
    | EvidenceEntry
    | LogCheckpoint
    | ConfigVersion
    | Quarantined
    | SubjectState
)

EVENTS: tuple[type[Event], ...] = (
    ChangeIntercepted,
    ApprovalRequested,
    ApprovalDecided,
    ReleaseOrder,
    ChangeReleased,
    ChangeApplying,
    ChangeStatus,
    TimerDue,
    ActObserved,
    EvidenceEntry,
    LogCheckpoint,
    ConfigVersion,
    Quarantined,
    SubjectState,
)
