"""One request through ingress: who is let in, what is recorded before what, how long it is held, what is answered."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from schemaseal.contracts import codec
from schemaseal.contracts.events import ActObserved, Actor, ChangeIntercepted, ChangeStatus, Event, Person
from schemaseal.contracts.http import Headers, HttpRequest, HttpResponse
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import ACTS, INTERCEPTED, Topic
from schemaseal.core.errors import IdentityUnavailable, NotRecorded, TargetUnavailable
from schemaseal.core.settings import TargetSettings
from schemaseal.identity.verifier import Refusal, Verified
from schemaseal.ingress import answers
from schemaseal.ingress import hub as hub_module
from schemaseal.ingress.applier_client import Start
from schemaseal.ingress.denials import Denials
from schemaseal.ingress.gateway import Gateway, Site
from schemaseal.ingress.hub import StatusHub
from schemaseal.ingress.intake import PEER, Incoming
from schemaseal.ingress.receipts import Receipts
from schemaseal.ingress.recording import Recorder, Versions
from schemaseal.registry.base import Base
from schemaseal.sealing.box import key_ids, open_sealed, seal
from tests.unit.release_builder import BODY, JSON, REGISTER, T0, Keys

BOB = Actor(iss="https://issuer.test", sub="bob", name="Bob", kind="human")
BASE = Base("v1:id7", version=1, schema_id=7, schema_type="JSON", schema_text="{}")
GOOD: Headers = (("authorization", "Bearer good"),)
ANSWER = HttpResponse(200, (("content-type", "application/json"), ("server", "registry")), b'{"id":8}')


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


class FakeBroker:
    """Stands in for the producer. `failing`: no record is acknowledged; `on_change`: told of each change."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.sent: list[tuple[Topic, bytes | None, Event, str]] = []
        self.failing = False
        self.on_change: Callable[[ChangeIntercepted], None] = lambda _event: None
        self.change_sent = asyncio.Event()

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None:
        if self.failing:
            raise NotRecorded("no acknowledgement")
        self.steps.append(f"record {topic.name}")
        self.sent.append((topic, key, event, event_id))
        if isinstance(event, ChangeIntercepted):
            self.on_change(event)
            self.change_sent.set()

    def acts(self) -> list[ActObserved]:
        return [event for topic, _, event, _ in self.sent if topic is ACTS and isinstance(event, ActObserved)]

    def changes(self) -> list[ChangeIntercepted]:
        return [e for topic, _, e, _ in self.sent if topic is INTERCEPTED and isinstance(e, ChangeIntercepted)]


