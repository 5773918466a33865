"""The steps of the demo. Each returns what it showed, line by line, or raises `DemoFailed`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from clickhouse_connect.driver.exceptions import DatabaseError
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemaseal.contracts import codec
from schemaseal.contracts.events import ChangeReleased, ReleaseOrder
from schemaseal.contracts.topics import PARTITIONER, RELEASED
from schemaseal.core.ids import new_id, subject_key
from schemaseal.devstack import orders
from schemaseal.devstack.deployment import TARGET
from schemaseal.devstack.leaksearch import search
from schemaseal.devstack.story import Stack, until
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys
from schemaseal.sealing.signing import RELEASE_DOMAIN, Signer

SUBJECT = "orders-value"


class DemoFailed(AssertionError):  # noqa: N818 - named for what it is
    """One assertion of the story did not hold; the text is the sentence for the reader."""


@dataclass(slots=True)
class Story:
    """What later steps know of earlier ones."""

    stack: Stack
    ids: dict[str, int] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)


def check(held: bool, sentence: str) -> str:
    """The sentence, if it holds."""
    if not held:
        raise DemoFailed(f"this did not hold: {sentence}")
    return sentence


def _value(future: Future[Any], seconds: float = 60) -> Any:
    return future.result(seconds)


def first_version(story: Story) -> list[str]:
    """Step 2: low risk, the registry's own answer, and repeats that hold nothing."""
    stack = story.stack
    client = stack.registry_client(stack.person("alice"))
    text = orders.order_v1_text()
    schema = Schema(text, "JSON")
    story.ids["v1"] = client.register_schema(SUBJECT, schema)
    direct = stack.direct()
    stored = direct.schema_text(SUBJECT, "latest")
    again = stack.registry_client(stack.person("alice")).register_schema(SUBJECT, schema)
    small = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}}
    old = Schema(json.dumps(small | {"title": "one"}), "JSON")
    new = Schema(json.dumps(small | {"title": "two"}), "JSON")
    fresh = stack.registry_client(stack.person("alice"))
    old_id, new_id_ = (
        fresh.register_schema("greetings-value", old),
        fresh.register_schema("greetings-value", new),
    )
    fresh = stack.registry_client(stack.person("alice"))
    old_again = fresh.register_schema("greetings-value", old)
    latest = direct.schema_text("greetings-value", "latest")
    return [
        check(
            story.ids["v1"] > 0,
            f"alice's unmodified SchemaRegistryClient registered {SUBJECT}: id {story.ids['v1']}",
        ),
        check(stored == text, f"the registry has the schema byte for byte ({len(text)} bytes)"),
        check(again == story.ids["v1"], "the same call from a restarted producer is answered with the same id"),
        check(
            old_again == old_id != new_id_ and "two" in latest,
            "an old version registered again while a newer one is latest gets its old id and changes nothing",
        ),
    ]


