"""From release to outcome: the order of journal and send, what a crash leaves, lost answers, who can read what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from schemaseal.applier import consumer as consumer_module
from schemaseal.applier.checks import ReleaseChecker
from schemaseal.applier.consumer import POISON_LIMIT, ReleaseConsumer, TooManyPoisoned
from schemaseal.applier.credentials import FixedHeader
from schemaseal.applier.journal import Journal, Progress
from schemaseal.applier.sender import Sender, TargetPort
from schemaseal.contracts import codec
from schemaseal.contracts.events import ActObserved, ChangeApplying, ChangeReleased, Event, Quarantined
from schemaseal.contracts.http import HttpRequest, HttpResponse
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import ACTS, APPLYING, QUARANTINE_APPLIER, Topic
from schemaseal.core.errors import NotRecorded, TargetUnavailable
from schemaseal.registry.base import Base
from schemaseal.registry.confluent_target import ConfluentTarget
from schemaseal.registry.operation import Operation
from schemaseal.registry.target import Happened, NotHappened, NotSent, Probe, ReadBack, Unknown, Wire
from schemaseal.sealing.box import key_ids, open_sealed
from tests.unit.release_builder import REGISTER, SCHEMA, T0, Keys, Releases, record_of

BASE = Base("v1:id7", version=1, schema_id=7, schema_type="JSON", schema_text="{}")
NEXT = Base("v2:id8", version=2, schema_id=8, schema_type="JSON", schema_text=SCHEMA)
ANSWER = HttpResponse(200, (("content-type", "application/json"),), b'{"id":8}')
DELETE = HttpRequest("DELETE", "/subjects/orders")
SEND_TIMEOUT = 30.0
Behaviour = HttpResponse | Exception


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


class FakeTopics:
    """Stands in for the broker. Faults in pairs: `failing[n] = True` stores the nth record and fails."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.sent: list[tuple[Topic, bytes | None, Event, str]] = []
        self.failing: dict[int, bool] = {}
        self._count = 0

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None:
        stored = self.failing.get(self._count)
        self._count += 1
        if stored is not False:
            self.sent.append((topic, key, event, event_id))
            self.steps.append(event.phase if isinstance(event, ChangeApplying) else type(event).__name__)
        if stored is not None:
            raise NotRecorded("no acknowledgement")

    def records(self) -> list[Record]:
        """The journal topic as a new owner reads it."""
        events = [event for topic, _, event, _ in self.sent if topic is APPLYING]
        return [Record(APPLYING.name, 0, n, b"key", codec.encode(event), T0) for n, event in enumerate(events)]

    def journal(self) -> list[ChangeApplying]:
        return [event for _, _, event, _ in self.sent if isinstance(event, ChangeApplying)]


@dataclass
class FakeTarget:
    """Stands in for a registry: holds one subject, and does what `behaviours` say, one a send."""

    steps: list[str]
    behaviours: list[Behaviour] = field(default_factory=list)
    base: Base = BASE
    takes_it: bool = True
    "whether a send that fails with an exception took effect all the same"
    probes: list[Probe | Exception] = field(default_factory=list)
    read_back_fails: bool = False
    sent: list[HttpRequest] = field(default_factory=list)

    async def read_base(self, operation: Operation) -> Base:
        self.steps.append("base")
        return self.base

    async def send(self, operation: Operation, request: HttpRequest) -> HttpResponse:
        self.steps.append("send")
        self.sent.append(request)
        behaviour = self.behaviours.pop(0) if self.behaviours else ANSWER
        if isinstance(behaviour, Exception):
            if self.takes_it and not isinstance(behaviour, NotSent):
                self.base = NEXT
            raise behaviour
        if behaviour.status < 300:
            self.base = NEXT
        return behaviour

    async def read_back(self, operation: Operation, before: Base, response: HttpResponse | None) -> ReadBack:
        if self.read_back_fails:
            raise TargetUnavailable("gone")
        return ReadBack(self.base)

    async def probe(self, operation: Operation, base_identity: str) -> Probe:
        self.steps.append("probe")
        if self.probes:
            told = self.probes.pop(0)
            if isinstance(told, Exception):
                raise told
            return told
        return Happened(ANSWER) if self.base is NEXT else NotHappened()