@dataclass
class FakeApplier:
    """Stands in for the applier: answers reads, and says where changes start."""

    steps: list[str]
    answer: HttpResponse | Exception = ANSWER
    begin: Start | Exception = field(default_factory=lambda: Start(None, BASE))
    asked: list[tuple[str, HttpRequest]] = field(default_factory=list)

    async def read(self, target: str, request: HttpRequest) -> HttpResponse:
        self.steps.append("read")
        self.asked.append((target, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def start(self, target: str, request: HttpRequest) -> Start:
        self.steps.append("start")
        self.asked.append((target, request))
        if isinstance(self.begin, Exception):
            raise self.begin
        return self.begin


class FakeVerifier:
    """Stands in for the identity provider's keys: `good` is Bob's token, `down` finds no provider."""

    async def verify(self, token: str, now: datetime) -> Verified | Refusal:
        if token == "down":
            raise IdentityUnavailable("no keys")
        return Verified(BOB, Person(iss=BOB.iss, sub="alice")) if token == "good" else Refusal("expired", "it is over")


class Room:
    """A gateway with its neighbours."""

    def __init__(self, keys: Keys, **site: Any) -> None:
        self.keys = keys
        self.steps: list[str] = []
        self.broker, self.applier = FakeBroker(self.steps), FakeApplier(self.steps)
        self.hub = StatusHub()
        self.ids = (f"id-{n}" for n in range(10_000))
        targets = (TargetSettings(name="registry", url="http://unused.test", mount="/r"),)
        fields: dict[str, Any] = {"targets": targets, "hold_default": 60, "hold_max": 60, "page_url": "https://p.test"}
        self.gateway = Gateway(
            site=Site(**(fields | site)),
            verifier=FakeVerifier(),
            applier=self.applier,
            recorder=Recorder(self.broker, keys.public, b"c" * 32, Versions("p", "d", "m")),
            hub=self.hub,
            receipts=Receipts(keys.signers["ingress"]),
            keys=keys.private["ingress"],
            clock=lambda: T0,
            new_id=lambda: next(self.ids),
            denial_rate=1000,
        )

    async def ask(
        self, method: str, path: str, query: str = "", headers: Headers = GOOD, body: bytes = b"", **over: Any
    ) -> HttpResponse:
        # What never ends would otherwise hang until the test's own limit.
        async with asyncio.timeout(20):
            return await self.gateway.answer(Incoming(method, path, query, headers, "peer:1", body), **over)

    async def register(self, *headers: tuple[str, str]) -> HttpResponse:
        return await self.ask("POST", "/r/subjects/orders/versions", headers=(*GOOD, *JSON, *headers), body=BODY)

    def denied(self) -> list[Any]:
        return [json.loads(act.facts)["reason_code"] for act in self.broker.acts() if act.kind == "denied"]

    def status(self, change_id: str, state: str, **over: Any) -> ChangeStatus:
        return ChangeStatus(change_id=change_id, state=state, at=T0, **over)

    def sealed_answer(self, answer: HttpResponse, *names: str) -> Any:
        recipients = self.keys.public.recipients(*(names or ("ingress", "streams", "custody")))
        return seal(answer.to_bytes(), recipients, name="response", media_type="x")

    def receipt(self, answer: HttpResponse) -> dict[str, Any]:
        """The receipt's payload, checked with the public key alone."""
        x = base64.urlsafe_b64encode(self.keys.signers["ingress"].public).rstrip(b"=").decode()
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
        opened = jws.deserialize_compact(dict(answer.headers)["schemaseal-receipt"], key, algorithms=["Ed25519"])
        payload: dict[str, Any] = json.loads(opened.payload)
        return payload


@pytest.fixture
async def room(keys: Keys) -> Room:
    return Room(keys)


def error_code(answer: HttpResponse) -> int:
    document = json.loads(answer.body)
    assert set(document) == {"error_code", "message"}
    return int(document["error_code"])


# ---------------------------------------------------------------- who


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ((), 401, "no_token"),
        ((("authorization", "Bearer bad"),), 401, "expired"),
        ((("authorization", "Bearer a b"),), 401, "malformed"),
        ((*GOOD, *GOOD), 401, "malformed"),
        ((("authorization", "Bearer down"),), 503, "identity_unavailable"),
    ],
)
async def test_nobody_unknown_gets_any_further(room: Room, headers: Headers, status: int, reason: str) -> None:
    answer = await room.ask("GET", "/r/subjects", headers=headers)
    assert answer.status == status
    assert ("www-authenticate" in dict(answer.headers)) is (status == 401)
    assert room.denied() == [reason]
    assert room.steps == ["record acts.observed"]


async def test_an_unverified_token_is_kept_for_custody_alone(room: Room) -> None:
    await room.ask("GET", "/r/subjects", headers=(("authorization", "Bearer bad"),))
    [act] = room.broker.acts()
    assert act.actor is None
    assert act.token is not None
    assert key_ids(act.token) == ["custody/1"]
    assert open_sealed(act.token, room.keys.private["custody"]) == b"bad"


async def test_a_token_as_basic_password_is_the_same_identity(room: Room) -> None:
    headers = (("authorization", "Basic " + base64.b64encode(b"anybody:good").decode()),)
    assert (await room.ask("GET", "/r/subjects", headers=headers)).status == 200
    [act] = room.broker.acts()
    assert (act.actor, act.initiator) == (BOB, Person(iss=BOB.iss, sub="alice"))