def high_risk(story: Story) -> list[str]:
    """Step 3: held, own approvals refused, approved by bob, applied once."""
    stack = story.stack
    alice, ci, bob = stack.person("alice"), stack.machine("ci", "alice"), stack.person("bob")
    schema = Schema(orders.order_v2_text(), "JSON")
    held = stack.background(lambda: stack.registry_client(alice).register_schema(SUBJECT, schema))
    change = until("alice's change to wait", lambda: stack.pending("register", bob, "alice"))
    held_ci = stack.background(lambda: stack.registry_client(ci).register_schema(SUBJECT, schema))
    by_ci = until("the change of ci to wait", lambda: stack.pending("register", bob, "ci"))
    answer, answer_ci = _value(held), _value(held_ci)
    lines = [
        check(
            isinstance(answer, SchemaRegistryError) and answer.http_status_code == 423,
            f"version 2 lacks a required property and has an SSN: held. {getattr(answer, 'error_message', answer)}",
        ),
        check(
            isinstance(answer_ci, SchemaRegistryError) and answer_ci.http_status_code == 423,
            "so is the same from ci",
        ),
    ]
    own = stack.cli("change", "approve", change["change_id"], "--json", token=alice)
    lines.append(
        check(own.returncode == 1 and "own_change" in own.stdout + own.stderr, "alice's own approval is refused")
    )
    for_ci = stack.cli("change", "approve", by_ci["change_id"], "--json", token=alice)
    lines.append(
        check(
            for_ci.returncode == 1 and "own_change" in for_ci.stdout + for_ci.stderr,
            "alice's approval of the change that ci sent for her is refused",
        )
    )
    shown = stack.cli("change", "show", change["change_id"], token=bob)
    leaked = [value for value in (orders.SSN, orders.CARD, orders.EMAIL) if value in shown.stdout]
    lines.append(
        check(shown.returncode == 0 and not leaked, "bob sees the difference and the findings, not the values")
    )
    lines.append(check(stack.direct().versions(SUBJECT) == [1], "the registry still has version 1 only"))
    approved = stack.cli("change", "approve", change["change_id"], "--reason", "agreed in review", token=bob)
    lines.append(check(approved.returncode == 0, f"bob approves with the CLI{_why(approved)}"))
    repeated = stack.background(lambda: stack.registry_client(stack.person("alice")).register_schema(SUBJECT, schema))
    story.ids["v2"] = _value(repeated)
    lines.append(
        check(isinstance(story.ids["v2"], int), f"alice's client, repeating its call, gets id {story.ids['v2']}")
    )
    direct = stack.direct()
    lines.append(
        check(
            direct.versions(SUBJECT) == [1, 2] and direct.schema_text(SUBJECT, "2") == orders.order_v2_text(),
            "the applier applied exactly those bytes, once",
        )
    )
    refused = direct.status_with(alice)
    lines.append(check(refused in (401, 403), f"alice's own token is worth nothing at the registry ({refused})"))
    story.changes["v2"] = change["change_id"]
    return lines


def _why(result: Any) -> str:
    return "" if result.returncode == 0 else f": {result.stdout}{result.stderr}"


def rejected_delete(story: Story) -> list[str]:
    """Step 4: a delete by a machine, rejected with a reason that reaches the client."""
    stack = story.stack
    carol = stack.person("carol")
    client = stack.registry_client(stack.machine("ci", "alice"))
    held = stack.background(lambda: client.delete_subject(SUBJECT))
    change = until("the delete to wait", lambda: stack.pending("delete_subject", carol))
    reason = "nine services still read it"
    rejected = stack.cli("change", "reject", change["change_id"], "--reason", reason, token=carol)
    answer = _value(held)
    story.changes["delete"] = change["change_id"]
    return [
        check(rejected.returncode == 0, f"ci deletes {SUBJECT}: held; carol rejects it{_why(rejected)}"),
        check(
            isinstance(answer, SchemaRegistryError) and reason in answer.error_message,
            f"the client gets the reason: {getattr(answer, 'error_message', answer)}",
        ),
        check(stack.direct().versions(SUBJECT) == [1, 2], "the registry still has the subject"),
    ]


def refused_calls(story: Story) -> list[str]:
    """Step 5: nobody, a stranger, the wrong kind of token, an unknown path, a hand-made release."""
    stack = story.stack
    url = stack.deployment.ingress_url
    foreign = _foreign_token()
    stack.tokens.append(foreign)
    identity = stack.id_token("alice")
    cases = [
        ("no token", "/subjects", None, 401),
        ("a foreign issuer's token", "/subjects", foreign, 401),
        ("an ID token", "/subjects", identity, 401),
        ("a path that nobody classified", "/admin/export", stack.person("alice"), 403),
    ]
    before = _count(stack, "denials")
    lines = []
    with httpx.Client(timeout=30) as http:
        for what, path, token, status in cases:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = http.get(url + path, headers=headers)
            lines.append(check(answer.status_code == status, f"{what}: {answer.status_code}"))
    _forge_release(stack)
    until("the denials in evidence", lambda: _count(stack, "denials") >= before + 5 or None)
    lines.append("each is in the evidence")
    lines.append(
        check(
            stack.direct().versions(SUBJECT) == [1, 2],
            "a hand-made message on changes.released is refused by the applier, and recorded",
        )
    )
    return lines


def _count(stack: Stack, view: str) -> int:
    with stack.sql() as sql:
        return int(sql.query(f"SELECT count() FROM {view}").result_rows[0][0])  # noqa: S608 - our constants


