"""The decisions API: who is heard, what is written before anything is answered, and how streams' word comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from schemaseal.approvals.api import BODY_LIMIT, REASON_LIMIT, WORDS, Decisions, create_app
from schemaseal.contracts import codec
from schemaseal.contracts.events import (
    ActObserved,
    Actor,
    ApprovalDecided,
    ApprovalRequested,
    ChangeStatus,
    Event,
    Person,
    SealedPart,
)
from schemaseal.contracts.topics import ACTS, DECIDED, Topic
from schemaseal.core.errors import IdentityUnavailable, NotRecorded
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.sealing.box import key_ids, open_sealed, seal
from tests.unit.release_builder import T0, Keys

ISSUER = "https://issuer.test"
BOB = Actor(iss=ISSUER, sub="bob", name="Bob", kind="human", groups=("owners",))
ROBOT = Actor(iss=ISSUER, sub="ci", kind="service", client_id="ci")
COMMITMENT = bytes(range(32))
DECISION_ID = "11111111-1111-4111-8111-111111111111"
REQUEST = ApprovalRequested(
    change_id="c1",
    target="registry",
    subject="<script>alert(1)</script>",
    operation="register",
    requester=Person(iss=ISSUER, sub="ci"),
    initiator=Person(iss=ISSUER, sub="alice", name="Alice"),
    reason="ticket 7",
    differences='[{"path": "/a"}]',
    findings="[]",
    hidden=2,
    rule="r1",
    why="w",
    required=2,
    groups=("owners",),
    commitment=COMMITMENT,
    base_identity="v1:id7",
    requested_at=T0,
    expires_at=T0 + timedelta(hours=1),
)


class FakeVerifier:
    """Stands in for the identity provider's keys: one token a person, `down` finds no provider."""

    async def verify(self, token: str, now: datetime) -> Verified | Refusal:
        if token == "down":
            raise IdentityUnavailable("the issuer's keys cannot be had")
        known = {"bob": BOB, "robot": ROBOT}.get(token)
        return Refusal("expired", "the token is over") if known is None else Verified(known)


@dataclass
class FakeBroker:
    """Stands in for the producer; `streams` is told of each decision, as streams are."""

    sent: list[tuple[Topic, bytes | None, Event, str]] = field(default_factory=list)
    failing: bool = False
    streams: Callable[[ApprovalDecided], None] = lambda _event: None

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None:
        if self.failing:
            raise NotRecorded("no acknowledgement")
        self.sent.append((topic, key, event, event_id))
        if isinstance(event, ApprovalDecided):
            self.streams(event)

    def acts(self) -> list[ActObserved]:
        return [event for topic, _, event, _ in self.sent if topic is ACTS and isinstance(event, ActObserved)]

    def decided(self) -> list[ApprovalDecided]:
        return [event for topic, _, event, _ in self.sent if topic is DECIDED and isinstance(event, ApprovalDecided)]