# ---------------------------------------------------------------- what and where

REFUSED: list[tuple[str, str, str, Headers, bytes, int, str]] = [
    ("GET", "/elsewhere/subjects", "", (), b"", 403, "unknown_path"),
    ("GET", "/r/admin", "", (), b"", 403, "unknown_path"),
    ("GET", "/r/subjects/../../metrics", "", (), b"", 403, "dot_segment"),
    ("GET", "/r/subjects/%2e%2E/config", "", (), b"", 403, "dot_segment"),
    ("GET", "/r/subjects/a%252Fb/versions", "", (), b"", 403, "double_encoding"),
    ("GET", "/r/subjects//versions", "", (), b"", 403, "empty_segment"),
    ("GET", "/r/subjects;x=1", "", (), b"", 403, "path_delimiter"),
    ("GET", "/r/subjects/a%00b/versions", "", (), b"", 403, "control_byte"),
    ("GET", "/r/subjects/a%ffb/versions", "", (), b"", 403, "bad_encoding"),
    ("GET", "/r/subjects/%zz/versions", "", (), b"", 403, "bad_escape"),
    ("PATCH", "/r/subjects", "", (), b"", 403, "unknown_method"),
    ("delete", "/r/subjects/orders", "", (), b"", 403, "unknown_method"),
    ("GET", "/r/subjects/orders/versions", "deleted=true&deleted=false", (), b"", 403, "repeated_query"),
    ("GET", "/r/subjects", "", (("x-http-method-override", "DELETE"),), b"", 403, "method_override"),
    ("GET", "/r/subjects", "", (("x-original-url", "/admin"),), b"", 403, "method_override"),
    ("GET", "/r/subjects", "_method=DELETE", (), b"", 403, "method_override"),
    ("GET", "/r/subjects", "", (), b"{}", 403, "unexpected_body"),
    ("POST", "/r/subjects/orders/versions", "", (*JSON, ("content-encoding", "gzip")), BODY, 415, "content_encoding"),
    ("POST", "/r/subjects/orders/versions", "", JSON, b'{"schema":"a","schema":"b"}', 422, "repeated_member"),
    ("POST", "/r/subjects/orders/versions", "", JSON, b"[" * 100_000, 422, "not_json"),
    ("POST", "/r/subjects/orders/versions", "", JSON, b"", 422, "no_body"),
]


@pytest.mark.parametrize(("method", "path", "query", "headers", "body", "status", "reason"), REFUSED)
async def test_what_has_no_one_meaning_is_refused_recorded_and_not_passed_on(
    room: Room, method: str, path: str, query: str, headers: Headers, body: bytes, status: int, reason: str
) -> None:
    answer = await room.ask(method, path, query, (*GOOD, *headers), body)
    assert (answer.status, room.denied()) == (status, [reason])
    assert error_code(answer) // 100 == status
    assert room.applier.asked == []
    [act] = room.broker.acts()
    assert act.actor == BOB
    assert act.request is not None
    kept = HttpRequest.from_bytes(open_sealed(act.request, room.keys.private["custody"]))
    assert (kept.method, kept.path, kept.query, kept.body) == (method, path, query, body)
    # Nothing a client chose freely stands in clear.
    assert json.loads(act.facts)["method"] == (method if method.isupper() else "other")
    assert path not in act.facts


async def test_a_body_over_the_limit_is_told_and_still_recorded(room: Room) -> None:
    answer = await room.ask("POST", "/r/subjects/orders/versions", headers=(), too_large=True)
    assert (answer.status, error_code(answer)) == (413, 41301)
    assert room.denied() == ["too_large"]
    [act] = room.broker.acts()
    assert act.request is not None
    assert HttpRequest.from_bytes(open_sealed(act.request, room.keys.private["custody"])).path.endswith("/versions")
    assert room.receipt(answer)["commitment"] == act.request.commitment.hex()


