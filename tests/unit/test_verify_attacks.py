"""The attack table: whatever is done to an export is detected and named at the right index."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemaseal.tlog import Checkpoint, format_checkpoint, leaf_hash, sign_note
from schemaseal.verify import Report, Status, verify_export
from schemaseal.verify import export_format as fmt
from tests.unit.verify_export_builder import (
    LOG,
    ORIGIN,
    OTHER_LOG,
    SAME_NAME,
    Model,
    edit_json_line,
    model,
    uid,
)

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
Attack = Callable[[Path], None]


def check(path: Path, against: bytes | None = None) -> Report:
    return verify_export(path, vkeys=[LOG.vkey], against=against, now=NOW)


def lines_of(path: Path, name: str = fmt.LEAVES) -> list[bytes]:
    return (path / name).read_bytes().split(b"\n")[:-1]


def put_lines(path: Path, lines: list[bytes], name: str = fmt.LEAVES) -> None:
    (path / name).write_bytes(b"".join(line + b"\n" for line in lines))


def edit(path: Path, number: int, file: str, /, **changes: Any) -> None:
    edit_json_line(path / file, number, lambda row: row.update(changes))


def edit_leaf(path: Path, number: int, old: bytes, new: bytes) -> None:
    def change(row: dict[str, Any]) -> None:
        leaf = base64.b64decode(row["leaf"])
        assert old in leaf
        row["leaf"] = base64.b64encode(leaf.replace(old, new)).decode()

    edit_json_line(path / fmt.LEAVES, number, change)


def edit_column(path: Path, number: int, name: str, value: object) -> None:
    edit_json_line(path / fmt.LEAVES, number, lambda row: row["columns"].update({name: value}))


def rehash(path: Path) -> None:
    """The attacker also makes leaf-hashes.bin agree with the leaves."""
    leaves = [base64.b64decode(json.loads(line)["leaf"]) for line in lines_of(path)]
    (path / fmt.LEAF_HASHES).write_bytes(b"".join(map(leaf_hash, leaves)))


def renumber(lines: list[bytes]) -> list[bytes]:
    return [json.dumps({**json.loads(line), "index": index}).encode() for index, line in enumerate(lines)]


# Each attack on an export of ten leaves.
def flip_byte_in_leaf(path: Path) -> None:
    edit_leaf(path, 4, b'"required":2', b'"required":1')


def flip_byte_in_leaf_and_column(path: Path) -> None:
    edit_leaf(path, 4, b'"target":"orders"', b'"target":"0rders"')
    edit_column(path, 4, "target", "0rders")


def flip_byte_of_base64(path: Path) -> None:
    data = (path / fmt.LEAVES).read_bytes()
    lines = data.split(b"\n")
    at = lines[4].index(b'"leaf":"') + 30
    lines[4] = lines[4][:at] + bytes([lines[4][at] ^ 1]) + lines[4][at + 1 :]
    (path / fmt.LEAVES).write_bytes(b"\n".join(lines))


def break_line(path: Path) -> None:
    lines = lines_of(path)
    lines[4] = lines[4][:50]
    put_lines(path, lines)


def delete(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, lines[:4] + lines[5:])


def delete_and_renumber(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, renumber(lines[:4] + lines[5:]))


def insert(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, renumber([*lines[:4], lines[8], *lines[4:]]))


def append_beyond(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, renumber([*lines, lines[3]]))


def swap_lines(path: Path) -> None:
    lines = lines_of(path)
    lines[4], lines[6] = lines[6], lines[4]
    put_lines(path, lines)


def swap_and_renumber(path: Path) -> None:
    lines = lines_of(path)
    lines[4], lines[6] = lines[6], lines[4]
    put_lines(path, renumber(lines))


def duplicate(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, [*lines[:5], lines[4], *lines[5:]])


def truncate(path: Path) -> None:
    put_lines(path, lines_of(path)[:7])


def truncate_in_line(path: Path) -> None:
    file = path / fmt.LEAVES
    file.write_bytes(file.read_bytes()[:-1])


def edit_typed_column(path: Path) -> None:
    edit_column(path, 4, "kind", "change.rejected")


def edit_time_column(path: Path) -> None:
    edit_column(path, 4, "at", "2026-11-22 08:00:04.123")


def edit_fact_column(path: Path) -> None:
    edit_column(path, 4, "subject", "another subject")


def null_column(path: Path) -> None:
    edit_column(path, 4, "target", None)


def add_column(path: Path) -> None:
    edit_column(path, 4, "approved_by", "mallory")


def number_for_text(path: Path) -> None:
    edit_column(path, 4, "source_offset", "4")


def truth_for_number(path: Path) -> None:
    edit_column(path, 1, "source_offset", True)  # noqa: FBT003 - a JSON value


def edit_body(path: Path) -> None:
    edit(path, 4, fmt.BODIES, content=base64.b64encode(b"harmless").decode())


def edit_body_and_digest(path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        digest = hmac.digest(base64.b64decode(row["salt"]), b"harmless", "sha256")
        row.update(content=base64.b64encode(b"harmless").decode(), digest=digest.hex())

    edit_json_line(path / fmt.BODIES, 4, change)


def edit_body_media_type(path: Path) -> None:
    edit(path, 4, fmt.BODIES, media_type="text/html")


def second_body_for_one_digest(path: Path) -> None:
    lines = lines_of(path, fmt.BODIES)
    put_lines(path, [*lines, lines[4].replace(b"text/plain", b"text/html")], fmt.BODIES)


def drop_body(path: Path) -> None:
    lines = lines_of(path, fmt.BODIES)
    put_lines(path, lines[:4] + lines[5:], fmt.BODIES)


def edit_sealed(path: Path) -> None:
    edit(path, 4, fmt.SEALED, jwe=base64.b64encode(b"{}").decode())


def edit_sealed_and_hash(path: Path) -> None:
    edit(
        path,
        4,
        fmt.SEALED,
        jwe=base64.b64encode(b"{}").decode(),
        jwe_sha256=hashlib.sha256(b"{}").hexdigest(),
    )


def edit_sealed_commitment(path: Path) -> None:
    edit(path, 4, fmt.SEALED, commitment="00" * 32)


def edit_sealed_name(path: Path) -> None:
    edit(path, 4, fmt.SEALED, name="response")


def drop_sealed(path: Path) -> None:
    lines = lines_of(path, fmt.SEALED)
    put_lines(path, lines[:4] + lines[5:], fmt.SEALED)


def flip_leaf_hash(path: Path) -> None:
    data = bytearray((path / fmt.LEAF_HASHES).read_bytes())
    data[4 * 32] ^= 1
    (path / fmt.LEAF_HASHES).write_bytes(bytes(data))


def flip_leaf_and_hash(path: Path) -> None:
    flip_byte_in_leaf(path)
    rehash(path)


def drop_leaf_hashes(path: Path) -> None:
    (path / fmt.LEAF_HASHES).unlink()


def drop_leaf_hashes_and_flip(path: Path) -> None:
    drop_leaf_hashes(path)
    flip_byte_in_leaf(path)


def cut_leaf_hashes(path: Path) -> None:
    (path / fmt.LEAF_HASHES).write_bytes((path / fmt.LEAF_HASHES).read_bytes()[:-32])


def other_logs_checkpoint(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(model().note(signer=OTHER_LOG, origin=OTHER_LOG.name))


def other_origin_signed_by_our_key(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(model().note(origin=OTHER_LOG.name))


def forged_note_of_another_key(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(model().note(signer=SAME_NAME))


def forged_note_keeping_the_signature(path: Path) -> None:
    flip_leaf_and_hash(path)
    leaves = [base64.b64decode(json.loads(line)["leaf"]) for line in lines_of(path)]
    changed = Model([json.loads(leaf) for leaf in leaves])
    signatures = (path / fmt.CHECKPOINT).read_bytes().split(b"\n\n")[1]
    text = changed.note().split(b"\n\n")[0]
    (path / fmt.CHECKPOINT).write_bytes(text + b"\n\n" + signatures)


def older_checkpoint_left(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(model().note(8))


def checkpoint_that_is_none(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(sign_note("hello\n", [LOG]))


def checkpoint_dropped(path: Path) -> None:
    (path / fmt.CHECKPOINT).unlink()


def leaves_dropped(path: Path) -> None:
    (path / fmt.LEAVES).unlink()


def break_body_line(path: Path) -> None:
    lines = lines_of(path, fmt.BODIES)
    put_lines(path, [*lines[:4], lines[4][:40], *lines[5:]], fmt.BODIES)


def break_sealed_line(path: Path) -> None:
    lines = lines_of(path, fmt.SEALED)
    put_lines(path, [*lines[:4], lines[4][:40], *lines[5:]], fmt.SEALED)


def endless_line(path: Path) -> None:
    lines = lines_of(path)
    put_lines(path, [*lines[:4], b" " * 2 * fmt.LEAF_LINE_LIMIT + lines[4], *lines[5:]])


def uneven_leaf_hashes(path: Path) -> None:
    (path / fmt.LEAF_HASHES).write_bytes((path / fmt.LEAF_HASHES).read_bytes() + b"x")


def huge_checkpoint(path: Path) -> None:
    (path / fmt.CHECKPOINT).write_bytes(b"x" * (16 * 1024 * 1024 + 1))


def size_of_64_bits(path: Path) -> None:
    text = format_checkpoint(Checkpoint(ORIGIN, 2**64 - 1, b"x" * 32))
    (path / fmt.CHECKPOINT).write_bytes(sign_note(text, [LOG]))


def manifest_of_other_size(path: Path) -> None:
    (path / fmt.MANIFEST).write_bytes(fmt.manifest_bytes(ORIGIN, 11, model().sources()))


def manifest_dropped(path: Path) -> None:
    (path / fmt.MANIFEST).unlink()


ATTACKS: list[tuple[Attack, str, int | None]] = [
    (flip_byte_in_leaf, "leaf-hash", 4),
    (flip_byte_in_leaf_and_column, "leaf-hash", 4),
    (flip_byte_of_base64, "leaf-hash", 4),
    (break_line, "leaf-line", 4),
    (delete, "leaf-missing", 4),
    (delete_and_renumber, "leaf-hash", 4),
    (insert, "leaf-hash", 4),
    (append_beyond, "leaf-beyond-checkpoint", 10),
    (swap_lines, "leaf-order", 4),
    (swap_and_renumber, "leaf-hash", 4),
    (duplicate, "leaf-duplicate", 4),
    (truncate, "leaf-missing", 7),
    (truncate_in_line, "leaf-line", 9),
    (edit_typed_column, "column-differs", 4),
    (edit_time_column, "column-differs", 4),
    (edit_fact_column, "column-differs", 4),
    (null_column, "column-differs", 4),
    (add_column, "column-differs", 4),
    (number_for_text, "column-differs", 4),
    (truth_for_number, "column-differs", 1),
    (edit_body, "body-edited", 4),
    (edit_body_and_digest, "body-missing", 4),
    (edit_body_media_type, "body-edited", 4),
    (second_body_for_one_digest, "body-edited", 4),
    (drop_body, "body-missing", 4),
    (edit_sealed, "sealed-edited", 4),
    (edit_sealed_and_hash, "sealed-edited", 4),
    (edit_sealed_commitment, "sealed-edited", 4),
    (edit_sealed_name, "sealed-edited", 4),
    (drop_sealed, "sealed-missing", 4),
    (flip_leaf_hash, "leaf-hashes", None),
    (flip_leaf_and_hash, "root", None),
    (drop_leaf_hashes, "leaf-hashes", None),
    (drop_leaf_hashes_and_flip, "root", None),
    (cut_leaf_hashes, "leaf-hashes", None),
    (other_logs_checkpoint, "note", None),
    (other_origin_signed_by_our_key, "origin", None),
    (forged_note_of_another_key, "note", None),
    (forged_note_keeping_the_signature, "note", None),
    (older_checkpoint_left, "leaf-beyond-checkpoint", 8),
    (checkpoint_that_is_none, "checkpoint", None),
    (checkpoint_dropped, "note", None),
    (leaves_dropped, "leaf-missing", 0),
    (break_body_line, "body-missing", 4),
    (break_sealed_line, "sealed-missing", 4),
    (endless_line, "leaf-line", 4),
    (uneven_leaf_hashes, "leaf-hashes", None),
    (huge_checkpoint, "note", None),
    (size_of_64_bits, "leaf-missing", 10),
    (manifest_of_other_size, "manifest", None),
    (manifest_dropped, "manifest", None),
]


@pytest.mark.parametrize(("attack", "code", "index"), ATTACKS, ids=[a[0].__name__ for a in ATTACKS])
def test_attack_is_detected_and_named(attack: Attack, code: str, index: int | None, tmp_path: Path) -> None:
    path = model().write(tmp_path / "export")
    assert check(path).ok
    attack(path)
    report = check(path)
    assert not report.ok
    assert Status.FAILED in (report.integrity.status, report.completeness.status)
    assert code in report.counts
    assert report.first_bad_index == index
    assert any(f.code == code and f.index == index for f in report.findings)
    assert any(step.passed is False for step in report.steps)


def test_only_completeness_is_lost_with_a_body(tmp_path: Path) -> None:
    path = model().write(tmp_path / "export")
    drop_body(path)
    report = check(path)
    assert report.integrity.status is Status.OK
    assert report.completeness.status is Status.FAILED


def test_missing_key_proves_self_consistency_only(tmp_path: Path) -> None:
    path = model().write(tmp_path / "export")
    report = verify_export(path, vkeys=None, now=NOW)
    assert report.ok
    assert report.key_source == "from the export"
    assert report.integrity.status is Status.LIMITED
    assert "self-consistent only" in report.integrity.text
    # A whole forged export agrees with itself, and only with itself.
    forged = Model(model(5).leaves).write(tmp_path / "forged")
    (forged / fmt.LOG_VKEY).write_text(SAME_NAME.vkey + "\n")
    (forged / fmt.CHECKPOINT).write_bytes(model(5).note(signer=SAME_NAME))
    assert verify_export(forged, vkeys=None, now=NOW).integrity.status is Status.LIMITED
    assert check(forged).integrity.status is Status.FAILED
    (path / fmt.LOG_VKEY).unlink()
    report = verify_export(path, vkeys=None, now=NOW)
    assert report.integrity.status is Status.FAILED
    assert {"key", "note"} <= set(report.counts)
    assert check(path).ok  # with a pinned key the file is not needed


def test_older_checkpoint_of_every_size(tmp_path: Path) -> None:
    built = model()
    path = built.write(tmp_path / "export")
    for size in range(11):
        assert check(path, built.note(size)).ok
        drop = tmp_path / f"no-hashes-{size}"
        built.write(drop)
        drop_leaf_hashes(drop)
        assert set(check(drop, built.note(size)).counts) == {"leaf-hashes"}


def test_roll_back_and_fork_against_a_pinned_checkpoint(tmp_path: Path) -> None:
    long = model(12)
    rolled = check(model(10).write(tmp_path / "rolled"), long.note())
    assert "rolled-back" in rolled.counts
    assert rolled.first_bad_index == 10

    forked_model = model(12)
    forked_model.leaves[4]["facts"]["subject"] = "rewritten"
    path = forked_model.write(tmp_path / "forked")
    assert check(path).ok  # signed with the stolen key: nothing to see without a memory
    assert "fork" in check(path, long.note(8)).counts
    assert check(path, long.note(4)).ok  # before the fork
    assert "fork" in check(path, long.note(12)).counts

    wrong_root = sign_note(format_checkpoint(Checkpoint(ORIGIN, 0, b"x" * 32)), [LOG])
    assert "fork" in check(path, wrong_root).counts
    for bad in (b"", b"x" * 200, long.note(8, signer=SAME_NAME), long.note(8, origin="other")):
        report = check(path, bad)
        assert report.integrity.status is Status.FAILED
        assert "against" in report.counts


def test_repeated_entry(tmp_path: Path) -> None:
    same = model()
    same.leaves.append(json.loads(json.dumps(same.leaves[3])))
    assert check(same.write(tmp_path / "same")).ok

    differing = model()
    differing.add("other", id=uid("leaf 3"))
    report = check(differing.write(tmp_path / "differing"))
    assert report.counts == {"id-repeated": 1}
    assert report.first_bad_index == 10
    assert "leaf 3" in report.findings[0].text
    assert report.integrity.status is Status.FAILED


def test_one_source_message_in_two_ways(tmp_path: Path) -> None:
    built = model()
    first = built.leaves[3]
    built.add("other", source=first["source"], change_id=first["change_id"])
    report = check(built.write(tmp_path / "two-ways"))
    assert report.counts == {"position-repeated": 1}
    assert report.coverage.status is Status.FAILED
    assert report.integrity.status is Status.OK
    assert report.first_bad_index == 10

    fine = model()
    fine.add("other", source=fine.leaves[3]["source"], change_id=fine.leaves[3]["change_id"], kind="release")
    assert check(fine.write(tmp_path / "fine")).ok


def test_manifest_of_other_sources(tmp_path: Path) -> None:
    path = model().write(tmp_path / "export")
    (path / fmt.MANIFEST).write_bytes(fmt.manifest_bytes(ORIGIN, 10, {}))
    report = check(path)
    assert report.counts == {"sources": 1}
    assert report.coverage.status is Status.FAILED


def test_erasure_accounts_for_what_is_gone_only_when_it_comes_later(tmp_path: Path) -> None:
    def export(name: str, at: int) -> Report:
        built = model(6)
        gone_body = bytes.fromhex(built.leaves[2]["bodies"][0]["digest"])
        gone_part = built.leaves[2]["sealed"][0]["jwe_sha256"]
        facts = {"bodies": [gone_body.hex()], "sealed": [gone_part]}
        built.add("erasure", kind=fmt.ERASURE_KIND, facts=facts, change_id=None, bodies=[], sealed=[])
        built.leaves.insert(at, built.leaves.pop())
        del built.bodies[gone_body]
        built.sealed = [part for part in built.sealed if part[1:] != ("request", b'{"ciphertext":"leaf 2"}')]
        return check(built.write(tmp_path / name))

    later = export("later", 6)
    assert later.ok
    assert later.erased == 2
    earlier = export("earlier", 1)
    assert earlier.completeness.status is Status.FAILED
    assert earlier.first_bad_index == 3
    assert set(earlier.counts) >= {"body-missing", "sealed-missing"}


def test_erasure_that_lists_no_digests(tmp_path: Path) -> None:
    built = model(3)
    built.add("erasure", kind=fmt.ERASURE_KIND, facts={"bodies": "all"})
    built.add("erasure 2", kind=fmt.ERASURE_KIND, facts={"sealed": ["all"]})
    report = check(built.write(tmp_path / "export"))
    assert report.counts == {"leaf-grammar": 2}
    assert report.first_bad_index == 3


def test_parts_that_no_leaf_names_are_reported_and_fail_nothing(tmp_path: Path) -> None:
    built = model()
    bodies, sealed = built.bodies.copy(), built.sealed.copy()
    built.leaves[3]["bodies"] = built.leaves[3]["sealed"] = []
    assert (built.bodies, built.sealed) == (bodies, sealed)
    report = check(built.write(tmp_path / "export"))
    assert report.counts == {"body-unreferenced": 1, "sealed-unreferenced": 1}
    assert report.ok
    assert report.first_bad_index is None


def test_no_flipped_byte_of_any_file_goes_unnoticed(tmp_path: Path) -> None:
    path = model(3).write(tmp_path / "export")
    names = [item.name for item in path.iterdir() if item.name != fmt.LOG_VKEY]  # the key is pinned
    assert len(names) == 6
    for name in names:
        data = (path / name).read_bytes()
        for position in range(0, len(data), 7):
            changed = bytearray(data)
            changed[position] ^= 1 + position % 255
            (path / name).write_bytes(bytes(changed))
            assert not check(path).ok, (name, position)
        (path / name).write_bytes(data)
    assert check(path).ok


def test_thousands_of_findings_stay_bounded(tmp_path: Path) -> None:
    path = model(300).write(tmp_path / "export")
    lines = lines_of(path)
    put_lines(path, renumber([lines[9], *lines]))
    report = check(path)
    assert report.first_bad_index == 0
    assert report.counts["leaf-hash"] == 300
    assert len(report.findings) < 100