class Desk:
    """The API with one change put before people, and a client."""

    def __init__(self, keys: Keys, http: httpx.AsyncClient, decisions: Decisions, broker: FakeBroker) -> None:
        self.keys, self.http, self.decisions, self.broker = keys, http, decisions, broker

    def answered(self, state: str = "pending", refusal: str | None = None, approvals: int = 1) -> None:
        """Streams answer every decision so."""

        def streams(event: ApprovalDecided) -> None:
            self.decisions.view.status(
                ChangeStatus(
                    change_id=event.change_id,
                    state=state,
                    at=T0,
                    approvals=approvals,
                    decision_id=event.decision_id,
                    refusal=refusal,
                )
            )

        self.broker.streams = streams

    async def get(self, path: str, who: str | None = "bob") -> httpx.Response:
        return await self.http.get(path, headers={} if who is None else {"authorization": f"Bearer {who}"})

    async def decide(self, decision: str = "approve", *, change_id: str = "c1", who: str = "bob", **over: Any) -> Any:
        body = {"decision": decision, "commitment": COMMITMENT.hex(), "decision_id": DECISION_ID} | over
        return await self.http.post(
            f"/v1/changes/{change_id}/decisions", json=body, headers={"authorization": f"Bearer {who}"}
        )

    async def post(self, content: Any) -> httpx.Response:
        return await self.http.post(
            "/v1/changes/c1/decisions", content=content, headers={"authorization": "Bearer bob"}
        )

    def opened(self, part: SealedPart | None, who: str = "streams") -> bytes:
        assert part is not None
        assert key_ids(part) == ["streams/1", "custody/1"]
        return open_sealed(part, self.keys.private[who])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def desk(keys: Keys) -> AsyncIterator[Desk]:
    broker = FakeBroker()

    def seal_part(data: bytes, name: str, media_type: str) -> SealedPart:
        return seal(data, keys.public.recipients("streams", "custody"), name=name, media_type=media_type)

    decisions = Decisions(broker, FakeVerifier(), seal_part, lambda: T0, wait_seconds=5.0)
    decisions.view.requested(b"key-1", REQUEST)
    # Exceptions of the app come up here: an unhandled one fails the test instead of showing as a 500.
    transport = httpx.ASGITransport(create_app(decisions))
    async with httpx.AsyncClient(transport=transport, base_url="http://decisions.test") as http:
        yield Desk(keys, http, decisions, broker)


def code_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:schemaseal:problem:{document['code']}"
    return str(document["code"])


# ---------------------------------------------------------------- who is heard

PATHS = [("GET", "/v1/changes"), ("GET", "/v1/changes/c1"), ("POST", "/v1/changes/c1/decisions")]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "no_token"),
        ("Basic Ym9iOmJvYg==", "no_token"),
        ("Bearer ", "no_token"),
        ("bob", "no_token"),
        ("Bearer forged", "expired"),
    ],
)
async def test_nobody_unknown_is_heard_and_each_refusal_is_recorded(
    desk: Desk, method: str, path: str, header: str | None, code: str
) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = await desk.http.request(method, path, headers=headers)
    assert (answer.status_code, code_of(answer)) == (401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert desk.broker.decided() == []
    [act] = desk.broker.acts()
    assert (act.kind, act.observer, act.actor) == ("denied", "decisions", None)
    assert json.loads(act.facts) == {"reason_code": code}
    if code == "expired":
        assert desk.opened(act.token, "custody") == b"forged"
    else:
        assert act.token is None


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_the_identity_provider_nothing_is_decided(desk: Desk, method: str, path: str) -> None:
    answer = await desk.http.request(method, path, headers={"authorization": "Bearer down"})
    assert (answer.status_code, code_of(answer)) == (503, "identity_unavailable")
    assert desk.broker.sent == []


async def test_a_refusal_that_cannot_be_recorded_is_not_told(desk: Desk) -> None:
    desk.broker.failing = True
    answer = await desk.get("/v1/changes", None)
    assert (answer.status_code, code_of(answer)) == (503, "not_recorded")


# ---------------------------------------------------------------- looking


async def test_the_list_is_filtered_by_state_and_target(desk: Desk) -> None:
    desk.decisions.view.requested(b"key-2", replace(REQUEST, change_id="c2", target="other"))
    desk.decisions.view.status(ChangeStatus(change_id="c2", state="applied", at=T0))

    async def ids(query: str) -> list[str]:
        answer = await desk.get(f"/v1/changes{query}")
        assert answer.status_code == 200
        return [change["change_id"] for change in answer.json()["changes"]]

    assert await ids("") == ["c1", "c2"]
    assert await ids("?state=applied") == ["c2"]
    assert await ids("?target=registry") == ["c1"]
    assert await ids("?state=applied&target=registry") == []


async def test_a_change_is_shown_with_what_is_to_be_approved(desk: Desk) -> None:
    shown = (await desk.get("/v1/changes/c1")).json()
    assert shown["commitment"] == COMMITMENT.hex()
    assert shown["differences"] == [{"path": "/a"}]
    assert (shown["hidden"], shown["base"], shown["request_reason"]) == (2, "v1:id7", "ticket 7")
    assert shown["initiator"] == {"iss": ISSUER, "sub": "alice", "name": "Alice"}


async def test_what_others_wrote_is_data_and_never_a_page(desk: Desk) -> None:
    """There are no pages here: a browser must not take a subject's name for one."""
    for path in ("/v1/changes", "/v1/changes/c1", "/v1/changes/%3Cscript%3E"):
        answer = await desk.get(path)
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        if answer.status_code == 404:
            assert "script" not in answer.text


async def test_an_unknown_change_is_not_shown(desk: Desk) -> None:
    answer = await desk.get("/v1/changes/nothing")
    assert (answer.status_code, code_of(answer)) == (404, "unknown_change")


# ---------------------------------------------------------------- deciding


@pytest.mark.parametrize(
    ("decision", "state"), [("approve", "approved"), ("reject", "rejected"), ("withdraw", "withdrawn")]
)
async def test_a_decision_is_written_as_it_was_made_and_answered_by_streams(
    desk: Desk, decision: str, state: str
) -> None:
    desk.answered(state, approvals=2)
    answer = await desk.decide(decision, reason="looks right: 5500 0000 0000 0004")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["state"], told["approvals"], told["accepted"], told["refusal"]) == (state, 2, True, None)
    assert told["decision_id"] == DECISION_ID
    [(topic, key, event, event_id)] = desk.broker.sent
    assert (topic, key, event_id) == (DECIDED, b"key-1", DECISION_ID)
    assert isinstance(event, ApprovalDecided)
    assert (event.change_id, event.decision, event.actor, event.custody) == ("c1", decision, BOB, "attested")
    assert event.commitment == COMMITMENT