# ---------------------------------------------------------------- reads


async def test_a_read_is_recorded_before_it_is_answered(room: Room) -> None:
    answer = await room.ask("GET", "/r/subjects/orders/versions/latest")
    assert room.steps == ["read", "record acts.observed"]
    assert (answer.status, answer.body) == (200, ANSWER.body)
    assert dict(answer.headers).keys() == {"content-type", "schemaseal-act", "schemaseal-receipt"}
    [(target, request)] = room.applier.asked
    assert (target, request.path) == ("registry", "/subjects/orders/versions/latest")
    assert request.headers == ((PEER, "peer:1"),), "the token stays here"
    [act] = room.broker.acts()
    assert (act.act_id, act.kind, act.target, act.actor) == ("id-0", "read", "registry", BOB)
    assert act.request is not None
    assert act.response is not None
    assert act.token is not None
    assert key_ids(act.token) == ["streams/1", "custody/1"]
    assert HttpResponse.from_bytes(open_sealed(act.response, room.keys.private["custody"])) == ANSWER
    assert room.receipt(answer) == {
        "id": "id-0",
        "commitment": act.request.commitment.hex(),
        "at": "2026-11-23T09:00:00.000Z",
        "target": "registry",
    }


async def test_a_read_that_cannot_be_recorded_is_not_answered(room: Room) -> None:
    room.broker.failing = True
    answer = await room.ask("GET", "/r/subjects")
    assert (answer.status, error_code(answer)) == (503, 50301)
    assert ANSWER.body not in answer.body
    assert "schemaseal-receipt" not in dict(answer.headers)