class World:
    """What outlives the applier's process: topic, target and time. `start` begins a process."""

    def __init__(self, keys: Keys) -> None:
        self.keys, self.releases = keys, Releases(keys)
        self.steps: list[str] = []
        self.topics = FakeTopics(self.steps)
        self.target = FakeTarget(self.steps)
        self.targets: dict[str, TargetPort] = {"registry": self.target}
        self.now = T0
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def start(self) -> Sender:
        """A new owner of the partition: its journal is what the topic says."""
        journal = Journal()
        journal.rebuild(0, self.topics.records())

        async def reread(partition: int) -> None:
            journal.rebuild(partition, self.topics.records())

        return Sender(
            checker=ReleaseChecker(self.keys.public, self.keys.private["applier"], {"registry": "confluent"}),
            targets=self.targets,
            producer=self.topics,
            public=self.keys.public,
            journal=journal,
            clock=self.clock,
            send_timeout_seconds=SEND_TIMEOUT,
            reread=reread,
            sleep=self.sleep,
        )

    async def handle(self, request: HttpRequest = REGISTER, **over: Any) -> list[ChangeApplying]:
        """One process deals with one release. The journal afterwards."""
        released = self.released(request, **over)
        await self.start().handle(record_of(released), released)
        return self.topics.journal()

    def released(self, request: HttpRequest = REGISTER, **over: Any) -> ChangeReleased:
        return self.releases.signed(self.releases.order(request, **over))

    def opened(self, event: ChangeApplying, who: str) -> HttpResponse:
        assert event.response is not None
        return HttpResponse.from_bytes(open_sealed(event.response, self.keys.private[who]))


@pytest.fixture
def world(keys: Keys) -> World:
    return World(keys)


def ends(journal: Sequence[ChangeApplying]) -> list[str | None]:
    return [event.outcome for event in journal if event.phase == "outcome"]


# ---------------------------------------------------------------- the straight way


async def test_it_journals_before_and_after_it_sends(world: World) -> None:
    journal = await world.handle()
    assert world.steps == ["base", "sending", "send", "outcome"]
    assert world.target.sent == [REGISTER]
    sending, outcome = journal
    assert (sending.outcome, sending.response) == (None, None)
    assert (outcome.outcome, outcome.status, outcome.base_after_identity) == ("applied", 200, "v2:id8")
    assert (outcome.finding, outcome.reason) == (None, None)
    assert {(event.change_id, event.release_id) for event in journal} == {("change-1", "release-1")}
    assert {key for _, key, _, _ in world.topics.sent} == {b"key"}
    assert len({event_id for _, _, _, event_id in world.topics.sent}) == 2


async def test_the_answer_is_sealed_to_those_who_may_read_it_and_nobody_else(world: World) -> None:
    outcome = (await world.handle())[-1]
    assert outcome.response is not None
    assert outcome.base_after is not None
    assert key_ids(outcome.response) == ["ingress/1", "streams/1", "custody/1"]
    assert world.opened(outcome, "ingress") == ANSWER
    assert key_ids(outcome.base_after) == ["streams/1", "applier/1", "custody/1"]
    assert Base.from_bytes(open_sealed(outcome.base_after, world.keys.private["streams"])) == NEXT
    assert SCHEMA.encode() not in codec.encode(outcome)


async def test_the_same_release_again_sends_nothing(world: World) -> None:
    released = world.released()
    for _ in range(2):
        await world.start().handle(record_of(released), released)
    assert world.steps == ["base", "sending", "send", "outcome"]


async def test_what_cannot_be_read_back_is_a_finding_and_still_applied(world: World) -> None:
    world.target.read_back_fails = True
    outcome = (await world.handle())[-1]
    assert (outcome.outcome, outcome.finding, outcome.base_after) == ("applied", "not_read_back", None)


# ---------------------------------------------------------------- refused before anything is sent


async def test_a_forged_release_is_an_act_and_closes_no_change(world: World) -> None:
    released = replace(world.released(), signature=b"\0" * 64)
    await world.start().handle(record_of(released, offset=4), released)
    [(topic, _, act, event_id)] = world.topics.sent
    assert topic is ACTS
    assert isinstance(act, ActObserved)
    assert (act.kind, act.observer, act.target, act.change_id) == ("release_refused", "applier", None, None)
    assert json.loads(act.facts) == {
        "reason_code": "bad_signature",
        "source": {"topic": "changes.released", "partition": 0, "offset": 4},
    }
    assert event_id == act.act_id
    assert world.target.sent == []


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"commitment": b"x" * 32}, "other_commitment"),
        ({"target": "elsewhere"}, "unknown_target"),
        ({"operation": "delete_subject"}, "other_operation"),
    ],
)
async def test_a_signed_release_that_is_wrong_fails_its_change(world: World, over: dict[str, Any], reason: str) -> None:
    [outcome] = await world.handle(**over)
    assert (outcome.phase, outcome.outcome, outcome.reason) == ("outcome", "failed", reason)
    assert world.steps == ["ActObserved", "outcome"]


