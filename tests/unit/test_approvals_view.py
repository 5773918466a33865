"""The view of the decisions API: two topics in any order come to the same picture."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.approvals.view import Entry, View, detail, summary
from schemaseal.contracts.events import ApprovalRequested, ChangeStatus, Person

T0 = datetime(2026, 11, 23, 9, 0, 0, 123000, tzinfo=UTC)
KEY = b"subject-key"
REQUEST = ApprovalRequested(
    change_id="c1",
    target="registry",
    subject="orders-value",
    operation="register",
    requester=Person(iss="i", sub="ci"),
    initiator=Person(iss="i", sub="bob", name="Bob"),
    reason="ticket 1",
    differences='[{"path": "/a"}]',
    findings="[]",
    hidden=2,
    rule="r",
    why="w",
    required=2,
    groups=("schema-owners",),
    commitment=b"\x01\xff",
    base_identity="v1",
    requested_at=T0,
    expires_at=T0 + timedelta(hours=1),
)


def status(state: str = "pending", seconds: int = 0, **over: Any) -> ChangeStatus:
    fields: dict[str, Any] = {"change_id": "c1", "state": state, "at": T0 + timedelta(seconds=seconds)}
    return ChangeStatus(**(fields | over))


def view(*events: ApprovalRequested | ChangeStatus) -> View:
    made = View()
    for event in events:
        if isinstance(event, ApprovalRequested):
            made.requested(KEY, event)
        else:
            made.status(event)
    return made


def entry(*events: ApprovalRequested | ChangeStatus) -> Entry:
    return view(*events).entries["c1"]


LIFE = [
    status("pending", 0, waiters=("w1",)),
    status("pending", 1, approvals=1, decision_id="d1", waiters=("w1", "w2")),
    status("pending", 2, approvals=1, decision_id="d2", refusal="own change"),
    status("approved", 3, approvals=2, decision_id="d3"),
    status("applied", 4, approvals=2, reason="version 2"),
]


def test_a_request_alone_is_pending() -> None:
    assert entry(REQUEST) == Entry(KEY, REQUEST)
    assert entry(REQUEST).state == "pending"


def test_a_repeated_request_changes_nothing() -> None:
    made = view(REQUEST, *LIFE)
    before = made.entries["c1"]
    made.requested(b"other", replace(REQUEST, subject="other"))
    assert made.entries == {"c1": before}


def test_the_latest_status_is_what_shows() -> None:
    made = entry(REQUEST, *LIFE)
    assert (made.state, made.approvals, made.reason, made.at) == ("applied", 2, "version 2", LIFE[-1].at)
    assert made.answers == {"d1": None, "d2": "own change", "d3": None}


def test_a_status_that_comes_late_only_adds_its_answer() -> None:
    late = status("pending", 1, decision_id="d9", refusal="too late", reason="old", waiters=("w9",), approvals=1)
    made = entry(REQUEST, *LIFE, late)
    assert (made.state, made.approvals, made.reason, made.at) == ("applied", 2, "version 2", LIFE[-1].at)
    assert made.waiters == ()
    assert made.answers["d9"] == "too late"


def test_a_status_of_the_same_moment_is_taken() -> None:
    assert entry(REQUEST, status("pending", 1), status("rejected", 1)).state == "rejected"


@given(st.integers(0, len(LIFE)))
def test_where_the_request_arrives_does_not_matter(at: int) -> None:
    """Two topics have no order between them: all of a life may be there before the request is."""
    made = view(*LIFE[:at], REQUEST, *LIFE[at:])
    assert made.entries == view(REQUEST, *LIFE).entries
    assert made.early == {}


@given(st.permutations([*LIFE, *LIFE]))
def test_repeats_and_disorder_come_to_the_same_picture(events: list[ChangeStatus]) -> None:
    assert entry(REQUEST, *events) == entry(REQUEST, *LIFE)


def test_what_never_waited_for_people_is_not_kept() -> None:
    made = view(status("released"), status("applied", 1))
    assert (made.entries, made.early) == ({}, {})


def test_statuses_of_other_changes_do_not_mix() -> None:
    made = view(status("pending", change_id="c2"), REQUEST, status("rejected", 1, change_id="c2"))
    assert made.entries["c1"].state == "pending"
    made.requested(KEY, replace(REQUEST, change_id="c2"))
    assert made.entries["c2"].state == "rejected"
    assert made.entries["c1"].state == "pending"
    assert list(made.entries) == ["c1", "c2"]


def test_an_entry_that_was_read_does_not_change_underneath() -> None:
    made = view(REQUEST, LIFE[0])
    read = made.entries["c1"]
    made.status(LIFE[1])
    assert (read.approvals, read.answers) == (0, {})
    assert made.entries["c1"].answers == {"d1": None}


def test_summary() -> None:
    made = summary(entry(REQUEST, *LIFE))
    assert made == {
        "change_id": "c1",
        "state": "applied",
        "target": "registry",
        "subject": "orders-value",
        "operation": "register",
        "requester": {"iss": "i", "sub": "ci", "name": None},
        "initiator": {"iss": "i", "sub": "bob", "name": "Bob"},
        "rule": "r",
        "required": 2,
        "approvals": 2,
        "groups": ["schema-owners"],
        "requested_at": "2026-11-23T09:00:00.123Z",
        "expires_at": "2026-11-23T10:00:00.123Z",
        "reason": "version 2",
    }
    assert json.loads(json.dumps(made)) == made


def test_detail_is_the_summary_and_what_an_approver_decides_by() -> None:
    made = entry(REQUEST, *LIFE[:2])
    shown = detail(made)
    assert json.loads(json.dumps(shown)) == shown
    assert summary(made).items() <= shown.items()
    assert {name: shown[name] for name in shown.keys() - summary(made).keys()} == {
        "why": "w",
        "request_reason": "ticket 1",
        "differences": [{"path": "/a"}],
        "findings": [],
        "hidden": 2,
        "base": "v1",
        "commitment": "01ff",
        "attached": ["w1", "w2"],
    }


def test_without_an_initiator_none_is_shown() -> None:
    assert summary(entry(replace(REQUEST, initiator=None, subject=None)))["initiator"] is None


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_the_reason_of_a_state_is_not_the_reason_of_the_request(state: str) -> None:
    shown = detail(entry(REQUEST, status(state, 1, reason="why it is so")))
    assert (shown["reason"], shown["request_reason"]) == ("why it is so", "ticket 1")