async def test_a_redirect_of_the_target_is_not_passed_on(room: Room) -> None:
    room.applier.answer = HttpResponse(307, (("location", "http://elsewhere.test"),))
    answer = await room.ask("GET", "/r/subjects")
    assert answer.status == 502
    assert "location" not in dict(answer.headers)
    assert [act.kind for act in room.broker.acts()] == ["read"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_target_that_does_not_answer_is_told_and_recorded(room: Room, method: str) -> None:
    room.applier.answer = room.applier.begin = TargetUnavailable("gone")
    answer = await room.register() if method == "POST" else await room.ask("GET", "/r/subjects")
    assert (answer.status, room.denied()) == (502, ["target_unavailable"])
    assert room.broker.changes() == []


# ---------------------------------------------------------------- changes


async def test_a_change_that_cannot_be_recorded_is_not_held_and_not_forwarded(room: Room) -> None:
    room.broker.failing = True
    answer = await room.register()
    assert (answer.status, error_code(answer)) == (503, 50301)
    assert room.hub.waiting == 0
    assert [step for step in room.steps if step != "start"] == []


async def test_a_change_is_recorded_as_it_came_with_what_it_starts_from(room: Room) -> None:
    room.broker.on_change = lambda event: room.hub.tell(room.status(event.change_id, "denied"))
    await room.register()
    assert room.steps == ["start", "record changes.intercepted"]
    [change] = room.broker.changes()
    assert (change.change_id, change.target, change.base_identity) == ("id-0", "registry", "v1:id7")
    assert (change.actor, change.initiator) == (BOB, Person(iss=BOB.iss, sub="alice"))
    assert (change.policy_sha256, change.detectors, change.mask_key_id) == ("p", "d", "m")
    assert change.base is not None
    assert change.token is not None
    assert key_ids(change.request) == ["streams/1", "applier/1", "custody/1"]
    assert key_ids(change.token) == ["streams/1", "custody/1"], "the applier never sees who could be impersonated"
    kept = HttpRequest.from_bytes(open_sealed(change.request, room.keys.private["applier"]))
    assert (kept.method, kept.path, kept.body) == (REGISTER.method, REGISTER.path, REGISTER.body)
    assert Base.from_bytes(open_sealed(change.base, room.keys.private["streams"])) == BASE


async def test_a_repeated_registration_is_recorded_and_answered_without_a_change(room: Room) -> None:
    room.applier.begin = Start(ANSWER, None)
    answer = await room.register()
    assert (answer.status, answer.body) == (200, ANSWER.body)
    assert [act.kind for act in room.broker.acts()] == ["existing"]
    assert room.broker.changes() == []


async def test_a_low_risk_change_gets_the_registrys_own_answer(room: Room) -> None:
    def streams(event: ChangeIntercepted) -> None:
        room.hub.tell(room.status(event.change_id, "applied", answer=room.sealed_answer(ANSWER)))

    room.broker.on_change = streams
    answer = await room.register()
    assert (answer.status, answer.body) == (200, ANSWER.body)
    headers = dict(answer.headers)
    assert headers["schemaseal-change"] == "id-0"
    assert "server" not in headers
    assert room.receipt(answer) == {
        "id": "id-0",
        "commitment": room.broker.changes()[0].request.commitment.hex(),
        "at": "2026-11-23T09:00:00.000Z",
        "target": "registry",
    }


async def test_an_answer_we_cannot_open_is_told_as_lost_and_never_as_success(room: Room) -> None:
    def streams(event: ChangeIntercepted) -> None:
        room.hub.tell(room.status(event.change_id, "applied", answer=room.sealed_answer(ANSWER, "custody")))

    room.broker.on_change = streams
    answer = await room.register()
    assert (answer.status, error_code(answer)) == (424, 42403)


async def test_a_held_change_is_answered_when_people_decide(room: Room) -> None:
    asked = asyncio.create_task(room.register())
    await asyncio.wait_for(room.broker.change_sent.wait(), 5)
    for state in ("pending", "approved", "released", "applying"):
        room.hub.tell(room.status("id-0", state, required=2))
        await asyncio.sleep(0)
        assert not asked.done()
    room.hub.tell(room.status("id-0", "applied", answer=room.sealed_answer(ANSWER)))
    assert (await asked).body == ANSWER.body
    assert room.hub.waiting == 0


@pytest.mark.parametrize("state", sorted(answers.FINAL - {"applied"}))
async def test_every_end_ends_the_wait(room: Room, state: str) -> None:
    room.broker.on_change = lambda event: room.hub.tell(room.status(event.change_id, state, reason="ticket 7"))
    answer = await room.register()
    assert answer.status in (403, 424)
    assert "ticket 7" in json.loads(answer.body)["message"]


async def test_nobody_decides_in_time_423(room: Room) -> None:
    room.broker.on_change = lambda event: room.hub.tell(
        room.status(event.change_id, "pending", required=2, approvals=1, groups=("owners",), rule="r1")
    )
    answer = await room.register(("prefer", "wait=0"))
    assert (answer.status, error_code(answer)) == (423, 42300)
    message = json.loads(answer.body)["message"]
    for part in ("id-0", "1 of 2", "owners", "r1", "https://p.test/changes/id-0"):
        assert part in message
    assert dict(answer.headers)["schemaseal-change"] == "id-0"
    assert room.receipt(answer)["id"] == "id-0"
    assert room.hub.waiting == 0


async def test_respond_async_gets_202_and_then_the_status(room: Room) -> None:
    room.broker.on_change = lambda event: room.hub.tell(
        room.status(event.change_id, "pending", required=2, commitment=b"\x01\xff")
    )
    answer = await room.register(("prefer", "respond-async"))
    assert answer.status == 202
    location = dict(answer.headers)["location"]
    room.broker.failing = True
    assert (await room.ask("GET", location)).status == 503
    room.broker.failing = False
    shown = await room.ask("GET", location)
    document = json.loads(shown.body)
    assert (shown.status, document["change_id"], document["state"]) == (200, "id-0", "pending")
    assert document["commitment"] == "01ff"
    assert room.receipt(shown)["target"] is None
    assert room.broker.acts()[-1].kind == "read"
    assert (await room.ask("GET", location, headers=())).status == 401
    assert (await room.ask("DELETE", location)).status == 404
    assert (await room.ask("GET", location + "x")).status == 404


async def test_machines_get_their_grace_also_when_the_client_waits_for_nobody(room: Room) -> None:
    asked = asyncio.create_task(room.register(("prefer", "wait=0")))
    await asyncio.wait_for(room.broker.change_sent.wait(), 5)
    room.hub.tell(room.status("id-0", "released"))
    await asyncio.sleep(0)
    assert not asked.done()
    room.hub.tell(room.status("id-0", "applied", answer=room.sealed_answer(ANSWER)))
    assert (await asked).status == 200


async def test_streams_that_say_nothing_leave_a_recorded_change_and_no_promise(keys: Keys) -> None:
    room = Room(keys, grace=0.0)
    answer = await room.register(("prefer", "wait=0"))
    assert answer.status == 423
    assert "being assessed" in json.loads(answer.body)["message"]
    assert len(room.broker.changes()) == 1


async def test_the_wish_to_wait_is_capped(keys: Keys) -> None:
    room = Room(keys, hold_max=0.0)
    room.broker.on_change = lambda event: room.hub.tell(room.status(event.change_id, "pending"))
    assert (await room.register(("prefer", "wait=999999"))).status == 423


async def test_a_repeat_attaches_and_hears_of_the_change_it_belongs_to(room: Room) -> None:
    def streams(event: ChangeIntercepted) -> None:
        room.hub.tell(room.status("first", "applied", waiters=(event.change_id,), answer=room.sealed_answer(ANSWER)))

    room.broker.on_change = streams
    answer = await room.register()
    headers = dict(answer.headers)
    assert (answer.status, answer.body) == (200, ANSWER.body)
    assert (headers["schemaseal-change"], headers["schemaseal-request"]) == ("first", "id-0")
    assert room.receipt(answer)["id"] == "id-0"
    assert room.hub.latest("first") == room.hub.latest("id-0")


async def test_the_same_meaning_from_the_same_identity_has_one_attach_key(room: Room) -> None:
    room.broker.on_change = lambda event: room.hub.tell(room.status(event.change_id, "denied"))
    path = "/r/subjects/orders/versions"
    spaced = BODY.replace(b", ", b" ,  ")
    other = BODY.replace(b"object", b"string")
    assert spaced != BODY != other
    for body, headers in ((BODY, ()), (spaced, (("user-agent", "x"),)), (other, ())):
        await room.ask("POST", path, headers=(*GOOD, *JSON, *headers), body=body)
    await room.ask("POST", path.replace("orders", "others"), headers=(*GOOD, *JSON), body=BODY)
    first, again, payload, subject = room.broker.changes()
    assert first.attach_key == again.attach_key
    assert len({first.attach_key, payload.attach_key, subject.attach_key}) == 3
    topic_keys = [key for _, key, _, _ in room.broker.sent]
    assert topic_keys[0] == topic_keys[1] == topic_keys[2] != topic_keys[3]
    assert all(key is not None and b"orders" not in key for key in topic_keys)


async def test_a_client_that_leaves_is_no_longer_waited_for(room: Room) -> None:
    asked = asyncio.create_task(room.register())
    await asyncio.wait_for(room.broker.change_sent.wait(), 5)
    assert room.hub.waiting == 1
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert room.hub.waiting == 0


# ---------------------------------------------------------------- the hub


def test_the_hub_keeps_the_latest_status_of_change_and_waiters_and_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "_KEPT", 3)
    hub = StatusHub()
    pending = ChangeStatus(change_id="a", state="pending", at=T0, waiters=("w",))
    hub.tell(pending)
    assert hub.latest("w") == hub.latest("a") == pending
    for name in ("b", "c"):
        hub.tell(ChangeStatus(change_id=name, state="pending", at=T0))
    assert hub.latest("a") is None, "the oldest goes first"
    hub.tell(replace(pending, change_id="w", waiters=(), state="applied"))
    hub.tell(ChangeStatus(change_id="d", state="pending", at=T0))
    kept = hub.latest("w")
    assert kept is not None, "a new state makes it young again"
    assert kept.state == "applied"
    assert hub.latest("b") is None


