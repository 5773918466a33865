"""From Kafka's order to a signed log: what is decided, without the I/O (see `service` for that).

The order of the `evidence` partition *is* the sequence: index = rank of a record in it. A batch is planned
against the last position; nothing of a plan counts until its checkpoint is committed.

    consume → plan (extend the tree) → insert blocks → read back → sign → one transaction:
    checkpoint + compact range + next offset
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemaseal.contracts import codec, leaf
from schemaseal.contracts.events import Body, EvidenceEntry, LogCheckpoint, Person, SealedPart
from schemaseal.contracts.records import Record
from schemaseal.core.errors import EvidenceMismatch
from schemaseal.core.ids import derived_id
from schemaseal.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from schemaseal.tlog.errors import TlogError
from schemaseal.tlog.merkle import CompactRange, leaf_hash
from schemaseal.tlog.note import Signer, sign_note, verify_note

BLOCK = 1024  # rows an insert may span at most; blocks are aligned to it, so any writer cuts alike


@dataclass(frozen=True, slots=True)
class Position:
    """What the last committed checkpoint stands for."""

    range: CompactRange
    next_offset: int

    @property
    def size(self) -> int:
        return self.range.size


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf with its index and the 32-byte RFC 6962 leaf hash."""

    index: int
    leaf: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch as it will stand in the log."""

    rows: tuple[Row, ...]
    bodies: tuple[tuple[Body, int], ...]
    sealed: tuple[tuple[SealedPart, int], ...]
    people: tuple[Person, ...]
    after: Position

    def blocks(self, start: int) -> list[tuple[Row, ...]]:
        """Rows from index `start` on, cut where an aligned block ends."""
        rows = [row for row in self.rows if row.index >= start]
        blocks: list[list[Row]] = []
        for row in rows:
            if not blocks or row.index % BLOCK == 0:
                blocks.append([])
            blocks[-1].append(row)
        return [tuple(block) for block in blocks]


Authentic = Callable[[EvidenceEntry], bool]


def _stand_in(record: Record, what: str) -> EvidenceEntry:
    leaf_id = derived_id(what, record.topic, str(record.partition), str(record.offset))
    kind = f"log.{what}"
    data = leaf.build(
        leaf_id=leaf_id,
        kind=kind,
        at=record.timestamp,
        source=leaf.Source(record.topic, record.partition, record.offset),
        facts={"sha256": hashlib.sha256(record.value).hexdigest(), "size": len(record.value)},
    )
    return EvidenceEntry(id=leaf_id, kind=kind, leaf=data)


def unreadable(record: Record) -> EvidenceEntry:
    """The leaf that stands for a message in `evidence` that is not an entry: nothing leaves a gap."""
    return _stand_in(record, "unreadable")


def unsigned(record: Record) -> EvidenceEntry:
    """The leaf that stands for an entry which its one writer did not write: it is shown, and not believed."""
    return _stand_in(record, "unsigned")


def entry_of(record: Record, authentic: Authentic = lambda _entry: True) -> EvidenceEntry:
    """The entry in a record. A record whose leaf is not JSON under the limit is unreadable too."""
    try:
        entry = codec.decode(EvidenceEntry, record.value)
        if len(entry.leaf) >= leaf.LEAF_LIMIT or not isinstance(json.loads(entry.leaf), dict):
            return unreadable(record)
    except (codec.ContractError, ValueError, RecursionError):
        return unreadable(record)
    return entry if authentic(entry) else unsigned(record)


def plan(position: Position, records: Sequence[Record], authentic: Authentic = lambda _entry: True) -> Plan:
    """The records as the next rows of the log. Raises `EvidenceMismatch` when they do not follow on."""
    offsets = [record.offset for record in records]
    if offsets != sorted(set(offsets)) or (offsets and offsets[0] < position.next_offset):
        raise EvidenceMismatch("records of the evidence partition are out of order")
    entries = [entry_of(record, authentic) for record in records]
    hashes = [leaf_hash(entry.leaf) for entry in entries]
    rows = tuple(
        Row(position.size + at, entry.leaf, digest)
        for at, (entry, digest) in enumerate(zip(entries, hashes, strict=True))
    )
    people = {(p.iss, p.sub, p.name): p for entry in entries for p in entry.actors}
    return Plan(
        rows=rows,
        bodies=tuple((b, row.index) for row, e in zip(rows, entries, strict=True) for b in e.bodies),
        sealed=tuple((s, row.index) for row, e in zip(rows, entries, strict=True) for s in e.sealed),
        people=tuple(people.values()),
        after=Position(position.range.extend(hashes), offsets[-1] + 1 if offsets else position.next_offset),
    )


def check_stored(expected: Sequence[Row], stored: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Every expected row is stored, byte for byte; a row may be there twice (a fenced writer), never else.

    `stored`: (index, leaf, leaf hash) as the database gave them. Raises `EvidenceMismatch`.
    """
    by_index: dict[int, set[tuple[bytes, bytes]]] = {}
    for index, data, digest in stored:
        by_index.setdefault(index, set()).add((data, digest))
    for row in expected:
        found = by_index.get(row.index)
        if found is None:
            raise EvidenceMismatch(f"record {row.index} was inserted and is not there")
        if found != {(row.leaf, row.leaf_hash)}:
            raise EvidenceMismatch(f"record {row.index} in the database is not what the log holds")


def sign_checkpoint(origin: str, position: Position, signer: Signer, at: datetime) -> LogCheckpoint:
    """The record for `evidence.checkpoints`."""
    root = position.range.root()
    text = format_checkpoint(Checkpoint(origin, position.size, root))
    return LogCheckpoint(
        origin=origin,
        size=position.size,
        root=root,
        note=sign_note(text, [signer]),
        range=position.range.to_bytes(),
        next_offset=position.next_offset,
        at=at,
    )


def resume(origin: str, checkpoint: LogCheckpoint | None, vkey: str) -> Position:
    """The position of the last checkpoint, believed only if our own signature stands under it.

    1. the note is signed by this log's key; 2. it is a checkpoint of this origin; 3. the compact range
    gives its root at its size. Raises `EvidenceMismatch`.
    """
    if checkpoint is None:
        return Position(CompactRange.empty(), 0)
    try:
        signed = parse_checkpoint(verify_note(checkpoint.note, [vkey]))
        compact = CompactRange.from_bytes(checkpoint.range)
    except TlogError as error:
        raise EvidenceMismatch(f"the last checkpoint cannot be used: {error}") from error
    if signed.origin != origin or checkpoint.origin != origin:
        raise EvidenceMismatch(f"the last checkpoint is of log {signed.origin}, the settings say {origin}")
    if (signed.size, signed.root) != (compact.size, compact.root()):
        raise EvidenceMismatch("the last checkpoint's compact range does not give its signed root")
    return Position(compact, checkpoint.next_offset)