async def test_reason_and_token_are_sealed(desk: Desk) -> None:
    desk.answered()
    await desk.decide(reason="looks right: 5500 0000 0000 0004")
    [event] = desk.broker.decided()
    assert desk.opened(event.reason) == b"looks right: 5500 0000 0000 0004"
    assert desk.opened(event.token) == b"bob"
    written = codec.encode(event)
    assert b"5500 0000" not in written
    assert b"looks right" not in written


@pytest.mark.parametrize("reason", [None, ""])
async def test_no_reason_is_none(desk: Desk, reason: str | None) -> None:
    desk.answered()
    await desk.decide(reason=reason)
    assert desk.broker.decided()[0].reason is None


async def test_the_commitment_goes_to_streams_as_the_approver_sent_it(desk: Desk) -> None:
    """Whether these are the waiting bytes is judged with the record, not here: an old page must not pass."""
    desk.answered(refusal="other_payload")
    answer = await desk.decide(commitment="ff" * 32)
    assert (answer.status_code, code_of(answer)) == (409, "other_payload")
    assert desk.broker.decided()[0].commitment == b"\xff" * 32


async def test_a_machine_is_identified_and_refused_by_the_rules(desk: Desk) -> None:
    """The API passes on who it is; that machines do not decide is for the state machine to say."""
    desk.answered(refusal="not_a_person")
    answer = await desk.decide(who="robot")
    assert (answer.status_code, code_of(answer)) == (403, "not_a_person")
    assert desk.broker.decided()[0].actor == ROBOT


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ("own_change", 403),
        ("not_in_group", 403),
        ("already_voted", 403),
        ("not_yours", 403),
        ("expired", 409),
        ("already_released", 409),
        ("closed:rejected", 409),
    ],
)
async def test_a_refused_decision_is_never_a_success(desk: Desk, refusal: str, status: int) -> None:
    desk.answered(refusal=refusal)
    answer = await desk.decide()
    assert (answer.status_code, code_of(answer)) == (status, refusal)
    assert answer.json()["detail"] == WORDS.get(refusal, f"this decision does not count: {refusal}")


async def test_a_decision_that_is_not_recorded_did_not_happen(desk: Desk) -> None:
    desk.broker.failing = True
    answer = await desk.decide()
    assert (answer.status_code, code_of(answer)) == (503, "not_recorded")
    assert desk.broker.sent == []
    assert desk.decisions.view.entries["c1"].answers == {}


