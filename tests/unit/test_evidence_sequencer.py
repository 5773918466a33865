"""The sequencer: ranks, what becomes of unreadable records, what is refused, and what a batch leaves in a store."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemaseal.contracts import codec, leaf
from schemaseal.contracts.events import Body, EvidenceEntry, LogCheckpoint, Person, SealedPart, TimerDue
from schemaseal.contracts.records import Record
from schemaseal.core.errors import EvidenceMismatch, StoreUnavailable
from schemaseal.evidence import sequencer
from schemaseal.evidence.sequencer import BLOCK, Plan, Position, Row, check_stored, plan, resume, sign_checkpoint
from schemaseal.evidence.service import EvidenceService, Limits
from schemaseal.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from schemaseal.tlog.merkle import CompactRange, leaf_hash, root_hash
from schemaseal.tlog.note import Signer, sign_note, verify_note

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ORIGIN = "log.example/evidence"
SIGNER = Signer.from_seed(ORIGIN, b"k" * 32)
START = Position(CompactRange.empty(), 0)


def entry(number: int, data: bytes | None = None) -> EvidenceEntry:
    content = json.dumps({"id": str(number)}).encode() if data is None else data
    return EvidenceEntry(
        id=str(number),
        kind="test",
        leaf=content,
        bodies=(Body(digest=b"d%d" % number, salt=b"s", media_type="text/plain", content=b"c"),),
        sealed=(SealedPart(name="request", media_type="x", size=1, commitment=b"c%d" % number, jwe=b"{}"),),
        actors=(Person(iss="i", sub=str(number % 2), name="n"),),
    )


def record(offset: int, value: bytes | None = None) -> Record:
    data = codec.encode(entry(offset)) if value is None else value
    return Record("evidence", 0, offset, None, data, T0 + timedelta(milliseconds=offset))


def records(*offsets: int) -> list[Record]:
    return [record(offset) for offset in offsets]


def checkpoint_of(position: Position) -> LogCheckpoint:
    return sign_checkpoint(ORIGIN, position, SIGNER, T0)


# ---------------------------------------------------------------- ranks


def test_the_index_is_the_rank_whatever_the_offsets() -> None:
    """Transaction markers and aborted records make offsets run ahead of ranks."""
    first = plan(START, records(0, 1, 5))
    assert [row.index for row in first.rows] == [0, 1, 2]
    assert first.after.size == 3
    assert first.after.next_offset == 6
    second = plan(first.after, records(9, 10))
    assert [row.index for row in second.rows] == [3, 4]
    assert second.after.next_offset == 11
    leaves = [entry(offset).leaf for offset in (0, 1, 5, 9, 10)]
    assert [row.leaf for row in (*first.rows, *second.rows)] == leaves
    assert [row.leaf_hash for row in (*first.rows, *second.rows)] == [leaf_hash(data) for data in leaves]
    assert second.after.range.root() == root_hash(leaf_hash(data) for data in leaves)


def test_what_belongs_to_an_entry_carries_its_index() -> None:
    planned = plan(plan(START, records(0)).after, records(1, 2, 3))
    assert [(body.digest, index) for body, index in planned.bodies] == [(b"d1", 1), (b"d2", 2), (b"d3", 3)]
    assert [(part.commitment, index) for part, index in planned.sealed] == [(b"c1", 1), (b"c2", 2), (b"c3", 3)]
    assert [person.sub for person in planned.people] == ["1", "0"]


def test_a_repeated_entry_is_a_leaf_too() -> None:
    value = codec.encode(entry(7))
    planned = plan(START, [record(0, value), record(1, value)])
    assert [row.leaf for row in planned.rows] == [entry(7).leaf] * 2
    assert planned.after.size == 2


@given(st.lists(st.integers(0, 60), unique=True, max_size=30), st.data())
def test_batches_of_any_size_give_the_same_log(offsets: list[int], data: st.DataObject) -> None:
    everything = records(*sorted(offsets))
    whole = plan(START, everything)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(everything)))) | {0, len(everything)})
    position, rows = START, list[Row]()
    for start, end in itertools.pairwise(cuts):
        planned = plan(position, everything[start:end])
        assert planned == plan(position, everything[start:end])
        rows += planned.rows
        position = planned.after
    assert tuple(rows) == whole.rows
    assert position == whole.after


def test_nothing_moves_nothing() -> None:
    position = plan(START, records(0, 4)).after
    planned = plan(position, [])
    assert (planned.rows, planned.after) == ((), position)


@pytest.mark.parametrize(
    "offsets", [(1, 0), (0, 0), (0, 2, 1), (3, 4, 4)], ids=["swapped", "twice", "late", "twice at the end"]
)
def test_records_out_of_order_are_refused(offsets: tuple[int, ...]) -> None:
    with pytest.raises(EvidenceMismatch, match="out of order"):
        plan(START, records(*offsets))


def test_records_before_the_position_are_refused() -> None:
    position = plan(START, records(0, 1)).after
    with pytest.raises(EvidenceMismatch, match="out of order"):
        plan(position, records(1, 2))
    assert plan(position, records(2)).rows[0].index == 2


# ---------------------------------------------------------------- unreadable records

DEEP = b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
UNREADABLE = {
    "empty": b"",
    "no header": b"text",
    "unknown schema": b"\xc3\x01" + bytes(8) + b"x",
    "another event": codec.encode(TimerDue(change_id="c", what="expiry", due_at=T0)),
    "cut short": codec.encode(entry(1))[:-3],
    "too long": codec.encode(entry(1)) + b"\0",
    "leaf is no JSON": codec.encode(entry(1, b"text")),
    "leaf is a list": codec.encode(entry(1, b"[]")),
    "leaf is no UTF-8": codec.encode(entry(1, b'{"a": "\xff"}')),
    "leaf is too deep": codec.encode(entry(1, DEEP)),
    "leaf is at the limit": codec.encode(entry(1, b'{"a":"' + b"x" * (leaf.LEAF_LIMIT - 8) + b'"}')),
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_record_becomes_a_leaf(value: bytes) -> None:
    planned = plan(START, [record(0), record(1, value), record(2)])
    assert [row.index for row in planned.rows] == [0, 1, 2]
    assert [row.leaf for row in planned.rows[::2]] == [entry(0).leaf, entry(2).leaf]
    stand_in = json.loads(planned.rows[1].leaf)
    assert stand_in["kind"] == "log.unreadable"
    assert stand_in["source"] == {"topic": "evidence", "partition": 0, "offset": 1}
    assert stand_in["facts"]["size"] == len(value)
    assert len(stand_in["facts"]["sha256"]) == 64
    assert [index for _, index in planned.bodies] == [0, 2]
    assert planned == plan(START, [record(0), record(1, value), record(2)])


def test_a_leaf_just_under_the_limit_is_readable() -> None:
    data = b'{"a":"' + b"x" * (leaf.LEAF_LIMIT - 9) + b'"}'
    assert len(data) == leaf.LEAF_LIMIT - 1
    assert sequencer.entry_of(record(0, codec.encode(entry(0, data)))).leaf == data


def test_stand_ins_name_their_place() -> None:
    first, second = (json.loads(sequencer.unreadable(record(offset, b"x")).leaf) for offset in (1, 2))
    assert first["id"] != second["id"]
    assert first["facts"] == second["facts"]


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 400))
@example(b"", DEEP, 0)
def test_no_bytes_stop_the_sequencer(noise: bytes, content: bytes, cut: int) -> None:
    whole = codec.encode(entry(1, content))
    for value in (noise, whole[:10] + noise, whole[: cut % len(whole)] + noise, whole):
        planned = plan(START, [record(0, value)])
        assert planned.after.size == 1
        assert isinstance(json.loads(planned.rows[0].leaf), dict)


# ---------------------------------------------------------------- blocks


@given(st.integers(0, 3 * BLOCK), st.integers(1, 3 * BLOCK), st.integers(0, 3 * BLOCK))
def test_blocks_are_cut_at_the_same_indices_by_every_writer(first: int, count: int, skip: int) -> None:
    rows = tuple(Row(first + at, b"", b"") for at in range(count))
    start = first + skip % count
    blocks = Plan(rows, (), (), (), START).blocks(start)
    assert [row for block in blocks for row in block] == list(rows[start - first :])
    for block in blocks:
        assert block[0].index // BLOCK == block[-1].index // BLOCK
    for block in blocks[1:]:
        assert block[0].index % BLOCK == 0


# ---------------------------------------------------------------- what the store gave back

ROWS = plan(START, records(0, 1, 2)).rows
STORED = [(row.index, row.leaf, row.leaf_hash) for row in ROWS]


def test_what_is_stored_as_planned_passes_even_twice_and_in_any_order() -> None:
    check_stored(ROWS, STORED)
    check_stored(ROWS, [*reversed(STORED), *STORED])
    check_stored((), STORED)


@pytest.mark.parametrize("index", range(3))
def test_a_missing_row_is_named(index: int) -> None:
    with pytest.raises(EvidenceMismatch, match=f"record {index} was inserted and is not there"):
        check_stored(ROWS, [row for row in STORED if row[0] != index])


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("beside", [True, False], ids=["beside the right one", "instead"])
@pytest.mark.parametrize("wrong", ["leaf", "hash"])
def test_a_row_that_differs_is_named(index: int, beside: bool, wrong: str) -> None:
    at, data, digest = STORED[index]
    bad = (at, data + b" ", digest) if wrong == "leaf" else (at, data, b"\0" * 32)
    others = STORED if beside else [row for row in STORED if row[0] != index]
    with pytest.raises(EvidenceMismatch, match=f"record {index} in the database is not what the log holds"):
        check_stored(ROWS, [*others, bad])


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_a_signed_note_that_resumes() -> None:
    position = plan(START, records(0, 1, 7)).after
    made = checkpoint_of(position)
    assert (made.origin, made.size, made.root, made.next_offset) == (ORIGIN, 3, position.range.root(), 8)
    assert parse_checkpoint(verify_note(made.note, [SIGNER.vkey])) == Checkpoint(ORIGIN, 3, made.root)
    assert resume(ORIGIN, made, SIGNER.vkey) == position
    assert resume(ORIGIN, codec.decode(LogCheckpoint, codec.encode(made)), SIGNER.vkey) == position


def test_without_a_checkpoint_the_log_starts() -> None:
    assert resume(ORIGIN, None, SIGNER.vkey) == START


def test_a_log_goes_on_after_resuming_as_if_it_had_not_stopped() -> None:
    position = plan(START, records(0, 1, 2)).after
    again = resume(ORIGIN, checkpoint_of(position), SIGNER.vkey)
    assert plan(again, records(3, 4)).after == plan(START, records(0, 1, 2, 3, 4)).after


GOOD = checkpoint_of(plan(START, records(0, 1, 2)).after)
LONGER = checkpoint_of(plan(START, records(0, 1, 2, 3)).after)
OTHER = checkpoint_of(plan(START, records(0, 1, 3)).after)
FOREIGN = "other.example/log"


def foreign_origin() -> LogCheckpoint:
    """Signed by our key, as a checkpoint of another log."""
    text = format_checkpoint(Checkpoint(FOREIGN, GOOD.size, GOOD.root))
    return replace(GOOD, note=sign_note(text, [SIGNER]))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (sign_checkpoint(ORIGIN, START, Signer.from_seed(ORIGIN, b"x" * 32), T0), "cannot be used"),
        (replace(GOOD, note=b""), "cannot be used"),
        (replace(GOOD, note=GOOD.note.replace(b"\n3\n", b"\n4\n")), "cannot be used"),
        (replace(GOOD, note=sign_note("no checkpoint\n", [SIGNER])), "cannot be used"),
        (replace(GOOD, range=b""), "cannot be used"),
        (replace(GOOD, range=GOOD.range[:-32]), "cannot be used"),
        (replace(GOOD, range=GOOD.range + bytes(32)), "cannot be used"),
        (foreign_origin(), f"is of log {FOREIGN}"),
        (replace(GOOD, origin=FOREIGN), "is of log"),
        (replace(GOOD, range=OTHER.range), "does not give its signed root"),
        (replace(GOOD, range=LONGER.range), "does not give its signed root"),
        (replace(GOOD, note=LONGER.note), "does not give its signed root"),
        (replace(GOOD, range=CompactRange.empty().to_bytes()), "does not give its signed root"),
    ],
    ids=[
        "another key", "no note", "altered note", "no checkpoint", "no range", "short range", "long range",
        "signed for another log", "record of another log", "another tree", "longer range", "longer note", "empty range",
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_add_up_is_refused(bad: LogCheckpoint, says: str) -> None:
    with pytest.raises(EvidenceMismatch, match=says):
        resume(ORIGIN, bad, SIGNER.vkey)


def test_a_checkpoint_under_other_settings_is_refused() -> None:
    with pytest.raises(EvidenceMismatch, match=f"the settings say {FOREIGN}"):
        resume(FOREIGN, GOOD, SIGNER.vkey)


# ---------------------------------------------------------------- one batch into the store


class Rows:
    """A store that keeps what it is given, and can fail before or after it stored a block."""

    def __init__(self, fail: str = "", *, times: int = 0) -> None:
        self.rows: list[tuple[int, bytes, bytes]] = []
        self.inserts: list[list[int]] = []
        self.fail, self.times = fail, times

    def _failing(self, where: str) -> None:
        if self.fail == where and self.times:
            self.times -= 1
            raise StoreUnavailable(where)

    def insert_records(self, log: str, rows: tuple[Row, ...]) -> None:
        assert log == ORIGIN
        assert len({row.index // BLOCK for row in rows}) == 1, "a block spans two aligned blocks"
        self._failing("before")
        self.inserts.append([row.index for row in rows])
        self.rows += [(row.index, row.leaf, row.leaf_hash) for row in rows]
        self._failing("after")

    def insert_bodies(self, log: str, bodies: tuple[tuple[Body, int], ...]) -> None:
        pass

    def insert_sealed(self, log: str, parts: tuple[tuple[SealedPart, int], ...]) -> None:
        pass

    def insert_actors(self, people: tuple[Person, ...]) -> None:
        pass

    def insert_checkpoint(self, checkpoint: LogCheckpoint) -> None:
        pass

    def read_range(self, log: str, first: int, last: int) -> list[tuple[int, bytes, bytes]]:
        assert log == ORIGIN
        return [row for row in self.rows if first <= row[0] <= last]

    def size(self, log: str) -> int:
        assert log == ORIGIN
        return max((index + 1 for index, _, _ in self.rows), default=0)


def service(store: Rows) -> EvidenceService:
    return EvidenceService(
        "unused:9092", ORIGIN, store, SIGNER, lambda: T0, message_limit=1, limits=Limits(retry_seconds=0)
    )


def test_a_batch_is_stored_once_however_often_it_is_done_again() -> None:
    store = Rows()
    planned = plan(START, records(0, 1, 2))
    for _ in range(3):
        service(store)._store_batch(planned)
    assert store.rows == STORED
    assert store.inserts == [[0, 1, 2]]


def test_rows_left_by_a_crash_are_adopted_and_the_rest_is_added() -> None:
    store = Rows()
    store.rows = STORED[:1]
    service(store)._store_batch(plan(START, records(0, 1, 2)))
    assert store.inserts == [[1, 2]]
    assert store.rows == STORED


def test_rows_left_by_somebody_else_stop_it() -> None:
    store = Rows()
    store.rows = [(1, b'{"id": "forged"}', leaf_hash(b'{"id": "forged"}'))]
    with pytest.raises(EvidenceMismatch, match="record 1 in the database is not what the log holds"):
        service(store)._store_batch(plan(START, records(0, 1, 2)))


@pytest.mark.parametrize("fail", ["before", "after"], ids=["failed and not stored", "failed but stored"])
def test_a_failed_insert_is_done_again_without_repeats(fail: str) -> None:
    store = Rows(fail, times=2)
    made = service(store)
    made._retrying(lambda: made._store_batch(plan(START, records(0, 1, 2))))
    assert store.rows == STORED
    assert made._store_size() == 3


def test_a_store_that_loses_a_block_is_noticed() -> None:
    class Losing(Rows):
        def insert_records(self, log: str, rows: tuple[Row, ...]) -> None:
            super().insert_records(log, rows[:-1])

    with pytest.raises(EvidenceMismatch, match="record 2 was inserted and is not there"):
        service(Losing())._store_batch(plan(START, records(0, 1, 2)))


def test_stopping_ends_the_retrying() -> None:
    made = service(Rows("before", times=5))
    made.stop()
    with pytest.raises(StoreUnavailable):
        made._retrying(lambda: made._store_batch(plan(START, records(0))))


def test_it_is_not_ready_before_it_ran() -> None:
    assert not service(Rows()).ready
