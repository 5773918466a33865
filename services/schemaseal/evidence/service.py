"""The evidence service's loop: one thread, one partition, one transactional producer.

Every commit point says what a crash there leaves; recovery is the same code as normal work, because the
position is read from `evidence.checkpoints` and everything after it is done again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from prometheus_client import Counter, Gauge

from schemaseal.contracts import codec
from schemaseal.contracts.events import Body, LogCheckpoint, Person, SealedPart
from schemaseal.contracts.records import Record
from schemaseal.contracts.topics import CHECKPOINTS, EVIDENCE, LOG_LEVEL, PARTITIONER
from schemaseal.core.clock import Clock, from_millis
from schemaseal.core.errors import EvidenceMismatch, StoreUnavailable
from schemaseal.evidence.sequencer import Authentic, Plan, Position, Row, check_stored, plan, resume, sign_checkpoint
from schemaseal.tlog.note import Signer

LEAVES = Counter("schemaseal_log_leaves_total", "leaves signed into the log")
SIZE = Gauge("schemaseal_log_size", "leaves in the log at the last checkpoint")
TRANSACTIONAL_ID = "schemaseal-evidence"
_TIMEOUT = 15.0

log = logging.getLogger("schemaseal.evidence")


class Store(Protocol):
    """Where rows live. Every call blocks until the server answered; raises `StoreUnavailable`."""

    def insert_records(self, log: str, rows: tuple[Row, ...]) -> None:
        """One block; a repeat of the same block changes nothing."""

    def insert_bodies(self, log: str, bodies: tuple[tuple[Body, int], ...]) -> None: ...

    def insert_sealed(self, log: str, parts: tuple[tuple[SealedPart, int], ...]) -> None: ...

    def insert_actors(self, people: tuple[Person, ...]) -> None: ...

    def insert_checkpoint(self, checkpoint: LogCheckpoint) -> None: ...

    def read_range(self, log: str, first: int, last: int) -> list[tuple[int, bytes, bytes]]:
        """(index, leaf, leaf hash) of every stored row with first <= index <= last."""

    def size(self, log: str) -> int:
        """One more than the highest index stored; 0 when there is none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long one batch gathers. A transaction takes about 100 ms, so a few a second do."""

    batch: int = 8192
    gather_seconds: float = 0.25
    retry_seconds: float = 1.0


class EvidenceService:
    """Consumes entries, stores and signs them. `run` returns when stopped and raises when it must not go on."""

    def __init__(
        self,
        bootstrap: str,
        origin: str,
        store: Store,
        signer: Signer,
        clock: Clock,
        *,
        message_limit: int,
        limits: Limits | None = None,
        crash_point: Callable[[str], None] = lambda _name: None,
        authentic: Authentic = lambda _entry: True,
    ) -> None:
        self._bootstrap, self._origin, self._store, self._signer = bootstrap, origin, store, signer
        self._clock, self._message_limit, self._limits = clock, message_limit, limits or Limits()
        self._crash_point, self._authentic = crash_point, authentic
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self.note: bytes | None = None

    @property
    def ready(self) -> bool:
        """True once everything that stood in the partition at start is signed."""
        return self._ready.is_set()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Until stopped. Raises `EvidenceMismatch` rather than sign what does not add up."""
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "log_level": LOG_LEVEL,
                "transactional.id": TRANSACTIONAL_ID,
                "transaction.timeout.ms": 10_000,
                "partitioner": PARTITIONER,
                "linger.ms": 0,
            }
        )
        # Fences any earlier process: from here on it can commit no checkpoint, whatever it still inserts.
        producer.init_transactions(_TIMEOUT)
        last = self._last_checkpoint()
        position = resume(self._origin, last, self._signer.vkey)
        if self._store_size() < position.size:
            raise EvidenceMismatch(
                f"the database holds fewer than the {position.size} records that were signed",
                hint="restore the database from a backup that holds them; nothing more is signed until then",
            )
        if last is not None:
            self.note = last.note
            self._store.insert_checkpoint(last)
        SIZE.set(position.size)
        consumer, end = self._open(position)
        try:
            while not self._stopping.is_set():
                if not self._ready.is_set() and position.next_offset >= end:
                    self._ready.set()
                records = self._gather(consumer)
                if records:
                    position = self._sign(producer, position, records)
        finally:
            self._ready.clear()
            consumer.close()

    # ------------------------------------------------------------------ Kafka

    def _reader(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "log_level": LOG_LEVEL,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "fetch.message.max.bytes": self._message_limit,
            }
        )

    def _last_checkpoint(self) -> LogCheckpoint | None:
        """The newest committed record of `evidence.checkpoints`; looks further back past markers."""
        reader = self._reader("schemaseal-evidence-position")
        try:
            low, high = reader.get_watermark_offsets(TopicPartition(CHECKPOINTS.name, 0), timeout=_TIMEOUT)
            span = 16
            while low < high:
                start = max(low, high - span)
                newest = self._newest_from(reader, start)
                if newest is not None:
                    return codec.decode(LogCheckpoint, newest)
                if start == low:
                    break
                span *= 8
            return None
        finally:
            reader.close()

    def _newest_from(self, reader: Consumer, start: int) -> bytes | None:
        reader.assign([TopicPartition(CHECKPOINTS.name, 0, start)])
        newest: bytes | None = None
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            for message in reader.consume(500, timeout=0.05):
                error = message.error()
                if error is None:
                    newest = message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    return newest
                else:
                    raise EvidenceMismatch(f"checkpoints cannot be read: {error.str()}")
        raise EvidenceMismatch("checkpoints could not be read to their end in time")

    def _open(self, position: Position) -> tuple[Consumer, int]:
        consumer = self._reader("schemaseal-evidence")
        place = TopicPartition(EVIDENCE.name, 0, position.next_offset)
        low, high = consumer.get_watermark_offsets(TopicPartition(EVIDENCE.name, 0), timeout=_TIMEOUT)
        if low > position.next_offset or high < position.next_offset:
            consumer.close()
            raise EvidenceMismatch(
                f"the evidence partition holds offsets {low} to {high}, the checkpoint goes on at "
                f"{position.next_offset}",
                hint="entries were removed before they were signed, or the topic was made anew",
            )
        consumer.assign([place])
        return consumer, high

    def _gather(self, consumer: Consumer) -> list[Record]:
        records: list[Record] = []
        until: float | None = None
        while not self._stopping.is_set():
            wait = 0.1 if until is None else max(0.0, until - time.monotonic())
            for message in consumer.consume(self._limits.batch - len(records), timeout=min(wait, 0.05)):
                record = self._record(message)
                if record is not None:
                    records.append(record)
            if records and until is None:
                until = time.monotonic() + self._limits.gather_seconds
            if len(records) >= self._limits.batch or (until is not None and time.monotonic() >= until):
                break
            if until is None:
                break
        return records

    @staticmethod
    def _record(message: Message) -> Record | None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF or error.retriable():
                return None
            raise EvidenceMismatch(f"the evidence partition cannot be read on: {error.str()}")
        _, millis = message.timestamp()
        return Record(
            message.topic() or "", message.partition() or 0, message.offset() or 0, None,
            message.value() or b"", from_millis(millis),
        )  # fmt: skip

    # ------------------------------------------------------------------ one batch

    def _sign(self, producer: Producer, position: Position, records: list[Record]) -> Position:
        planned = plan(position, records, self._authentic)
        self._retrying(lambda: self._store_batch(planned))
        checkpoint = sign_checkpoint(self._origin, planned.after, self._signer, self._clock())
        self._crash_point("signed")
        # A crash before the commit leaves rows beyond the last checkpoint and a signature nobody saw: the
        # next process reads the same records and adopts the rows if they are equal.
        producer.begin_transaction()
        producer.produce(CHECKPOINTS.name, value=codec.encode(checkpoint), partition=0)
        self._crash_point("in-transaction")
        try:
            producer.commit_transaction(_TIMEOUT)
        except KafkaException as error:
            # Fenced, or unknown whether committed: only a fresh start can tell, from the topic itself.
            raise EvidenceMismatch(f"the checkpoint may not be committed: {error}") from error
        # A crash here leaves a committed checkpoint that ClickHouse does not show yet: start inserts it.
        self._crash_point("committed")
        self._retrying(lambda: self._store.insert_checkpoint(checkpoint))
        self.note = checkpoint.note
        LEAVES.inc(len(planned.rows))
        SIZE.set(planned.after.size)
        return planned.after

    def _store_size(self) -> int:
        sizes: list[int] = []
        self._retrying(lambda: sizes.append(self._store.size(self._origin)))
        return sizes[0]

    def _store_batch(self, planned: Plan) -> None:
        first, last = planned.rows[0].index, planned.rows[-1].index
        there = {index for index, _, _ in self._store.read_range(self._origin, first, last)}
        # A crash in here leaves bodies or parts that no record names yet, or some of the blocks: the next
        # process finds those rows, inserts what is missing and checks all of them.
        self._store.insert_bodies(self._origin, planned.bodies)
        self._store.insert_sealed(self._origin, planned.sealed)
        self._store.insert_actors(planned.people)
        self._crash_point("bodies")
        for block in planned.blocks(first):
            missing = tuple(row for row in block if row.index not in there)
            if missing:
                self._store.insert_records(self._origin, missing)
                self._crash_point("block")
        check_stored(planned.rows, self._store.read_range(self._origin, first, last))

    def _retrying(self, work: Callable[[], None]) -> None:
        """Until it works or we are stopped: without the store nothing is signed and nothing is lost."""
        while True:
            try:
                work()
            except StoreUnavailable as error:
                log.warning("store unavailable, trying again: %s", error)
                if self._stopping.wait(self._limits.retry_seconds):
                    raise
            else:
                return