async def test_an_unclassified_request_fails_its_change(world: World) -> None:
    [outcome] = await world.handle(HttpRequest("POST", "/nowhere"))
    assert (outcome.outcome, outcome.reason) == ("failed", "not_a_change")
    assert "send" not in world.steps


async def test_a_passed_deadline_lapses(world: World) -> None:
    [outcome] = await world.handle(deadline=T0)
    assert (outcome.outcome, outcome.reason) == ("lapsed", "lapsed")
    assert world.steps == ["outcome"]


async def test_a_moved_base_sends_nothing_and_tells_the_new_one(world: World) -> None:
    world.target.base = NEXT
    [outcome] = await world.handle()
    assert (outcome.outcome, outcome.base_after_identity) == ("base_moved", "v2:id8")
    assert world.target.sent == []


async def test_a_deadline_that_passes_while_the_target_cannot_be_reached(world: World) -> None:
    world.target.behaviours = [NotSent("no connection") for _ in range(200)]
    journal = await world.handle(deadline=T0 + timedelta(seconds=20))
    assert ends(journal) == ["lapsed"]
    assert journal[-1].reason == "not_applied_in_time"
    assert world.now < T0 + timedelta(seconds=26)
    assert max(world.slept) <= 5.0


# ---------------------------------------------------------------- what a crash leaves


async def _run_until(world: World, released: ChangeReleased) -> None:
    with pytest.raises((Crash, NotRecorded)):
        await world.start().handle(record_of(released), released)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_nothing_is_sent_when_the_journal_has_no_acknowledgement(world: World, *, stored: bool) -> None:
    world.topics.failing = {0: stored}
    released = world.released()
    await _run_until(world, released)
    assert world.target.sent == []
    # The next owner: whoever journalled "sending" may still be sending, so it waits and asks first.
    await world.start().handle(record_of(released), released)
    assert len(world.target.sent) == 1
    assert ends(world.topics.journal()) == ["applied"]
    assert world.slept == ([SEND_TIMEOUT] if stored else [])
    assert ("probe" in world.steps) is stored


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_an_outcome_without_acknowledgement_is_found_out_and_not_sent_again(
    world: World, *, stored: bool
) -> None:
    world.topics.failing = {1: stored}
    released = world.released()
    await _run_until(world, released)
    await world.start().handle(record_of(released), released)
    assert world.target.sent == [REGISTER]
    assert ends(world.topics.journal()) == ["applied"]
    assert world.opened(world.topics.journal()[-1], "ingress") == ANSWER


@pytest.mark.parametrize(
    ("point", "sent_before", "left"),
    [
        ("applier.before_sending", 0, []),
        ("applier.after_sending", 0, ["sending"]),
        ("applier.after_send", 1, ["sending"]),
        ("applier.after_outcome", 1, ["sending", "outcome"]),
    ],
)
async def test_a_crash_after_each_point_leaves_what_is_said_and_applies_once(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str, sent_before: int, left: list[str]
) -> None:
    passed: list[str] = []

    def crash(name: str) -> None:
        passed.append(name)
        if name == point:
            raise Crash

    released = world.released()
    with monkeypatch.context() as patched:
        patched.setattr("schemaseal.applier.sender.crash_point", crash)
        await _run_until(world, released)
    assert passed[-1] == point
    assert len(world.target.sent) == sent_before
    assert [event.phase for event in world.topics.journal()] == left

    await world.start().handle(record_of(released), released)
    assert len(world.target.sent) == 1
    assert ends(world.topics.journal()) == ["applied"]
    ids = [(event.phase, event_id) for _, _, event, event_id in world.topics.sent if isinstance(event, ChangeApplying)]
    assert len(set(ids)) == 2, "a step that is repeated repeats its id"


