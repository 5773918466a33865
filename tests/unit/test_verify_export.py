"""The verifier on good exports and odd ones: verdicts, leaf grammar, lines, tables, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemaseal.tlog import leaf_hash, root_hash
from schemaseal.verify import STEPS, Status, verify_export
from schemaseal.verify import export_format as fmt
from schemaseal.verify.__main__ import main
from schemaseal.verify.leafcheck import column_differences, parse_leaf
from schemaseal.verify.report import render
from schemaseal.verify.tables import Indexes, Repeats, Roots
from tests.unit.verify_export_builder import LOG, OTHER_LOG, Model, edit_json_line, make_body, model

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
LAST = datetime(2026, 11, 23, 8, 0, 9, 123000, tzinfo=UTC)
SOURCES = Path(__file__).parents[2] / "services"


def test_good_export(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = verify_export(
        model().write(tmp_path / "export"),
        vkeys=[OTHER_LOG.vkey, LOG.vkey],
        now=NOW,
        progress=lambda *call: calls.append(call),
    )
    assert report.ok
    assert report.integrity.status is Status.OK
    assert report.completeness.status is Status.OK
    assert report.freshness.status is Status.NOT_ASKED
    assert report.coverage.status is Status.LIMITED
    assert (report.leaves, report.bodies, report.sealed, report.size) == (10, 10, 10, 10)
    assert report.signed_by == (LOG.vkey,)
    assert report.findings == ()
    assert report.last_at == "2026-11-23T08:00:09.123Z"
    assert {call[0] for call in calls} == {"tree", fmt.LEAVES, fmt.BODIES, fmt.SEALED}
    assert all(done <= total for _, done, total in calls)
    assert [step.number for step in report.steps] == list(range(1, len(STEPS) + 1))
    assert {step.name: step.passed for step in report.steps if step.passed is not True} == {
        "older checkpoint": None,
        "freshness": None,
    }
    value = json.loads(report.to_json())
    assert value["ok"] is True
    assert value["integrity"]["status"] == "ok"
    assert value["first_bad_index"] is None
    assert "INTEGRITY" not in render(report)
    assert "OK" in render(report)


def test_empty_log(tmp_path: Path) -> None:
    path = Model().write(tmp_path / "export")
    report = verify_export(path, vkeys=[LOG.vkey], now=NOW)
    assert report.ok
    assert report.size == 0
    assert verify_export(path, vkeys=[LOG.vkey], now=NOW, max_age=timedelta(1)).freshness.status is Status.FAILED


@pytest.mark.parametrize(
    ("age", "limit", "status"),
    [
        (timedelta(seconds=60), timedelta(seconds=60), Status.OK),
        (timedelta(seconds=61), timedelta(seconds=60), Status.FAILED),
        (timedelta(minutes=-4), timedelta(seconds=60), Status.OK),
        (timedelta(minutes=-6), timedelta(seconds=60), Status.FAILED),
    ],
)
def test_freshness(age: timedelta, limit: timedelta, status: Status, tmp_path: Path) -> None:
    path = model().write(tmp_path / "export")
    report = verify_export(path, vkeys=[LOG.vkey], now=LAST + age, max_age=limit)
    assert report.freshness.status is status
    assert report.integrity.status is Status.OK
    assert report.ok is (status is Status.OK)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = model(1).write(tmp_path / "export")
    with pytest.raises(ValueError, match="pinned"):
        verify_export(path, vkeys=[], now=NOW)
    with pytest.raises(ValueError, match="verifier key"):
        verify_export(path, vkeys=["nonsense"], now=NOW)
    with pytest.raises(ValueError, match="time zone"):
        verify_export(path, vkeys=None, now=NOW.replace(tzinfo=None))
    with pytest.raises(NotADirectoryError):
        verify_export(path / "no", vkeys=None, now=NOW)


def leaf(**changes: Any) -> bytes:
    value = model(1).leaves[0]
    value.update(changes)
    return json.dumps(value).encode()


GOOD = leaf()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("not JSON", b"{"),
        ("two values", GOOD + GOOD),
        ("array", b"[]"),
        ("byte order mark", b"\xef\xbb\xbf" + GOOD),
        ("UTF-16", GOOD.decode().encode("utf-16")),
        ("not UTF-8", GOOD.replace(b"orders", b"\xff")),
        ("a key twice", GOOD[:-1] + b', "kind": "other"}'),
        ("a key twice in facts", GOOD.replace(b'"required": 2', b'"required": 2, "required": 3')),
        ("NaN", GOOD.replace(b'"required": 2', b'"required": NaN')),
        ("too deep", GOOD[:-1] + b', "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
        ("number too long", GOOD[:-1] + b', "x": ' + b"1" * 5000 + b"}"),
        ("over the limit", GOOD[:-1] + b', "x": "' + b"y" * 65536 + b'"}'),
        ("version 2", leaf(v=2)),
        ("version true", leaf(v=True)),
        ("id no UUID", leaf(id="1")),
        ("id in upper case", leaf(id="ABCDEF00-0000-5000-8000-000000000000")),
        ("id with newline", leaf(id="abcdef00-0000-5000-8000-000000000000\n")),
        ("kind empty", leaf(kind="")),
        ("kind a number", leaf(kind=1)),
        ("at without milliseconds", leaf(at="2026-11-23T08:00:00Z")),
        ("at with offset", leaf(at="2026-11-23T08:00:00.000+00:00")),
        ("at in other digits", leaf(at="２026-11-23T08:00:00.000Z")),  # noqa: RUF001 - a fullwidth two
        ("at on no day", leaf(at="2026-02-30T08:00:00.000Z")),
        ("target empty", leaf(target="")),
        ("change_id no UUID", leaf(change_id="x")),
        ("source null", leaf(source=None)),
        ("source without offset", leaf(source={"topic": "t", "partition": 0})),
        ("offset negative", leaf(source={"topic": "t", "partition": 0, "offset": -1})),
        ("offset true", leaf(source={"topic": "t", "partition": 0, "offset": True})),
        ("bodies an object", leaf(bodies={})),
        ("body a string", leaf(bodies=["x"])),
        ("digest short", leaf(bodies=[{"name": "a", "media_type": "b", "size": 1, "digest": "00"}])),
        ("digest upper", leaf(bodies=[{"name": "a", "media_type": "b", "size": 1, "digest": "AB" * 32}])),
        ("sealed without hash", leaf(sealed=[{"name": "a", "commitment": "00" * 32}])),
        ("facts a list", leaf(facts=[])),
    ]
    + [
        (f"no {name}", json.dumps({k: v for k, v in json.loads(GOOD).items() if k != name}).encode())
        for name in json.loads(GOOD)
    ],
)
def test_leaf_outside_the_grammar(name: str, data: bytes) -> None:
    with pytest.raises(fmt.ExportFormatError):
        parse_leaf(data)


def test_a_signed_leaf_outside_the_grammar_is_a_finding(tmp_path: Path) -> None:
    built = model()
    built.leaves[6]["kind"] = ""
    report = verify_export(built.write(tmp_path / "export"), vkeys=[LOG.vkey], now=NOW)
    assert "leaf-grammar" in report.counts
    assert report.first_bad_index == 6


def test_further_keys_of_a_leaf_are_allowed() -> None:
    assert parse_leaf(leaf(extra=1)).kind == "change.assessed"


def test_columns() -> None:
    read = parse_leaf(leaf(target=None))
    assert column_differences(read, {"target": "", "v": 1, "required": 2, "source_topic": "changes.intercepted"}) == []
    assert column_differences(read, {"target": None, "at": read.at, "at_": 1}) != []
    assert column_differences(read, {"required": True}) != []
    assert column_differences(read, {"required": "2"}) != []


GOOD_LEAF_LINE = fmt.leaf_line(0, GOOD, {"kind": "change.assessed"})
GOOD_BODY_LINE = fmt.body_line(*make_body("x")[:2], "text/plain", b"x")
GOOD_SEALED_LINE = fmt.sealed_line(b"c" * 32, "request", b"{}")


def test_golden_lines() -> None:
    assert fmt.leaf_line(3, b"{}", {"id": "a", "n": 1, "t": None}) == (
        b'{"index":3,"leaf":"e30=","columns":{"id":"a","n":1,"t":null}}\n'
    )
    assert fmt.body_line(b"\1" * 32, b"\0" * 32, "text/plain", b"x") == (
        b'{"digest":"' + b"01" * 32 + b'","salt":"' + b"A" * 43 + b'=","media_type":"text/plain","content":"eA=="}\n'
    )
    assert fmt.sealed_line(b"\2" * 32, "request", b"{}") == (
        b'{"commitment":"' + b"02" * 32 + b'","name":"request","jwe":"e30=",'
        b'"jwe_sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}\n'
    )
    assert fmt.manifest_bytes("o", 2, {("t", 0): fmt.SourceRange(4, 5, 2)}) == (
        b'{"format":"schemaseal-export/1","origin":"o","size":2,"sources":{"t/0":{"first":4,"last":5,"leaves":2}}}\n'
    )


@given(st.integers(0, 2**63), st.binary(max_size=200), st.dictionaries(st.text(), st.none() | st.integers()))
def test_leaf_line_round_trip(index: int, data: bytes, columns: dict[str, int | None]) -> None:
    line = fmt.leaf_line(index, data, columns)
    assert line.count(b"\n") == 1
    assert fmt.parse_leaf_line(line) == fmt.LeafRow(index, data, columns)


@given(st.text(max_size=20), st.text(max_size=50))
def test_part_lines_round_trip(name: str, text: str) -> None:
    digest, salt, content = make_body(text)
    row = fmt.parse_body_line(fmt.body_line(digest, salt, name, content))
    assert row == fmt.BodyRow(digest, name, len(content), authentic=True)
    assert not fmt.parse_body_line(fmt.body_line(digest, salt, name, content + b"x")).authentic
    sealed = fmt.parse_sealed_line(fmt.sealed_line(digest, name, content))
    assert (sealed.commitment, sealed.name, sealed.authentic) == (digest, name, True)


@pytest.mark.parametrize(
    "line",
    [
        GOOD_LEAF_LINE[:-1],
        b"\n",
        b"[]\n",
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":-1'),
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":0.0'),
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":true'),
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":"0"'),
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":0,"index":1'),
        GOOD_LEAF_LINE.replace(b'"index":0', b'"index":18446744073709551616'),
        GOOD_LEAF_LINE.replace(b'"leaf":"', b'"leaf":"*'),
        GOOD_LEAF_LINE.replace(b'"leaf":"', b'"leaf":" '),
        GOOD_LEAF_LINE.replace(b'"columns":{', b'"more":1,"columns":{'),
        fmt.leaf_line(0, GOOD, {}).replace(b"{}}", b"[]}"),
    ],
)
def test_leaf_line_outside_the_format(line: bytes) -> None:
    with pytest.raises(fmt.ExportFormatError):
        fmt.parse_leaf_line(line)


def test_part_lines_outside_the_format() -> None:
    for body in (GOOD_BODY_LINE[:-1], GOOD_BODY_LINE.replace(b'"salt":"', b'"salt":"AAAA'), GOOD_SEALED_LINE):
        with pytest.raises(fmt.ExportFormatError):
            fmt.parse_body_line(body)
    for sealed in (GOOD_SEALED_LINE[:-1], GOOD_SEALED_LINE.replace(b"63", b"6G", 1), GOOD_BODY_LINE):
        with pytest.raises(fmt.ExportFormatError):
            fmt.parse_sealed_line(sealed)
    for manifest in (b"{}\n", fmt.manifest_bytes("o", 0, {}).replace(b"export/1", b"export/2")):
        with pytest.raises(fmt.ExportFormatError):
            fmt.parse_manifest(manifest)


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 40))
def test_indexes_are_those_of_a_set(taken: list[int], size: int) -> None:
    indexes, seen = Indexes(), set[int]()
    for index in taken:
        expected = "duplicate" if index in seen else "order" if index < max(seen, default=-1) else None
        assert indexes.take(index) == expected
        seen.add(index)
    missing = {index for start, end in indexes.missing(size) for index in range(start, end)}
    assert missing == set(range(size)) - seen


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=30))
def test_repeats_are_those_of_a_dictionary(entries: list[tuple[int, int]]) -> None:
    repeats, first, expected = Repeats(), dict[int, tuple[int, int]](), set[tuple[int, int]]()
    for index, (key, content) in enumerate(entries):
        repeats.add(bytes([key]) * 16, index, bytes([content]) * 32)
        at, known = first.setdefault(key, (index, content))
        if known != content:
            expected.add((at, index))
    assert {(r.first, r.index) for r in repeats.differing()} == expected


@given(st.integers(0, 40), st.lists(st.integers(0, 50), max_size=5), st.integers(1, 12))
def test_roots_at_sizes_of_a_stream(count: int, sizes: list[int], step: int) -> None:
    hashes = [leaf_hash(b"%d" % index) for index in range(count)]
    roots = Roots(sizes)
    for start in range(0, count, step):
        roots.extend(hashes[start : start + step])
    assert roots.size == count
    assert roots.at == {size: root_hash(hashes[:size]) for size in sizes if size <= count}


# The command in a process of its own: no socket can be made, and what it imported is told at the end.
CONFINED = """
import runpy, socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the verifier opened a socket")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = ["verify", *sys.argv[1:]]
try:
    runpy.run_module("schemaseal.verify", run_name="__main__")