def _foreign_token() -> str:
    from joserfc import jwt
    from joserfc.jwk import ECKey

    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": "https://stranger.example",
        "sub": "alice",
        "aud": "schemaseal",
        "client_id": "cli",
        "iat": now,
        "exp": now + 600,
        "jti": new_id(),
    }
    key = ECKey.generate_key("P-256", {"kid": "stranger"})
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "stranger"}, claims, key)


def _forge_release(stack: Stack) -> None:
    """A well-formed order to delete the subject, signed by a key of its own."""
    from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, HttpRequest

    deployment = stack.deployment
    keys = PublicKeys.load(deployment.data / "public" / "keys.json")
    request = HttpRequest("DELETE", f"/subjects/{SUBJECT}")
    part = seal(
        request.to_bytes(),
        keys.recipients("streams", "applier"),
        name="request",
        media_type=REQUEST_MEDIA_TYPE,
    )
    order = codec.encode(
        ReleaseOrder(
            release_id=new_id(),
            change_id=new_id(),
            target=TARGET,
            operation="delete_subject",
            commitment=part.commitment,
            base_identity="v2",
            deadline=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
            policy_sha256="",
            request=part,
        )
    )
    signer = Signer("streams", b"\x07" * 32)
    event = ChangeReleased(order=order, key_id=signer.key_id, signature=signer.sign(RELEASE_DOMAIN, order))
    key = subject_key((deployment.secrets("operator") / "channel.key").read_bytes(), TARGET, SUBJECT)
    producer = Producer({"bootstrap.servers": deployment.bootstrap, "partitioner": PARTITIONER})
    producer.produce(RELEASED.name, key=key, value=codec.encode(event))
    producer.flush(15)


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
        periods = sql.query(PERIOD_SQL).result_rows
    kinds = [row["kind"] for row in timeline]
    wanted = ["change.assessed", "change.decided", "change.released", "change.applying", "change.closed"]
    lines.append(
        check(
            [k for k in dict.fromkeys(kinds) if k in wanted] == wanted,
            f"timeline of version 2: {' → '.join(kinds)}",
        )
    )
    lines.append(check(len(periods) > 0, f"population per period: {len(periods)} rows"))
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
    except DatabaseError:
        return True
    return False


def _search(story: Story) -> list[str]:
    stack = story.stack
    planted = stack.deployment.temp("ingress") / "planted.txt"
    planted.write_text(orders.CONTROL, "utf-8")
    values = {"card": orders.CARD, "e-mail": orders.EMAIL, "ssn": orders.SSN}
    values |= {f"token {number}": token for number, token in enumerate(dict.fromkeys(stack.tokens))}
    hits, total = search(stack.deployment, values, orders.CONTROL)
    found = [hit for hit in hits if hit.label != "control"]
    return [
        check(
            not found,
            f"{total / 1e6:.0f} MB of topics, tables, logs and files hold neither card, e-mail, SSN nor any of "
            f"{len(values) - 3} tokens, in any form"
            + "".join(f"; {h.label} as {h.form} in {h.place}" for h in found[:3]),
        ),
        check(any(hit.label == "control" for hit in hits), "a planted control value is found by the same search"),
    ]


def verified(story: Story) -> list[str]:
    """Step 7: export, verify offline, flip one byte, and see which record is named."""
    stack = story.stack
    out = stack.deployment.data / "export"
    key = stack.deployment.vkey
    exported = stack.cli("audit", "export", "--data", str(stack.deployment.data), "--out", str(out), "--json")
    check(exported.returncode == 0, f"the evidence is exported{_why(exported)}")
    good = stack.cli("verify", str(out), "--key", key, "--json")
    check(good.returncode == 0, f"the export verifies{_why(good)}")
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


STEPS: tuple[tuple[str, Callable[[Story], list[str]]], ...] = (
    ("2 An engineer registers a schema with the client she already uses", first_version),
    ("3 A dangerous change waits until another person approves exactly those bytes", high_risk),
    ("4 A machine's delete is rejected with a reason", rejected_delete),
    ("5 Nobody gets past the gate", refused_calls),
    ("6 The auditor asks in SQL, and nothing sensitive is anywhere", auditor),
    ("7 The evidence proves itself, offline", verified),
)
