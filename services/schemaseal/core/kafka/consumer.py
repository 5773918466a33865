"""Consumers: `GroupConsumer` (shared work, commit by hand) and `TopicTail` (everybody reads everything).

Neither ever commits on its own, and neither starts anywhere but where it was told: an offset that the
broker no longer has is an error (offset reset `error`), not a silent jump.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import LOG_LEVEL
from schemaseal.core.clock import from_millis
from schemaseal.core.errors import SchemasealError

_TIMEOUT = 15.0


class ConsumerFailed(SchemasealError):  # noqa: N818
    """The broker reported an error that reading on cannot mend."""


def _record(message: Message) -> Record:
    _, millis = message.timestamp()
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key() if isinstance(message.key(), bytes) else None,
        message.value() or b"",
        from_millis(millis),
    )


def _config(bootstrap: str, group: str, extra: dict[str, object] | None = None) -> dict[str, object]:
    return {
        "bootstrap.servers": bootstrap,
        "log_level": LOG_LEVEL,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": False,
        "fetch.wait.max.ms": 100,
        "log.connection.close": False,
    } | (extra or {})


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """Partition numbers of an existing topic. Raises `ConsumerFailed` when there is none."""
    metadata = consumer.list_topics(topic, timeout=_TIMEOUT).topics.get(topic)
    if metadata is None or metadata.error is not None or not metadata.partitions:
        raise ConsumerFailed(f"topic {topic} does not exist", hint="run `schemaseal init` (or `schemaseal up`)")
    return sorted(metadata.partitions)


class _Pump:
    """Polls a consumer on a thread of its own and hands batches to the event loop, one wake-up a batch.

    `limit` bounds what waits in memory: the thread stops fetching until the loop has taken some.
    """

    def __init__(self, consumer: Consumer, name: str, limit: int = 2000) -> None:
        self._consumer = consumer
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[list[Message] | BaseException] = asyncio.Queue()
        self._room = threading.Semaphore(max(1, limit // 200))
        self._stopping = threading.Event()
        self.calls: list[Callable[[], None]] = []
        self._calls_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Run on the polling thread: librdkafka wants commits and assignments where it is polled."""
        with self._calls_lock:
            self.calls.append(function)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._calls_lock:
                    calls, self.calls = self.calls, []
                for call in calls:
                    call()
                # `consume` waits for a full batch or its whole time-out, so wait for one and take what is there.
                first = self._consumer.poll(0.05) if not calls else None
                if first is None:
                    continue
                batch = [first, *self._consumer.consume(199, timeout=0)]
                while not self._room.acquire(timeout=0.2):
                    if self._stopping.is_set():
                        return
                self._put(batch)
        except BaseException as error:  # noqa: BLE001 - handed to whoever reads the queue
            self._put(error)

    def _put(self, item: list[Message] | BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def batches(self) -> AsyncIterator[list[Record]]:
        while True:
            item = await self._queue.get()
            if isinstance(item, BaseException):
                raise ConsumerFailed(f"reading stopped: {item}") from item
            self._room.release()
            records = []
            for message in item:
                error = message.error()
                if error is None:
                    records.append(_record(message))
                elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise ConsumerFailed(
                        f"the broker no longer has what comes next: {error.str()}",
                        hint="records were removed before they were read; see the runbook on retention",
                    )
            if records:
                yield records

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)


class TopicTail:
    """All partitions of some topics, no group, from the beginning or the end. For views and waiters."""

    def __init__(
        self,
        bootstrap: str,
        topics: str | Sequence[str],
        *,
        from_: Literal["beginning", "end"] = "end",
        message_limit: int = 16 * 1024 * 1024,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._from = from_
        self._limit = message_limit
        self._consumer: Consumer | None = None
        self._pump: _Pump | None = None
        self.ends: dict[tuple[str, int], int] = {}
        self.starts: dict[tuple[str, int], int] = {}

    def _open(self) -> Consumer:
        consumer = Consumer(
            _config(
                self._bootstrap,
                "schemaseal-tail",
                {"fetch.message.max.bytes": self._limit, "fetch.wait.max.ms": 50},
            )
        )
        positions = []
        for topic in self._topics:
            for partition in partitions_of(consumer, topic):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT)
                start = low if self._from == "beginning" else high
                self.starts[topic, partition] = start
                self.ends[topic, partition] = high
                positions.append(TopicPartition(topic, partition, start))
        consumer.assign(positions)
        return consumer

    async def ready(self) -> None:
        """Returns when every partition is positioned: whatever is written from now on will be seen."""
        if self._consumer is None:
            self._consumer = await asyncio.to_thread(self._open)
            self._pump = _Pump(self._consumer, "tail")

    async def batches(self) -> AsyncIterator[list[Record]]:
        await self.ready()
        assert self._pump is not None  # noqa: S101 - set by ready
        async for batch in self._pump.batches():
            yield batch

    async def __aiter__(self) -> AsyncIterator[Record]:
        async for batch in self.batches():
            for record in batch:
                yield record

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.to_thread(self._pump.stop)
        if self._consumer is not None:
            await asyncio.to_thread(self._consumer.close)