async def test_the_hub_passes_over_what_it_cannot_read() -> None:
    hub = StatusHub()
    status = ChangeStatus(change_id="a", state="applied", at=T0)

    async def records() -> AsyncIterator[Record]:
        for offset, value in enumerate((b"?", codec.encode(status))):
            yield Record("changes.status", 0, offset, None, value, T0)

    await hub.follow(records())
    assert hub.latest("a") == status


# ---------------------------------------------------------------- denials


class Ledger:
    """What a flood of denials wrote; the second ends when the test says."""

    def __init__(self) -> None:
        self.singles: list[int] = []
        self.counts: list[Counter[str]] = []
        self.now = 5.0
        self.second_over = asyncio.Event()
        self.failing = False
        self.denials = Denials(self.count, rate=3, sleep=self.sleep, now=lambda: self.now)

    async def sleep(self, _seconds: float) -> None:
        await self.second_over.wait()

    async def count(self, reasons: Counter[str]) -> None:
        if self.failing:
            raise NotRecorded("no acknowledgement")
        self.counts.append(reasons)

    def deny(self, number: int, reason: str = "no_token") -> asyncio.Task[None]:
        async def single() -> None:
            if self.failing:
                raise NotRecorded("no acknowledgement")
            self.singles.append(number)

        async def record() -> None:
            await self.denials.record(reason, single)

        return asyncio.create_task(record())


