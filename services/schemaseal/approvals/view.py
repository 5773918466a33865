"""What the decisions API knows of every change: a pure reducer over `approvals.requested` and `changes.status`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from schemaseal.contracts.events import ApprovalRequested, ChangeStatus, Person
from schemaseal.contracts.timestamps import timestamp

Answer = tuple[bool, str | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One change that was put before people. `key` is the topic key that every message about it uses."""

    key: bytes
    request: ApprovalRequested
    state: str = "pending"
    approvals: int = 0
    reason: str | None = None
    at: datetime | None = None
    waiters: tuple[str, ...] = ()
    answers: dict[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class View:
    """All changes that were put before people, newest last. A status without a request is not kept."""

    entries: dict[str, Entry] = field(default_factory=dict)
    early: dict[str, list[ChangeStatus]] = field(default_factory=dict)

    def requested(self, key: bytes, event: ApprovalRequested) -> None:
        """A repeat changes nothing. Statuses that overtook it (another topic) are applied now."""
        if event.change_id in self.entries:
            return
        self.entries[event.change_id] = Entry(key, event)
        for status in self.early.pop(event.change_id, []):
            self.status(status)

    def status(self, event: ChangeStatus) -> None:
        """The latest state; and, where the status answers a decision, that answer."""
        entry = self.entries.get(event.change_id)
        if entry is None:
            # Only what waits for people can have a request that is still to come; what followed waits with it.
            if event.state == "pending" or event.change_id in self.early:
                self.early.setdefault(event.change_id, []).append(event)
            return
        answers = entry.answers
        if event.decision_id is not None:
            answers = {**answers, event.decision_id: event.refusal}
        if entry.at is not None and event.at < entry.at:
            self.entries[event.change_id] = replace(entry, answers=answers)
            return
        self.entries[event.change_id] = replace(
            entry,
            state=event.state,
            approvals=event.approvals,
            reason=event.reason,
            at=event.at,
            waiters=event.waiters,
            answers=answers,
        )


def _person(person: Person | None) -> dict[str, Any] | None:
    return None if person is None else {"iss": person.iss, "sub": person.sub, "name": person.name}


def summary(entry: Entry) -> dict[str, Any]:
    """One line of a list, JSON-able."""
    request = entry.request
    return {
        "change_id": request.change_id,
        "state": entry.state,
        "target": request.target,
        "subject": request.subject,
        "operation": request.operation,
        "requester": _person(request.requester),
        "initiator": _person(request.initiator),
        "rule": request.rule,
        "required": request.required,
        "approvals": entry.approvals,
        "groups": list(request.groups),
        "requested_at": timestamp(request.requested_at),
        "expires_at": timestamp(request.expires_at),
        "reason": entry.reason,
    }


def detail(entry: Entry) -> dict[str, Any]:
    """Everything an approver is shown; all of it arrived masked."""
    request = entry.request
    return summary(entry) | {
        "why": request.why,
        "request_reason": request.reason,
        "differences": json.loads(request.differences),
        "findings": json.loads(request.findings),
        "hidden": request.hidden,
        "base": request.base_identity,
        "commitment": request.commitment.hex(),
        "attached": list(entry.waiters),
    }
