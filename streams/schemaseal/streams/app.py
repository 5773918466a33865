"""The Faust app: wiring only. One agent reads every keyed topic and owns the table; one turns acts into evidence.

    outputs acknowledged → table written (changelog acknowledged) → event acknowledged

Faust acknowledges a message whose agent raised, so an unexpected exception ends the process at once: the
event was not acknowledged, and comes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from faust.types import EventT, StreamT
from prometheus_client import Counter, Histogram

from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import (
    ActObserved,
    Event,
    EvidenceEntry,
    Quarantined,
    SealedPart,
    SubjectState,
    TimerDue,
)
from schemaseal.contracts.leaf import Source
from schemaseal.contracts.records import Outgoing
from schemaseal.contracts.topics import ACTS, APPLYING, BY_NAME, DECIDED, INTERCEPTED, QUARANTINE_STREAMS, TIMERS
from schemaseal.core.clock import Clock, from_millis
from schemaseal.core.errors import SealingError
from schemaseal.core.ids import derived_id
from schemaseal.core.kafka import AckProducer
from schemaseal.core.settings import Settings
from schemaseal.identity.verifier import Refusal, TokenVerifier, Verified
from schemaseal.sealing.box import open_sealed
from schemaseal.sealing.entries import sign_entry
from schemaseal.streams.acts import act_entry, quarantine_entry
from schemaseal.streams.context import Context
from schemaseal.streams.faust_app import App
from schemaseal.streams.pipeline import Incoming, due_at, handle, sealed_token
from schemaseal.streams.table import DurableTable

KEYED = (INTERCEPTED, DECIDED, APPLYING, TIMERS)
POISON_LIMIT = 5
REMIND_AFTER = timedelta(seconds=30)
EVENTS = Counter("schemaseal_streams_events_total", "events processed", ["topic"])
SECONDS = Histogram("schemaseal_streams_event_seconds", "from taking an event to its acknowledgement")

log = logging.getLogger("schemaseal.streams")


@dataclass(slots=True)
class Runtime:
    """What the agents share: made at start, closed at the end."""

    settings: Settings
    context: Context
    verifier: TokenVerifier
    clock: Clock
    producer: AckProducer | None = None
    crash_point: Callable[[str], None] = lambda _name: None
    poison: int = 0
    due: dict[bytes, list[tuple[datetime, TimerDue]]] = field(default_factory=dict)
    reminded: dict[str, datetime] = field(default_factory=dict)
    indexed: bool = False

    def sender(self) -> AckProducer:
        """The producer; made on the loop that uses it."""
        if self.producer is None:
            self.producer = AckProducer(
                self.settings.kafka.bootstrap, "streams", message_limit=self.settings.message_limit
            )
        return self.producer


def create_app(runtime: Runtime) -> tuple[App, DurableTable]:
    """The app and its table of subjects."""
    settings = runtime.settings
    app = App(
        f"schemaseal-streams-{settings.deployment}",
        broker=f"kafka://{settings.kafka.bootstrap}",
        store="memory://",
        Table=DurableTable,
        topic_partitions=settings.kafka.partitions,
        topic_replication_factor=settings.kafka.replication,
        topic_allow_declare=True,
        # A restarted worker resumes in seconds: short session, and the same member as before.
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=10.0,
        consumer_group_instance_id=f"streams-{os.environ.get('SCHEMASEAL_WORKER', '0')}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=settings.message_limit,
        broker_commit_interval=0.5,
        producer_acks=-1,
        producer_max_request_size=settings.message_limit,
        stream_wait_empty=False,
        web_enabled=False,
        table_standby_replicas=0,
        worker_redirect_stdouts=False,
        datadir=str(settings.state / "faust"),
    )
    keyed = app.topic(
        *[topic.name for topic in KEYED], key_type=bytes, value_type=bytes,
        key_serializer="raw", value_serializer="raw", allow_empty=True,
    )  # fmt: skip
    acts = app.topic(
        ACTS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )
    table: DurableTable = app.Table("subjects", key_type=bytes, value_type=bytes, partitions=settings.kafka.partitions)

    @app.agent(keyed, name="subjects")  # type: ignore[untyped-decorator]
    async def subjects(stream: StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await _fail_stop(lambda event=event: _subject_event(runtime, table, stream, event))  # type: ignore[misc]

    @app.agent(acts, name="acts")  # type: ignore[untyped-decorator]
    async def observed(stream: StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await _fail_stop(lambda event=event: _act_event(runtime, stream, event))  # type: ignore[misc]

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def reassigned(*_args: Any, **_kwargs: Any) -> None:
        runtime.indexed = False

    @app.timer(interval=1.0)  # type: ignore[untyped-decorator]
    async def timers() -> None:
        # Faust's timers go on during a rebalance, when the table is only half recovered.
        if app.settled and not app.rebalancing and not app.in_recovery:
            await _fail_stop(lambda: _emit_due(runtime, table))

    return app, table


async def _fail_stop(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException:
        log.critical("unexpected failure; the event was not acknowledged", exc_info=True)
        logging.shutdown()
        os._exit(70)


def source_of(event: EventT[Any]) -> tuple[Source, datetime]:
    """Position and broker's time of a Faust event."""
    message = event.message
    return Source(message.topic, message.partition, message.offset), from_millis(round(message.timestamp * 1000))