class GroupConsumer:
    """Shared work with offsets committed by hand, static membership, starting at the beginning when new.

    `on_assigned(partitions)` runs (on the event loop) before the first record of those partitions is
    yielded; it is where an owner rebuilds what it must know.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        *,
        instance_id: str | None = None,
        session_timeout_ms: int = 6000,
        message_limit: int = 16 * 1024 * 1024,
        on_assigned: Callable[[list[tuple[str, int]]], None] | None = None,
        on_revoked: Callable[[list[tuple[str, int]]], None] | None = None,
    ) -> None:
        extra: dict[str, object] = {
            "auto.offset.reset": "earliest",
            "session.timeout.ms": session_timeout_ms,
            "heartbeat.interval.ms": max(500, session_timeout_ms // 3),
            "fetch.message.max.bytes": message_limit,
            "fetch.wait.max.ms": 20,
        }
        if instance_id:
            extra["group.instance.id"] = instance_id
        self._consumer = Consumer(_config(bootstrap, group, extra))
        self._topics = list(topics)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._pump: _Pump | None = None
        self._assigned = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def _start(self) -> None:
        def told(callback: Callable[[list[tuple[str, int]]], None] | None, parts: list[TopicPartition]) -> None:
            if callback is not None:
                callback([(part.topic, part.partition) for part in parts])

        def assigned(_consumer: Consumer, parts: list[TopicPartition]) -> None:
            self._loop.call_soon_threadsafe(told, self._on_assigned, parts)
            self._loop.call_soon_threadsafe(self._assigned.set)

        def revoked(_consumer: Consumer, parts: list[TopicPartition]) -> None:
            self._loop.call_soon_threadsafe(told, self._on_revoked, parts)

        self._consumer.subscribe(self._topics, on_assign=assigned, on_revoke=revoked)
        self._pump = _Pump(self._consumer, "group")

    async def ready(self) -> None:
        """Returns when partitions were assigned."""
        if self._pump is None:
            self._start()
        await self._assigned.wait()

    async def batches(self) -> AsyncIterator[list[Record]]:
        if self._pump is None:
            self._start()
        assert self._pump is not None  # noqa: S101 - set by _start
        async for batch in self._pump.batches():
            yield batch

    async def __aiter__(self) -> AsyncIterator[Record]:
        async for batch in self.batches():
            for record in batch:
                yield record

    async def commit(self, records: Iterable[Record]) -> None:
        """Commit the positions after these records (the highest of each partition), synchronously."""
        highest: dict[tuple[str, int], int] = {}
        for record in records:
            place = (record.topic, record.partition)
            highest[place] = max(highest.get(place, 0), record.offset + 1)
        if not highest:
            return
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in highest.items()]
        done: asyncio.Future[None] = self._loop.create_future()

        def resolve(error: BaseException | None) -> None:
            if not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

        def commit() -> None:
            error: BaseException | None = None
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as failure:
                error = failure
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(resolve, error)

        assert self._pump is not None  # noqa: S101 - committing before reading is a programming error
        self._pump.call(commit)
        await done

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.to_thread(self._pump.stop)
        await asyncio.to_thread(self._consumer.close)


def read_to_end(
    bootstrap: str,
    topic: str,
    partitions: Iterable[int] | None = None,
    *,
    message_limit: int = 16 * 1024 * 1024,
) -> list[Record]:
    """Everything committed in a topic now, oldest first per partition. Blocking; for recovery and checks."""
    consumer = Consumer(
        _config(
            bootstrap,
            "schemaseal-read",
            {"enable.partition.eof": True, "fetch.message.max.bytes": message_limit},
        )
    )
    try:
        numbers = list(partitions) if partitions is not None else partitions_of(consumer, topic)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        open_partitions, records = set(numbers), []
        quiet_until = time.monotonic() + _TIMEOUT
        while open_partitions:
            messages = consumer.consume(500, timeout=0.05)
            if messages:
                quiet_until = time.monotonic() + _TIMEOUT
            elif time.monotonic() > quiet_until:
                raise ConsumerFailed(f"reading {topic} to its end took too long: the broker sends nothing")
            for message in messages:
                error = message.error()
                if error is None:
                    records.append(_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise ConsumerFailed(f"reading {topic} stopped: {error.str()}")
        return records
    finally:
        consumer.close()
