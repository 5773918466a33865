"""An idempotent producer for asyncio whose `send` means: acknowledged by every in-sync replica.

Delivery reports arrive on a thread of our own (librdkafka wants to be polled) and are handed to the event
loop in one call per batch, so a burst costs one wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemaseal.contracts import codec
from schemaseal.contracts.events import Event
from schemaseal.contracts.records import Outgoing
from schemaseal.contracts.topics import LOG_LEVEL, PARTITIONER, Topic
from schemaseal.core.errors import NotRecorded

CONTENT_TYPE = b"application/avro"
Headers = list[tuple[str, str | bytes | None]]


def event_headers(outgoing: Outgoing, source: str) -> Headers:
    """CloudEvents 1.0 attributes in Kafka's binary mode; the subject is the keyed hash."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", outgoing.event_id.encode()),
        ("ce_type", b"schemaseal." + codec.schema_name(type(outgoing.event)).encode()),
        ("ce_source", source.encode()),
        ("content-type", CONTENT_TYPE),
    ]
    if outgoing.key is not None:
        headers.append(("ce_subject", outgoing.key))
    return headers


class AckProducer:
    """Sends events and waits for their acknowledgement. Create it inside a running event loop."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        *,
        message_limit: int = 16 * 1024 * 1024,
        timeout_seconds: float = 20.0,
        linger_ms: float = 0.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = f"schemaseal/{client_id}"
        self._timeout = timeout_seconds
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": LOG_LEVEL,
                "client.id": client_id,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "linger.ms": linger_ms,
                "message.max.bytes": message_limit,
                "delivery.timeout.ms": int(timeout_seconds * 1000),
                "request.timeout.ms": int(timeout_seconds * 1000),
                "log.connection.close": False,
            },
            logger=None,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name=f"{client_id}-producer", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)

    def _resolve(self, future: asyncio.Future[None], error: KafkaError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(NotRecorded(f"the broker did not take the record: {error.str()}"))

    def _start(self, outgoing: Outgoing) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closing: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve, future, error)

        try:
            self._producer.produce(
                outgoing.topic.name,
                key=outgoing.key,
                value=codec.encode(outgoing.event),
                headers=event_headers(outgoing, self._source),
                on_delivery=delivered,
            )
        except (KafkaException, BufferError) as error:
            future.set_exception(NotRecorded(f"the record could not be queued: {error}"))
        return future

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None:
        """Returns when the record is durable. Raises `NotRecorded` when that is not known."""
        await self.send_all([Outgoing(topic, key, event, event_id)])

    async def send_all(self, batch: Sequence[Outgoing]) -> None:
        """All records of the batch, in order per partition; returns when every one is durable.

        Raises `NotRecorded` when any is not known to be: some may have been written, none may be relied on.
        """
        futures = [self._start(outgoing) for outgoing in batch]
        if not futures:
            return
        done = asyncio.gather(*futures, return_exceptions=True)
        try:
            results: list[Any] = await asyncio.wait_for(done, self._timeout + 5)
        except TimeoutError as error:
            raise NotRecorded("the broker did not answer in time") from error
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        """Flush what is queued, then stop the polling thread."""
        await asyncio.to_thread(self._producer.flush, self._timeout)
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)