async def _settle() -> None:
    """Until everything that can go on without the test has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_beyond_the_rate_denials_are_counted_and_none_is_lost() -> None:
    ledger = Ledger()
    tasks = [ledger.deny(n, "no_token" if n % 2 else "expired") for n in range(10)]
    await _settle()
    assert ledger.singles == [0, 1, 2]
    assert [task.done() for task in tasks] == [True] * 3 + [False] * 7, "nobody is told before it is durable"
    ledger.second_over.set()
    await asyncio.gather(*tasks)
    assert ledger.counts == [Counter(no_token=4, expired=3)]
    assert len(ledger.singles) + sum(count.total() for count in ledger.counts) == len(tasks)
    ledger.now = 6.0
    await ledger.deny(10)
    assert ledger.singles[-1] == 10, "a new second has room again"


async def test_a_count_that_cannot_be_recorded_fails_all_it_stands_for() -> None:
    ledger = Ledger()
    tasks = [ledger.deny(n) for n in range(6)]
    await _settle()
    ledger.failing = True
    ledger.second_over.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:3] == [None] * 3
    assert [type(result) for result in results[3:]] == [NotRecorded] * 3


async def test_a_flood_is_answered_and_accounted_for(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's own wiring: as many answers as singles and counted ones together."""
    room = Room(keys)
    over = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await over.wait()

    denials = Denials(room.gateway._count_denials, rate=2, sleep=sleep, now=lambda: 1.0)
    monkeypatch.setattr(room.gateway, "_denials", denials)
    asked = [asyncio.create_task(room.ask("GET", "/r/subjects", headers=())) for _ in range(7)]
    await _settle()
    assert len(room.broker.acts()) == 2
    over.set()
    assert {answer.status for answer in await asyncio.gather(*asked)} == {401}
    assert room.denied() == ["no_token", "no_token", "aggregated"]
    facts = json.loads(room.broker.acts()[-1].facts)
    assert (facts["count"], facts["reasons"]) == (5, {"no_token": 5})


async def test_a_denial_that_cannot_be_recorded_is_not_told(room: Room) -> None:
    room.broker.failing = True
    answer = await room.ask("GET", "/r/subjects", headers=())
    assert (answer.status, error_code(answer)) == (503, 50301)
