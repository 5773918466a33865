"""The words of a change's life: its states, the events that move it, and what a step puts out. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from schemaseal.contracts.events import ApplyOutcome, Change, Person, SealedPart, SubjectState

ALLOWED, PENDING, APPROVED = "allowed", "pending", "approved"
RELEASED, APPLYING, UNRESOLVED = "released", "applying", "unresolved"
APPLIED, FAILED, DENIED, REJECTED = "applied", "failed", "denied", "rejected"
WITHDRAWN, EXPIRED, LAPSED, SUPERSEDED = "withdrawn", "expired", "lapsed", "superseded"

READY = frozenset({ALLOWED, APPROVED})
IN_FLIGHT = frozenset({RELEASED, APPLYING, UNRESOLVED})
OPEN = READY | IN_FLIGHT | {PENDING}
CLOSED = frozenset({APPLIED, FAILED, DENIED, REJECTED, WITHDRAWN, EXPIRED, LAPSED, SUPERSEDED})

Verdict = Literal["allow", "require", "deny"]


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Assessed:
    """A new change with policy's verdict in it (`change.verdict`), not yet in any state."""

    change: Change


@dataclass(frozen=True, slots=True)
class Attaching:
    """The same request again under another request id."""

    change_id: str
    waiter: str


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision with what was verified of the voter; `refused` says why the token does not count."""

    decision_id: str
    change_id: str
    decision: Literal["approve", "reject", "withdraw"]
    voter: Person
    voter_kind: str
    groups: tuple[str, ...]
    custody: str
    commitment: bytes
    reason: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """The applier is about to send."""

    change_id: str
    release_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The applier's word on one release."""

    change_id: str
    release_id: str
    outcome: ApplyOutcome
    status: int | None = None
    answer: SealedPart | None = None
    base_after: SealedPart | None = None
    base_after_identity: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Reassessed:
    """Changes judged again against the base that the target has now, all of one `Reassess` round."""

    judged: tuple[tuple[Change, Verdict], ...]


@dataclass(frozen=True, slots=True)
class Due:
    """A timer: an undecided change may be expired, or a closed one forgotten."""

    change_id: str
    what: Literal["expiry", "forget"]


StateEvent = Assessed | Attaching | Decided | Sending | Outcome | Reassessed | Due


# ---------------------------------------------------------------- outputs


@dataclass(frozen=True, slots=True)
class Ask:
    """Put the change before people."""

    change: Change


@dataclass(frozen=True, slots=True)
class Release:
    """Give the applier signed permission for this attempt."""

    change: Change


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell whoever waits the change's state; with a decision id, the answer to that decision."""

    change: Change
    decision_id: str | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something for the evidence: `kind`, a discriminator that makes its id, and facts."""

    kind: str
    change: Change
    discriminator: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reassess:
    """Judge the change against this base and come back with `Reassessed`."""

    change: Change
    base: SealedPart | None
    base_identity: str


Output = Ask | Release | Tell | Note | Reassess
Step = tuple[SubjectState, list[Output]]