finally:
    print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CONFINED, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
        env={"PYTHONPATH": str(SOURCES), "LC_ALL": "C"},
    )


def test_the_command_stands_alone(tmp_path: Path) -> None:
    built = model()
    path = built.write(tmp_path / "export")
    older = tmp_path / "older"
    older.write_bytes(built.note(5))
    done = run(str(path), "--key", LOG.vkey, "--against", str(older), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["key_source"] == "pinned"
    modules = done.stderr.split("\n")
    rooms = {name.split(".")[1] for name in modules if name.startswith("schemaseal.")}
    assert rooms <= {"verify", "tlog", "contracts"}
    known = set(sys.stdlib_module_names) | {"schemaseal", "cryptography", "_cffi_backend", "_openssl"}
    foreign = {name.split(".")[0] for name in modules if name} - known
    # What the interpreter's own start-up brings in (editable installs and the like) is not the verifier's.
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd="/",
        env={"PYTHONPATH": str(SOURCES), "LC_ALL": "C"},
    )
    assert foreign <= {name.split(".")[0] for name in bare.stdout.split("\n")}


def test_command_in_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model(30).write(tmp_path / "export")
    old = str(10**9)
    assert main([str(path), "--key", LOG.vkey, "--max-age", old]) == 0
    assert "FRESHNESS" not in capsys.readouterr().out
    (path / fmt.BODIES).write_bytes(b"{}\n" * 50)
    assert main([str(path), "--key", LOG.vkey]) == 1
    assert "more of these codes" in capsys.readouterr().out
    assert main([str(path), "--key", "nonsense"]) == 2
    assert "cannot verify" in capsys.readouterr().err


def test_exit_codes_and_text_of_the_command(tmp_path: Path) -> None:
    built = model()
    built.leaves[3]["facts"]["subject"] = "\x1b[31mé\u2028"
    path = built.write(tmp_path / "export")
    good = run(str(path))
    assert good.returncode == 0, good.stderr
    assert "self-consistent only" in good.stdout
    edit_json_line(path / fmt.LEAVES, 3, lambda row: row["columns"].update({"kind": "\x1b[31m"}))
    bad = run(str(path), "--key", LOG.vkey)
    assert bad.returncode == 1
    assert "first bad index: 3" in bad.stdout
    assert "\x1b" not in bad.stdout
    for arguments in (
        (),
        (str(path), "--nonsense"),
        (str(path), "--key", "nonsense"),
        (str(path / "absent"),),
        (str(path), "--against", str(path / "absent")),
        (str(path), "--max-age", "-1"),
    ):
        assert run(*arguments).returncode == 2
