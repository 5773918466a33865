"""The steps of the demo. Each returns what it showed, line by line, or raises `DemoFailed`."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemaseal.contracts import codec
from schemaseal.contracts.events import ChangeReleased, ReleaseOrder
from schemaseal.contracts.topics import PARTITIONER, RELEASED
from schemaseal.core.ids import new_id, subject_key
from schemaseal.devstack import orders
from schemaseal.devstack.demo_audit import auditor, verified
from schemaseal.devstack.deployment import TARGET
from schemaseal.devstack.story import Stack, until
from schemaseal.devstack.telling import SUBJECT, Story, check, why
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys
from schemaseal.sealing.signing import RELEASE_DOMAIN, Signer


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
    counted = until("the repeats in evidence", lambda: _repeats(stack))
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
        check(counted == (3, 2), "in evidence: three changes, and two repeats that were answered like reads"),
    ]


def _repeats(stack: Stack) -> tuple[int, int] | None:
    """(changes, registered again) of step 2, once the repeats are there."""
    with stack.sql() as sql:
        ((again,),) = sql.query("SELECT countIf(registered_again) FROM reads").result_rows
        ((changes,),) = sql.query("SELECT count() FROM changes").result_rows
    return (int(changes), int(again)) if again >= 2 else None


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
    message = str(getattr(answer, "error_message", answer))
    lines = [
        check(
            isinstance(answer, SchemaRegistryError)
            and answer.http_status_code == 423
            and change["change_id"] in message
            and "schema-owners" in message,
            f"version 2 lacks a required property and has an SSN: held. {message}",
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
    lines.append(check(approved.returncode == 0, f"bob approves with the CLI{why(approved)}"))
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
        check(rejected.returncode == 0, f"ci deletes {SUBJECT}: held; carol rejects it{why(rejected)}"),
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
    before = _last_index(stack)
    lines = []
    with httpx.Client(timeout=30) as http:
        for what, path, token, status in cases:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = http.get(url + path, headers=headers)
            lines.append(check(answer.status_code == status, f"{what}: {answer.status_code}"))
    _forge_release(stack)
    recorded = until("the denials in evidence", lambda: _denials(stack, before))
    wanted = [("applier", 0), ("ingress", 401), ("ingress", 401), ("ingress", 401), ("ingress", 403)]
    lines.append(check(sorted((row[0], row[1]) for row in recorded) == wanted, "each is in the evidence, once"))
    reasons = sorted(row[2] for row in recorded if row[0] == "applier")
    lines.append(
        check(
            reasons == ["bad_signature"] and stack.direct().versions(SUBJECT) == [1, 2],
            "a hand-made message on changes.released is refused by the applier (signature), and recorded",
        )
    )
    asked = (stack.deployment.logs / "registry.log").read_text("utf-8", "replace")
    lines.append(check("/subjects/orders-value" in asked and "/admin/export" not in asked, "nothing was forwarded"))
    return lines


def _last_index(stack: Stack) -> int:
    with stack.sql() as sql:
        return int(sql.query("SELECT max(idx) FROM denials").result_rows[0][0])


def _denials(stack: Stack, after: int) -> list[tuple[str, int, str]] | None:
    """(observer, status, reason) of the denials since, once there are five."""
    with stack.sql() as sql:
        rows = sql.query(
            "SELECT observer, status, reason_code FROM denials WHERE idx > {after:UInt64}", parameters={"after": after}
        ).result_rows
    return [(str(o), int(s), str(r)) for o, s, r in rows] if len(rows) >= 5 else None


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


STEPS: tuple[tuple[str, Callable[[Story], list[str]]], ...] = (
    ("2 An engineer registers a schema with the client she already uses", first_version),
    ("3 A dangerous change waits until another person approves exactly those bytes", high_risk),
    ("4 A machine's delete is rejected with a reason", rejected_delete),
    ("5 Nobody gets past the gate", refused_calls),
    ("6 The auditor asks in SQL, and nothing sensitive is anywhere", auditor),
    ("7 The evidence proves itself, offline", verified),
)