async def _subject_event(runtime: Runtime, table: DurableTable, stream: StreamT[bytes], event: EventT[Any]) -> None:
    source, at = source_of(event)
    with SECONDS.time():
        key: bytes = event.key or b""
        try:
            decoded: Any = codec.decode(BY_NAME[source.topic].value, event.value or b"")
        except ContractError as error:
            await _quarantine(runtime, source, at, error)
            await stream.ack(event)
            return
        runtime.poison = 0
        identity = await _verify(runtime, sealed_token(decoded), at)
        incoming = Incoming(source=source, key=key, at=at, event=decoded, identity=identity)
        state, outputs = handle(table.load(key), incoming, runtime.context)
        await _send(runtime, outputs)
        # A crash here leaves outputs without state: the event comes again and writes the same ids and bytes.
        runtime.crash_point("outputs")
        await table.put(key, state)
        # A crash here leaves the event unacknowledged: its position is in the row, so it is skipped.
        runtime.crash_point("table")
        _schedule(runtime, key, state)
        await stream.ack(event)
        EVENTS.labels(source.topic).inc()


async def _act_event(runtime: Runtime, stream: StreamT[bytes], event: EventT[Any]) -> None:
    source, at = source_of(event)
    try:
        act = codec.decode(ActObserved, event.value or b"")
    except ContractError as error:
        await _quarantine(runtime, source, at, error)
        await stream.ack(event)
        return
    runtime.poison = 0
    await _send(runtime, [act_entry(act, source, at, runtime.context)])
    # A crash here writes the same entry again under the same id.
    await stream.ack(event)
    EVENTS.labels(source.topic).inc()


async def _send(runtime: Runtime, outputs: list[Outgoing]) -> None:
    """Durable on return; entries leave with the signature that the sequencer asks for."""
    signer = runtime.context.signer
    await runtime.sender().send_all(
        [
            replace(output, event=sign_entry(output.event, signer))
            if isinstance(output.event, EvidenceEntry)
            else output
            for output in outputs
        ]
    )


async def _verify(runtime: Runtime, token: SealedPart | None, at: datetime) -> Verified | Refusal | None:
    """The sealed token verified as of the record's time; a token that cannot be opened is refused."""
    if token is None:
        return None
    try:
        text = open_sealed(token, runtime.context.keys).decode("ascii")
    except (SealingError, UnicodeDecodeError):
        return Refusal("malformed", "the sealed token cannot be opened")
    return await runtime.verifier.verify_at(text, at)


async def _quarantine(runtime: Runtime, source: Source, at: datetime, error: ContractError) -> None:
    """Position and error to the quarantine topic and into the evidence; too many in a row stop the worker."""
    runtime.poison += 1
    event: Event = Quarantined(
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        consumer="streams",
        error=str(error),
        at=at,
    )
    event_id = derived_id("quarantine", source.topic, str(source.partition), str(source.offset))
    entry = quarantine_entry(source, at, str(error), runtime.context)
    await _send(runtime, [Outgoing(QUARANTINE_STREAMS, None, event, event_id), entry])
    if runtime.poison > POISON_LIMIT:
        raise RuntimeError("too many unreadable messages in a row; stopping before the topic is drained")


def _schedule(runtime: Runtime, key: bytes, state: SubjectState) -> None:
    """Remember what a timer must look at for this subject."""
    window = runtime.context.attach_window
    wanted = []
    for change in state.changes:
        when = due_at(change, window)
        if when is not None:
            what: Any = "expiry" if change.closed_at is None else "forget"
            wanted.append((when, TimerDue(change_id=change.change_id, what=what, due_at=when)))
    if wanted:
        runtime.due[key] = wanted
    else:
        runtime.due.pop(key, None)


async def _emit_due(runtime: Runtime, table: DurableTable) -> None:
    """Emit `timers.due` for what is due; the machine decides by the record's time whether it really is."""
    now = runtime.clock()
    if not runtime.indexed:  # after recovery or a rebalance: nothing, or the wrong things, are remembered
        runtime.due.clear()
        for key in list(table.keys()):
            _schedule(runtime, key, table.load(key))
        runtime.indexed = True
    batch = []
    for key, wanted in runtime.due.items():
        for when, event in wanted:
            name = f"{event.change_id}/{event.what}"
            last = runtime.reminded.get(name)
            if when <= now and (last is None or now - last > REMIND_AFTER):
                runtime.reminded[name] = now
                batch.append(Outgoing(TIMERS, key, event, derived_id("due", event.change_id, event.what)))
    runtime.reminded = {name: at for name, at in runtime.reminded.items() if now - at < REMIND_AFTER * 2}
    await _send(runtime, batch)