async def test_what_the_last_owner_finished_meanwhile_is_left_alone(world: World) -> None:
    """A slow owner that was thought dead: its outcome arrives while the new one waits."""
    world.topics.failing = {1: False}
    released = world.released()
    await _run_until(world, released)
    sender = world.start()
    closed = replace(world.topics.journal()[0], phase="outcome", outcome="applied", status=200)
    await world.topics.send(APPLYING, b"key", closed, event_id="late")
    before = list(world.steps)
    await sender.handle(record_of(released), released)
    assert world.steps == before
    assert world.slept == [SEND_TIMEOUT]


async def test_a_send_begun_in_time_is_asked_for_after_the_deadline(world: World) -> None:
    world.topics.failing = {1: False}
    released = world.released(deadline=T0 + timedelta(seconds=10))
    await _run_until(world, released)
    assert ends(world.topics.journal()) == []
    await world.start().handle(record_of(released), released)
    assert world.now > T0 + timedelta(seconds=10)
    assert ends(world.topics.journal()) == ["applied"]
    assert len(world.target.sent) == 1


async def test_a_send_never_made_lapses_after_the_deadline(world: World) -> None:
    world.topics.failing = {0: True}
    released = world.released(deadline=T0 + timedelta(seconds=10))
    await _run_until(world, released)
    world.now = T0 + timedelta(seconds=11)
    await world.start().handle(record_of(released), released)
    assert ends(world.topics.journal()) == ["lapsed"]
    assert world.target.sent == []


# ---------------------------------------------------------------- lost answers


async def test_a_lost_answer_is_looked_up(world: World) -> None:
    world.target.behaviours = [TargetUnavailable("time-out")]
    journal = await world.handle()
    assert ends(journal) == ["applied"]
    assert len(world.target.sent) == 1
    assert world.steps.index("probe") > world.steps.index("send")
    assert world.opened(journal[-1], "ingress") == ANSWER


async def test_a_lost_send_of_an_idempotent_change_is_made_again(world: World) -> None:
    world.target.behaviours, world.target.takes_it = [TargetUnavailable("time-out")], False
    journal = await world.handle()
    assert ends(journal) == ["applied"]
    assert [step for step in world.steps if step in ("sending", "send")] == ["sending", "send"] * 2


async def test_a_lost_send_that_may_still_land_is_not_made_again(world: World) -> None:
    """A deletion is not idempotent: a second one, after a first that was only slow, would delete more."""
    world.target.behaviours, world.target.takes_it = [TargetUnavailable("time-out")], False
    journal = await world.handle(DELETE, operation="delete_subject")
    assert (journal[-1].outcome, journal[-1].reason) == ("unresolved", "answer_lost")
    assert len(world.target.sent) == 1


async def test_where_nothing_can_tell_a_person_decides(world: World) -> None:
    world.target.behaviours = [TargetUnavailable("time-out")]
    world.target.probes = [Unknown()] * 4
    journal = await world.handle()
    assert ends(journal) == ["unresolved"]
    assert len(world.target.sent) == 1
    released = world.released()
    await world.start().handle(record_of(released), released)
    assert ends(world.topics.journal()) == ["unresolved"], "nobody reopens it but people"
    assert len(world.target.sent) == 1


async def test_a_target_that_stays_away_is_asked_until_the_deadline(world: World) -> None:
    world.target.behaviours = [TargetUnavailable("time-out")]
    world.target.probes = [TargetUnavailable("gone") for _ in range(500)]
    journal = await world.handle(deadline=T0 + timedelta(seconds=30))
    assert ends(journal) == ["unresolved"]
    assert T0 + timedelta(seconds=30) <= world.now < T0 + timedelta(seconds=60)


async def test_a_send_that_lands_late_is_not_taken_for_somebody_elses(world: World) -> None:
    """No answer, not there when asked, sent again: by then the first one has landed and moved the base."""
    world.target.behaviours, world.target.takes_it = [TargetUnavailable("time-out")], True
    world.target.probes = [NotHappened()] * 4
    journal = await world.handle()
    assert ends(journal) == ["applied"]
    assert len(world.target.sent) == 1


@pytest.mark.parametrize("status", [408, 429])
async def test_told_to_come_back_it_does(world: World, status: int) -> None:
    world.target.behaviours = [HttpResponse(status), ANSWER]
    assert ends(await world.handle()) == ["applied"]
    assert world.slept == [0.2]


