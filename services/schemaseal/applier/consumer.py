"""Reads `changes.released`: one queue per topic key, many keys at once, offsets committed behind the work.

An offset is committed only when its record and all before it in the partition are dealt with. A crash at any
time makes the uncommitted records come again, and the journal tells what became of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from schemaseal.applier.journal import Journal, Progress
from schemaseal.applier.sender import Producer
from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import ActObserved, ChangeReleased, Quarantined
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import ACTS, APPLYING, QUARANTINE_APPLIER, RELEASED
from schemaseal.core.clock import Clock
from schemaseal.core.errors import SchemasealError
from schemaseal.core.ids import derived_id
from schemaseal.core.kafka import GroupConsumer, read_to_end

_log = logging.getLogger("schemaseal.applier")
GROUP = "applier"
POISON_LIMIT = 5
_AT_ONCE = 64
_WAITING = 2000
_COMMIT_EVERY = 0.2


class TooManyPoisoned(SchemasealError):  # noqa: N818
    """Several records in a row could not be read: going on would drain the topic into quarantine."""


class Handler(Protocol):
    """Returns when what became of the release is durable."""

    async def handle(self, record: Record, released: ChangeReleased) -> None: ...


class ReleaseConsumer:
    """Create inside the running loop; `run` ends only by cancellation or by failure."""

    def __init__(
        self,
        *,
        bootstrap: str,
        instance_id: str,
        session_timeout_ms: int,
        message_limit: int,
        journal: Journal,
        producer: Producer,
        clock: Clock,
    ) -> None:
        self._bootstrap, self._limit = bootstrap, message_limit
        self._journal, self._producer, self._clock = journal, producer, clock
        self._progress = Progress()
        self._owned: dict[int, asyncio.Task[None]] = {}
        self._queues: dict[bytes, deque[tuple[Record, ChangeReleased]]] = {}
        self._room = asyncio.Semaphore(_WAITING)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._poisoned = 0
        self._consumer = GroupConsumer(
            bootstrap,
            GROUP,
            [RELEASED.name],
            instance_id=instance_id,
            session_timeout_ms=session_timeout_ms,
            message_limit=message_limit,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )

    @property
    def ready(self) -> bool:
        """Partitions are assigned and what the journal says about them is known."""
        return bool(self._owned) and all(
            task.done() and not task.cancelled() and task.exception() is None for task in self._owned.values()
        )

    def _assigned(self, partitions: list[tuple[str, int]]) -> None:
        for _, partition in partitions:
            self._owned[partition] = asyncio.ensure_future(self.reread(partition))

    def _revoked(self, partitions: list[tuple[str, int]]) -> None:
        for _, partition in partitions:
            task = self._owned.pop(partition, None)
            if task is not None:
                task.cancel()
            self._progress.drop(partition)
            self._journal.drop(partition)

    async def reread(self, partition: int) -> None:
        """The journal of one partition as the topic has it now."""
        records = await asyncio.to_thread(
            read_to_end, self._bootstrap, APPLYING.name, [partition], message_limit=self._limit
        )
        self._journal.rebuild(partition, records)

    async def run(self, handler: Handler) -> None:
        """Raises whatever stops the work: `NotRecorded`, `ConsumerFailed`, `TooManyPoisoned`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commit())
                async for record in self._consumer:
                    await self._take(record, handler, group.create_task)
        finally:
            await self._consumer.close()

    async def _take(self, record: Record, handler: Handler, spawn: Callable[..., asyncio.Task[None]]) -> None:
        rebuilt = self._owned.get(record.partition)
        if rebuilt is None:
            return  # revoked while it lay in the buffer; the new owner reads it
        await rebuilt
        await self._room.acquire()
        self._progress.started(record)
        try:
            released = codec.decode(ChangeReleased, record.value)
        except ContractError as error:
            await self._quarantine(record, error)
            self._progress.done(record)
            self._room.release()
            return
        self._poisoned = 0
        key = record.key or b""
        queue = self._queues.get(key)
        if queue is not None:
            queue.append((record, released))
            return
        self._queues[key] = deque([(record, released)])
        spawn(self._work(key, handler))

    async def _work(self, key: bytes, handler: Handler) -> None:
        """One key's releases, one after another: at most one unresolved send per subject."""
        queue = self._queues[key]
        while queue:
            record, released = queue[0]
            rebuilt = self._owned.get(record.partition)
            if rebuilt is not None:
                await rebuilt  # the partition may have come back meanwhile, its journal not yet read again
                async with self._slots:
                    await handler.handle(record, released)
                self._progress.done(record)
            queue.popleft()
            self._room.release()
        del self._queues[key]

    async def _quarantine(self, record: Record, error: ContractError) -> None:
        """Position and kind of error, never the bytes. A crash in between repeats both under the same ids."""
        self._poisoned += 1
        if self._poisoned > POISON_LIMIT:
            raise TooManyPoisoned(
                f"{self._poisoned} records in a row could not be read, the last at offset {record.offset}",
                hint="check that all services run the same version",
            )
        position = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        place = (record.topic, str(record.partition), str(record.offset))
        now = self._clock()
        event = Quarantined(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            consumer="applier",
            error=str(error),
            at=now,
        )
        await self._producer.send(QUARANTINE_APPLIER, None, event, event_id=derived_id("quarantine", *place))
        act = ActObserved(
            act_id=derived_id("release_unreadable", *place),
            kind="release_refused",
            at=now,
            observer="applier",
            facts=json.dumps({"reason_code": "unreadable", "source": position}),
        )
        await self._producer.send(ACTS, record.key or b"applier", act, event_id=act.act_id)
        _log.error("a release could not be read; its position is in quarantine")

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_EVERY)
            records = [r for r in self._progress.committable() if r.partition in self._owned]
            if records:
                # A crash before this makes the records come again; the journal passes over them.
                await self._consumer.commit(records)