async def test_streams_that_do_not_answer_leave_it_recorded_and_not_counted(desk: Desk) -> None:
    desk.decisions.wait_seconds = 0.0
    answer = await desk.decide()
    assert answer.status_code == 202
    assert answer.json() == {"decision_id": DECISION_ID, "state": "recorded"}


async def test_the_same_decision_again_hears_what_the_first_one_did(desk: Desk) -> None:
    desk.answered(refusal="own_change")
    first = await desk.decide()
    desk.broker.streams = lambda _event: None
    again = await desk.decide()
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert [event_id for _, _, _, event_id in desk.broker.sent] == [DECISION_ID] * 2


async def test_the_answer_waits_for_this_decision_and_no_other(desk: Desk) -> None:
    """Another's decision changes the change first; its answer is not ours."""

    def others(_event: ApprovalDecided) -> None:
        desk.decisions.view.status(ChangeStatus(change_id="c1", state="pending", at=T0, decision_id="another"))

    desk.broker.streams, desk.decisions.wait_seconds = others, 0.0
    assert (await desk.decide()).status_code == 202


async def test_without_an_id_of_its_own_a_decision_gets_one(desk: Desk) -> None:
    desk.answered()
    answer = await desk.http.post(
        "/v1/changes/c1/decisions",
        json={"decision": "approve", "commitment": COMMITMENT.hex()},
        headers={"authorization": "Bearer bob"},
    )
    assert answer.json()["decision_id"] == desk.broker.decided()[0].decision_id


async def test_an_unknown_change_is_refused_and_the_attempt_recorded(desk: Desk) -> None:
    answer = await desk.decide(change_id="nothing")
    assert (answer.status_code, code_of(answer)) == (404, "unknown_change")
    [act] = desk.broker.acts()
    assert (act.kind, act.actor) == ("decision_refused", BOB)
    assert json.loads(act.facts) == {"reason_code": "unknown_change", "decision": "approve"}
    assert desk.broker.decided() == []


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "over",
    [
        {"decision": "break-glass"},
        {"decision": "Approve"},
        {"decision": None},
        {"decision": ["approve"]},
        {"decision": {"approve": True}},
        {"commitment": None},
        {"commitment": "not hex"},
        {"commitment": 7},
        {"decision_id": "not a uuid"},
        {"decision_id": 7},
        {"decision_id": None},
        {"reason": 7},
        {"reason": "x" * (REASON_LIMIT + 1)},
        {"reason": "\ud800"},
    ],
    ids=str,
)
async def test_bad_input_is_told_and_writes_nothing(desk: Desk, over: dict[str, Any]) -> None:
    body = {"decision": "approve", "commitment": COMMITMENT.hex(), "decision_id": DECISION_ID} | over
    answer = await desk.post(json.dumps(body).encode())
    assert (answer.status_code, code_of(answer)) == (422, "bad_input")
    assert desk.broker.sent == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"approve",
        b"[]",
        b'"approve"',
        b"null",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"{" + b" " * BODY_LIMIT,
    ],
    ids=["empty", "word", "list", "text", "null", "no UTF-8", "deep list", "deep object", "large"],
)
async def test_a_body_that_is_no_decision_is_told(desk: Desk, content: bytes) -> None:
    answer = await desk.post(content)
    assert (answer.status_code, code_of(answer)) == (422, "bad_input")
    assert desk.broker.sent == []


async def test_a_body_without_a_length_is_read_up_to_the_limit_and_no_further(desk: Desk) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 64 * BODY_LIMIT:
            taken += 4096
            yield b" " * 4096

    answer = await desk.post(endless())
    assert (answer.status_code, code_of(answer)) == (422, "bad_input")
    assert taken <= 2 * BODY_LIMIT


# ---------------------------------------------------------------- health


async def test_it_is_ready_when_its_view_is_current(desk: Desk) -> None:
    assert (await desk.http.get("/healthz")).json() == {"status": "alive"}
    assert (await desk.http.get("/readyz")).status_code == 200
    desk.decisions.ready = lambda: False
    answer = await desk.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
