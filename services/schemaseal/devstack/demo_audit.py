"""Steps 6 and 7 of the demo: what an auditor can ask, what nobody can find, and what proves itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import DatabaseError

from schemaseal.devstack import orders
from schemaseal.devstack.leaksearch import plant, search
from schemaseal.devstack.story import Stack, until
from schemaseal.devstack.telling import SUBJECT, Story, check, why

CHANGES_SQL = """
SELECT subject, operation, requester_name, initiator_name, verdict, approvers, outcome
FROM changes WHERE subject = {subject:String} ORDER BY requested_at
"""
TIMELINE_SQL = "SELECT at, kind, actor, what FROM change_timeline WHERE change_id = {change:String} ORDER BY idx"
PERIOD_SQL = "SELECT * FROM population_by_period ORDER BY ALL"


def auditor(story: Story) -> list[str]:
    """Step 6: plain SQL as the auditor, escapes refused, and a search for what must not be there."""
    stack = story.stack

    def settled() -> list[Any] | None:
        with stack.sql() as sql:
            rows = list(sql.query(CHANGES_SQL, parameters={"subject": SUBJECT}).named_results())
        return rows if sum(row["outcome"] in ("applied", "rejected") for row in rows) >= 3 else None

    rows = until("the outcomes in evidence", settled)
    approved = [row for row in rows if row["approvers"] and row["outcome"] == "applied"]
    deleted = [row for row in rows if row["operation"] == "delete_subject"]
    lines = [
        check(
            len(approved) == 1 and approved[0]["requester_name"] == "alice" and approved[0]["approvers"] == ["bob"],
            "changes: alice's version 2 was approved by bob and applied",
        ),
        check(
            len(deleted) == 1
            and (deleted[0]["requester_name"], deleted[0]["initiator_name"]) == ("ci", "alice")
            and deleted[0]["outcome"] == "rejected",
            "changes: the delete was requested by ci, initiated by alice, and rejected",
        ),
    ]
    with stack.sql() as sql:
        timeline = list(sql.query(TIMELINE_SQL, parameters={"change": story.changes["v2"]}).named_results())
        periods = list(sql.query(PERIOD_SQL).named_results())
        ((changes,),) = sql.query("SELECT count() FROM changes").result_rows
    kinds = [row["kind"] for row in timeline]
    wanted = ["change.assessed", "change.decided", "change.released", "change.applying", "change.closed"]
    lines.append(
        check(
            [k for k in dict.fromkeys(kinds) if k in wanted] == wanted,
            f"timeline of version 2: {' → '.join(kinds)}",
        )
    )
    requested = sum(row["items"] for row in periods if row["population"] == "changes requested")
    lines.append(
        check(requested == changes > 0, f"population per period: {len(periods)} rows, {changes} changes requested")
    )
    for what, statement in (
        ("a write", "INSERT INTO evidence.records (log, idx, leaf) VALUES ('x', 0, 'x')"),
        ("SELECT file('/proc/self/environ')", "SELECT file('/proc/self/environ')"),
    ):
        lines.append(check(_refused(stack, statement), f"{what} as ana is refused"))
    lines += _search(story)
    return lines


def _refused(stack: Stack, statement: str) -> bool:
    try:
        with stack.sql() as sql:
            sql.command(statement)
    except DatabaseError as error:
        return "code: 497" in str(error)  # ClickHouse's number for "not allowed to you"
    return False


def _search(story: Story) -> list[str]:
    """The same search must find a control value in each kind of place, so that it is known to look there."""
    stack = story.stack
    plant(stack.deployment, orders.CONTROL)
    values = {"card": orders.CARD, "e-mail": orders.EMAIL, "ssn": orders.SSN, "ssn digits": orders.SSN.replace("-", "")}
    tokens = dict.fromkeys(stack.tokens)
    values |= {f"token {number}": token for number, token in enumerate(tokens)}
    hits, total = search(stack.deployment, values, orders.CONTROL)
    found = [hit for hit in hits if hit.label != "control"]
    looked = {hit.place.split(" ")[0] for hit in hits if hit.label == "control"}
    return [
        check(
            not found,
            f"{total / 1e6:.0f} MB of topics, tables, logs and files hold neither card, e-mail, SSN nor any of "
            f"{len(tokens)} tokens, in any form" + "".join(f"; {h.label} as {h.form} in {h.place}" for h in found[:3]),
        ),
        check(
            looked == {"kafka", "clickhouse", "file"},
            "a control value planted in a compressed record, in a table and in a file is found in each",
        ),
    ]


def verified(story: Story) -> list[str]:
    """Step 7: export, verify offline, flip one byte, and see which record is named."""
    stack = story.stack
    out = stack.deployment.data / "export"
    key = stack.deployment.vkey
    exported = stack.cli("audit", "export", "--data", str(stack.deployment.data), "--out", str(out), "--json")
    check(exported.returncode == 0, f"the evidence is exported{why(exported)}")
    good = stack.cli("verify", str(out), "--key", key, "--json")
    check(good.returncode == 0, f"the export verifies{why(good)}")
    size = json.loads(exported.stdout)["size"]
    edited = stack.deployment.data / "export-edited"
    shutil.copytree(out, edited)
    index = _flip(edited)
    bad = stack.cli("verify", str(edited), "--key", key, "--json")
    report = json.loads(bad.stdout)
    shutil.rmtree(out)
    shutil.rmtree(edited)
    return [
        f"offline, against the signed checkpoint: {size} records, nothing changed, removed, reordered or added",
        check(
            bad.returncode == 1 and report["first_bad_index"] == index,
            f"with one byte flipped in a copy, verification names record {report.get('first_bad_index')}",
        ),
    ]


def _flip(export: Path) -> int:
    """Flip one byte inside a leaf in the middle of the export; returns its index."""
    from schemaseal.verify.export_format import LEAVES, leaf_line, parse_leaf_line

    path = export / LEAVES
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    row = parse_leaf_line(lines[middle])
    leaf = bytearray(row.leaf)
    at = leaf.index(b'"facts"') + 3
    leaf[at] ^= 0x01
    lines[middle] = leaf_line(row.index, bytes(leaf), row.columns)
    path.write_bytes(b"".join(lines))
    return row.index
