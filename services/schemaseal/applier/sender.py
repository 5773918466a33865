"""One release, from check to outcome. Normal work and recovery after a crash run the same code.

Commit points, and what a crash just after each leaves:
* `sending` acknowledged: nobody knows whether anything was sent. The next owner waits until the send must be
  over, then asks the target.
* request sent: as above; the answer is lost, its effect can be asked for.
* `outcome` acknowledged: all is known; the offset is not committed, so the record comes again, to no effect.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from schemaseal.applier.checks import Checked, Refused, ReleaseChecker
from schemaseal.applier.journal import Journal
from schemaseal.contracts.events import (
    ActObserved,
    ApplyOutcome,
    ApplyPhase,
    ChangeApplying,
    ChangeReleased,
    Event,
    ReleaseOrder,
    SealedPart,
)
from schemaseal.contracts.http import RESPONSE_MEDIA_TYPE, HttpRequest, HttpResponse
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import ACTS, APPLYING, Topic
from schemaseal.core.clock import Clock
from schemaseal.core.crash import crash_point
from schemaseal.core.errors import TargetUnavailable
from schemaseal.core.ids import derived_id
from schemaseal.registry.base import BASE_MEDIA_TYPE, Base, number_in
from schemaseal.registry.operation import Operation
from schemaseal.registry.target import Happened, NotHappened, NotSent, Probe, ReadBack, Unknown
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys

_log = logging.getLogger("schemaseal.applier")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_PROBES_AFTER_TIMEOUT = 4


class Producer(Protocol):
    """Returns when the record is durable; raises `NotRecorded` when that is not known."""

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None: ...


class TargetPort(Protocol):
    """A target as `registry.confluent_target` offers it. All methods raise `TargetUnavailable`."""

    async def read_base(self, operation: Operation) -> Base: ...
    async def send(self, operation: Operation, request: HttpRequest) -> HttpResponse: ...
    async def read_back(self, operation: Operation, before: Base, response: HttpResponse | None) -> ReadBack: ...
    async def probe(self, operation: Operation, base_identity: str) -> Probe: ...


class Sender:
    """Handles releases. `reread(partition)` rebuilds the journal of one partition from the topic."""

    def __init__(
        self,
        *,
        checker: ReleaseChecker,
        targets: Mapping[str, TargetPort],
        producer: Producer,
        public: PublicKeys,
        journal: Journal,
        clock: Clock,
        send_timeout_seconds: float,
        reread: Callable[[int], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._checker, self._targets, self._producer = checker, targets, producer
        self._public, self._journal, self._clock = public, journal, clock
        self._send_timeout = timedelta(seconds=send_timeout_seconds)
        self._reread, self._sleep = reread, sleep

    async def handle(self, record: Record, released: ChangeReleased) -> None:
        """Returns when what became of the release is durable. Raises `NotRecorded`: stop the process."""
        checked = self._checker.check_release(released, recorded_at=record.timestamp, now=self._clock())
        if checked.order is not None and await self._settled(record, checked):
            return
        if isinstance(checked, Refused):
            await self._refuse(record, checked)
        else:
            await self._apply(record, checked)

    async def _settled(self, record: Record, checked: Checked | Refused) -> bool:
        """True when this release was dealt with before, by us or by whoever owned the partition."""
        order = checked.order
        known = self._journal.find(record.partition, order.release_id) if order is not None else None
        if order is None or known is None:
            return False
        if not known.closed:
            # Whoever journalled this may still be sending; after the send's own time-out it cannot be.
            pause = (known.at + self._send_timeout - self._clock()).total_seconds()
            if pause > 0:
                await self._sleep(pause)
            await self._reread(record.partition)
            known = self._journal.find(record.partition, order.release_id)
        if known is not None and known.closed:
            return True
        begun = checked.late if isinstance(checked, Refused) else checked
        return begun is not None and await self._known_by(record, begun, await self._ask(begun))

    async def _known_by(self, record: Record, checked: Checked, probe: Probe, status: int | None = None) -> bool:
        """Journal what a probe tells. False when it tells that nothing happened."""
        order = checked.order
        match probe:
            case Happened(answer):
                before = Base(order.base_identity, version=number_in(order.base_identity))
                await self._applied(record, checked, before, answer, status=200)
            case Unknown():
                await self._outcome(record, order, "unresolved", status=status, reason="answer_lost")
            case NotHappened():
                return False
        return True

    async def _apply(self, record: Record, checked: Checked) -> None:
        order, operation = checked.order, checked.operation
        target = self._targets[order.target]
        pause = _FIRST_PAUSE
        began = self._journal.find(record.partition, order.release_id) is not None
        while self._clock() < order.deadline:
            try:
                base = await target.read_base(operation)
            except TargetUnavailable as error:
                pause = await self._wait(error, pause)
                continue
            if base.identity != order.base_identity:
                # Perhaps by a send of ours whose answer was lost and that landed late.
                if began and await self._known_by(record, checked, await self._ask(checked)):
                    return
                await self._outcome(record, order, "base_moved", base=base)
                return
            crash_point("applier.before_sending")
            await self._journal_event(record, order, "sending")
            began = True
            crash_point("applier.after_sending")
            try:
                response = await self._send(target, checked)
            except NotSent as error:
                pause = await self._wait(error, pause)
                continue
            except TargetUnavailable as error:
                _log.warning("a send has no answer: %s", error)
                if await self._after_timeout(record, checked):
                    return
                pause = await self._wait(error, pause)
                continue
            await self._answered(record, checked, base, response)
            return
        if began and await self._known_by(record, checked, await self._ask(checked)):
            return
        await self._outcome(record, order, "lapsed", reason="not_applied_in_time")

    async def _send(self, target: TargetPort, checked: Checked) -> HttpResponse:
        """The target's own answer. Raises `NotSent` when it was not taken, `TargetUnavailable` when nobody knows."""
        response = await target.send(checked.operation, checked.request)
        crash_point("applier.after_send")
        if response.status in (408, 429):
            raise NotSent(f"told to come back ({response.status})")
        if response.status in (502, 503, 504):  # a proxy's word: the request may still be on its way
            raise TargetUnavailable(f"answered {response.status} by something in between")
        return response

    async def _answered(self, record: Record, checked: Checked, base: Base, response: HttpResponse) -> None:
        order = checked.order
        if 200 <= response.status < 300:
            await self._applied(record, checked, base, response, status=response.status)
        elif response.status in (401, 403):
            # Our own credential was refused: nothing that the client can read anything from.
            await self._outcome(record, order, "failed", status=response.status, reason="credential_refused")
        elif response.status < 500:
            await self._outcome(record, order, "failed", status=response.status, response=response)
        else:
            probe = await self._ask(checked)
            if not await self._known_by(record, checked, probe, status=response.status):
                await self._outcome(record, order, "failed", status=response.status, response=response)

    async def _after_timeout(self, record: Record, checked: Checked) -> bool:
        """True when the outcome is journalled; False when sending once more changes nothing twice."""
        pause = _FIRST_PAUSE
        probe: Probe = Unknown()
        for _ in range(_PROBES_AFTER_TIMEOUT):
            await self._sleep(pause)
            pause *= 2
            probe = await self._ask(checked)
            if isinstance(probe, Happened):
                break
        if isinstance(probe, NotHappened) and checked.operation.certainty == "idempotent":
            return False
        if isinstance(probe, NotHappened):
            probe = Unknown()  # it may still be on its way, and a second one would not be harmless
        return await self._known_by(record, checked, probe)

    async def _ask(self, checked: Checked) -> Probe:
        """What the target says; asked again until the deadline and once after it, else unknown."""
        order, pause = checked.order, _FIRST_PAUSE
        while True:
            late = self._clock() >= order.deadline
            try:
                return await self._targets[order.target].probe(checked.operation, order.base_identity)
            except TargetUnavailable as error:
                if late:
                    return Unknown()
                pause = await self._wait(error, pause)

    async def _wait(self, error: TargetUnavailable, pause: float) -> float:
        _log.warning("waiting for the target: %s", error)
        await self._sleep(pause)
        return min(pause * 2, _LONGEST_PAUSE)

    async def _applied(
        self, record: Record, checked: Checked, before: Base, answer: HttpResponse | None, *, status: int
    ) -> None:
        base: Base | None = None
        try:
            back = await self._targets[checked.order.target].read_back(checked.operation, before, answer)
            base, finding = back.base, back.finding
        except TargetUnavailable:
            finding = "not_read_back"
        await self._outcome(
            record, checked.order, "applied", status=status, response=answer, base=base, finding=finding
        )

    async def _refuse(self, record: Record, refused: Refused) -> None:
        """Record the refusal; an authentic release also gets an outcome, so that nobody waits for it."""
        position = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        act = ActObserved(
            act_id=derived_id("release_refused", record.topic, str(record.partition), str(record.offset)),
            kind="release_refused",
            at=self._clock(),
            observer="applier",
            target=refused.order.target if refused.order else None,
            change_id=refused.order.change_id if refused.order else None,
            facts=json.dumps({"reason_code": refused.reason, "source": position}),
        )
        if refused.reason != "lapsed":
            await self._producer.send(ACTS, record.key or b"applier", act, event_id=act.act_id)
        # A crash here repeats the act under the same id.
        if refused.order is not None:
            outcome: ApplyOutcome = "lapsed" if refused.reason == "lapsed" else "failed"
            await self._outcome(record, refused.order, outcome, reason=refused.reason)

    async def _outcome(
        self,
        record: Record,
        order: ReleaseOrder,
        outcome: ApplyOutcome,
        *,
        status: int | None = None,
        response: HttpResponse | None = None,
        base: Base | None = None,
        reason: str | None = None,
        finding: str | None = None,
    ) -> None:
        sealed = None if response is None else self._seal_response(response)
        after = None if base is None else self._seal_base(base)
        await self._journal_event(
            record,
            order,
            "outcome",
            outcome=outcome,
            status=status,
            response=sealed,
            base_after=after,
            base_after_identity=base.identity if base is not None else None,
            reason=reason,
            finding=finding,
        )
        crash_point("applier.after_outcome")

    async def _journal_event(
        self,
        record: Record,
        order: ReleaseOrder,
        phase: ApplyPhase,
        *,
        outcome: ApplyOutcome | None = None,
        status: int | None = None,
        response: SealedPart | None = None,
        base_after: SealedPart | None = None,
        base_after_identity: str | None = None,
        reason: str | None = None,
        finding: str | None = None,
    ) -> None:
        at: datetime = self._clock()
        event = ChangeApplying(
            change_id=order.change_id,
            release_id=order.release_id,
            phase=phase,
            at=at,
            outcome=outcome,
            status=status,
            response=response,
            base_after=base_after,
            base_after_identity=base_after_identity,
            reason=reason,
            finding=finding,
        )
        event_id = derived_id("applying", order.release_id, phase)
        await self._producer.send(APPLYING, record.key, event, event_id=event_id)
        self._journal.note(record.partition, event)

    def _seal_response(self, response: HttpResponse) -> SealedPart:
        recipients = self._public.recipients("ingress", "streams", "custody")
        return seal(response.to_bytes(), recipients, name="response", media_type=RESPONSE_MEDIA_TYPE)

    def _seal_base(self, base: Base) -> SealedPart:
        recipients = self._public.recipients("streams", "applier", "custody")
        return seal(base.to_bytes(), recipients, name="base", media_type=BASE_MEDIA_TYPE)