@pytest.mark.parametrize("status", [302, 409, 422])
async def test_a_refusal_of_the_target_is_final_and_told(world: World, status: int) -> None:
    refusal = HttpResponse(status, (), b'{"error_code": 1}')
    world.target.behaviours = [refusal]
    outcome = (await world.handle())[-1]
    assert (outcome.outcome, outcome.status) == ("failed", status)
    assert world.opened(outcome, "ingress") == refusal


@pytest.mark.parametrize("status", [401, 403])
async def test_our_own_refused_credential_is_no_answer_for_a_client(world: World, status: int) -> None:
    world.target.behaviours = [HttpResponse(status, (), b"internal realm")]
    outcome = (await world.handle())[-1]
    assert (outcome.outcome, outcome.reason, outcome.response) == ("failed", "credential_refused", None)


async def test_an_error_of_the_target_is_looked_into(world: World) -> None:
    world.target.behaviours = [HttpResponse(500)]
    assert ends(await world.handle()) == ["failed"]
    assert "probe" in world.steps


async def test_an_error_of_the_target_that_took_it_all_the_same(world: World) -> None:
    world.target.behaviours = [HttpResponse(504)]
    world.target.probes = [Happened(ANSWER)]
    assert ends(await world.handle()) == ["applied"]


# ---------------------------------------------------------------- what goes over the wire


class WireRecorder:
    """Stands in for a registry's port: keeps every request it gets."""

    def __init__(self, change: Callable[[], httpx.Response]) -> None:
        self.seen: list[httpx.Request] = []
        self._change = change
        self.applied = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if request.method == "POST":
            self.applied = True
            return self._change()
        document: Any = {"version": 1, "id": 7, "schema": "{}", "schemaType": "JSON"}
        if self.applied:
            document = {"version": 2, "id": 8, "schema": SCHEMA, "schemaType": "JSON"}
        return httpx.Response(200, json=document)

    @property
    def changes(self) -> list[httpx.Request]:
        return [request for request in self.seen if request.method == "POST"]


async def _over_the_wire(world: World, registry: WireRecorder, request: HttpRequest) -> list[ChangeApplying]:
    # Following is the client's default here, so that only our own choice keeps it from that.
    async with httpx.AsyncClient(transport=httpx.MockTransport(registry), follow_redirects=True) as http:
        wire = Wire("http://registry.test", http, read=FixedHeader("Bearer read"), write=FixedHeader("Bearer write"))
        world.targets["registry"] = ConfluentTarget(wire)
        return await world.handle(request)


async def test_the_stored_copy_is_sent_with_our_credential_and_without_the_users(world: World) -> None:
    registry = WireRecorder(lambda: httpx.Response(200, json={"id": 8}))
    noisy = replace(
        REGISTER,
        headers=(
            *REGISTER.headers,
            ("authorization", "Bearer users-own"),
            ("cookie", "session=users-own"),
            ("x-forwarded-for", "users-own"),
            ("schemaseal-reason", "users-own"),
        ),
    )
    journal = await _over_the_wire(world, registry, noisy)
    assert ends(journal) == ["applied"]
    assert journal[-1].finding is None
    [change] = registry.changes
    assert change.content == REGISTER.body
    assert str(change.url) == "http://registry.test/subjects/orders/versions"
    assert change.headers.get_list("authorization") == ["Bearer write"]
    for request in registry.seen:
        assert "users-own" not in repr(request.headers.raw)
        if request is not change:
            assert request.headers.get_list("authorization") == ["Bearer read"]


async def test_a_redirect_is_not_followed(world: World) -> None:
    registry = WireRecorder(lambda: httpx.Response(307, headers={"location": "http://elsewhere.test/taken"}))
    journal = await _over_the_wire(world, registry, REGISTER)
    assert {request.url.host for request in registry.seen} == {"registry.test"}
    assert len(registry.changes) == 1
    assert (journal[-1].outcome, journal[-1].status) == ("failed", 307)
    assert "location" not in dict(world.opened(journal[-1], "ingress").headers)


# ---------------------------------------------------------------- one subject, one send at a time


