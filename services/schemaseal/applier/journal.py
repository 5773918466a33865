"""What `changes.applying` says about each release, by partition; and which offsets may be committed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from schemaseal.contracts import codec
from schemaseal.contracts.codec import ContractError
from schemaseal.contracts.events import ChangeApplying
from schemaseal.contracts.records import Record


@dataclass(frozen=True, slots=True)
class Sent:
    """`closed`: there is an outcome that ends the release. Otherwise a send began at `at`."""

    at: datetime
    closed: bool


@dataclass(slots=True)
class Journal:
    """Release id → what was journalled last. `unresolved` closes a release too: only people reopen it."""

    _partitions: dict[int, dict[str, Sent]] = field(default_factory=dict)

    def rebuild(self, partition: int, records: list[Record]) -> None:
        """Everything known of a partition, from its records oldest first. Foreign bytes are passed over."""
        self._partitions[partition] = {}
        for record in records:
            try:
                event = codec.decode(ChangeApplying, record.value)
            except ContractError:
                continue
            self.note(partition, event)

    def note(self, partition: int, event: ChangeApplying) -> None:
        known = self._partitions.setdefault(partition, {})
        before = known.get(event.release_id)
        if before is None or not before.closed:
            known[event.release_id] = Sent(event.at, event.phase == "outcome")

    def find(self, partition: int, release_id: str) -> Sent | None:
        return self._partitions.get(partition, {}).get(release_id)

    def drop(self, partition: int) -> None:
        self._partitions.pop(partition, None)


@dataclass(slots=True)
class Progress:
    """Records under way per partition. An offset is committable when it and all before it are done."""

    _open: dict[int, dict[int, bool]] = field(default_factory=dict)
    _last: dict[int, Record] = field(default_factory=dict)

    def started(self, record: Record) -> None:
        self._open.setdefault(record.partition, {})[record.offset] = False

    def done(self, record: Record) -> None:
        offsets = self._open.get(record.partition)
        if offsets is None or record.offset not in offsets:
            return  # the partition is no longer ours: its new owner reads the record again
        offsets[record.offset] = True
        for offset in sorted(offsets):
            if not offsets[offset]:
                break
            del offsets[offset]
            self._last[record.partition] = Record(record.topic, record.partition, offset, None, b"", record.timestamp)

    def committable(self) -> list[Record]:
        """The highest finished position of each partition since the last call."""
        ready, self._last = list(self._last.values()), {}
        return ready

    def drop(self, partition: int) -> None:
        self._open.pop(partition, None)
        self._last.pop(partition, None)