class FakeGroup:
    """Stands in for the group consumer: hands out its records and then waits."""

    records: Sequence[Record] = ()

    def __init__(self, *_args: Any, on_assigned: Callable[[list[tuple[str, int]]], None], **_over: Any) -> None:
        self._on_assigned = on_assigned
        self.commits: list[tuple[int, int]] = []

    async def __aiter__(self) -> AsyncIterator[Record]:
        self._on_assigned([("changes.released", 0)])
        for record in self.records:
            yield record
        await asyncio.Event().wait()

    async def commit(self, records: list[Record]) -> None:
        self.commits += [(record.partition, record.offset) for record in records]

    async def close(self) -> None:
        self.commits.append((-1, -1))


class Gate:
    """Stands in for the sender: each release waits until the test lets it go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.let: dict[int, asyncio.Event] = {n: asyncio.Event() for n in range(4)}
        self.changed = asyncio.Condition()

    async def handle(self, record: Record, released: ChangeReleased) -> None:
        async with self.changed:
            self.begun.append(record.offset)
            self.changed.notify_all()
        await self.let[record.offset].wait()
        async with self.changed:
            self.ended.append(record.offset)
            self.changed.notify_all()

    async def until(self, there: Callable[[], bool]) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(there)


def _consumer(world: World, monkeypatch: pytest.MonkeyPatch, records: Sequence[Record]) -> ReleaseConsumer:
    monkeypatch.setattr(consumer_module, "GroupConsumer", FakeGroup)
    monkeypatch.setattr(FakeGroup, "records", records)
    monkeypatch.setattr(consumer_module, "read_to_end", lambda *_args, **_over: [])
    return ReleaseConsumer(
        bootstrap="nowhere",
        instance_id="applier-0",
        session_timeout_ms=6000,
        message_limit=1000,
        journal=Journal(),
        producer=world.topics,
        clock=world.clock,
    )


async def test_while_a_change_is_in_flight_the_next_of_its_subject_waits_and_others_do_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = world.released()
    keyed = [(0, b"a"), (1, b"a"), (2, b"b"), (3, b"a")]
    consumer = _consumer(world, monkeypatch, [record_of(released, offset=n, key=key) for n, key in keyed])
    gate = Gate()
    assert not consumer.ready
    running = asyncio.create_task(consumer.run(gate))
    await gate.until(lambda: set(gate.begun) == {0, 2})
    assert consumer.ready
    gate.let[2].set()
    await gate.until(lambda: gate.ended == [2])
    assert gate.begun == [0, 2]
    for n in (1, 3, 0):  # the first one is let go last: those behind it must not have begun by then
        gate.let[n].set()
    await gate.until(lambda: len(gate.ended) == 4)
    assert gate.ended == [2, 0, 1, 3]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_unreadable_release_keeps_its_position_in_quarantine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Record("changes.released", 0, 0, b"a", b"4111111111111111", T0)
    consumer = _consumer(world, monkeypatch, [poison, record_of(world.released(), offset=1, key=b"a")])
    gate = Gate()
    gate.let[1].set()
    running = asyncio.create_task(consumer.run(gate))
    await gate.until(lambda: gate.ended == [1])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (topic, _, quarantined, _), (_, _, act, _) = world.topics.sent
    assert topic is QUARANTINE_APPLIER
    assert isinstance(quarantined, Quarantined)
    assert (quarantined.topic, quarantined.partition, quarantined.offset) == ("changes.released", 0, 0)
    assert isinstance(act, ActObserved)
    assert json.loads(act.facts)["reason_code"] == "unreadable"
    assert all(b"4111" not in codec.encode(event) for _, _, event, _ in world.topics.sent)


async def test_too_many_unreadable_ones_stop_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poison = [Record("changes.released", 0, n, b"a", b"?", T0) for n in range(POISON_LIMIT + 5)]
    consumer = _consumer(world, monkeypatch, poison)
    with pytest.RaisesGroup(TooManyPoisoned):
        await consumer.run(Gate())
    assert sum(topic is QUARANTINE_APPLIER for topic, _, _, _ in world.topics.sent) == POISON_LIMIT


def test_an_offset_is_committed_only_with_all_before_it() -> None:
    progress = Progress()
    records = [Record("changes.released", 0, offset, None, b"", T0) for offset in (4, 5, 7)]
    for record in records:
        progress.started(record)
    progress.done(records[1])
    progress.done(records[2])
    assert progress.committable() == []
    progress.done(records[0])
    assert [record.offset for record in progress.committable()] == [7]
    assert progress.committable() == []
    progress.started(records[0])
    progress.drop(0)
    progress.done(records[0])
    assert progress.committable() == []
