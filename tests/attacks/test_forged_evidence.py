"""Whoever can write to the broker cannot write evidence: an entry that streams did not sign is shown as such."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemaseal.contracts import codec, leaf
from schemaseal.contracts.events import Body, EvidenceEntry, Person
from schemaseal.contracts.topics import EVIDENCE
from schemaseal.core.ids import new_id
from schemaseal.devstack.story import until
from schemaseal.sealing.entries import is_authentic, sign_entry
from schemaseal.sealing.keys import PublicKeys
from schemaseal.sealing.signing import Signer
from tests.stack import LocalStack


def entry(change_id: str) -> EvidenceEntry:
    """A well-formed approval by bob that never was."""
    leaf_id = new_id()
    facts = {"decision": "approve", "accepted": True, "approver": {"iss": "https://i.example", "sub": "bob"}}
    data = leaf.build(
        leaf_id=leaf_id,
        kind="change.decided",
        at=datetime(2026, 11, 23, tzinfo=UTC),
        source=leaf.Source("approvals.decided", 0, 1),
        facts=facts,
        change_id=change_id,
    )
    return EvidenceEntry(id=leaf_id, kind="change.decided", leaf=data)


SIGNER = Signer("streams", b"\x01" * 32)
KEYS = PublicKeys({"recipients": {}, "signers": {"streams": [{"kid": SIGNER.key_id, "public": SIGNER.public.hex()}]}})


@pytest.mark.parametrize(
    "tamper",
    [
        lambda e: replace(e, leaf=e.leaf + b" "),
        lambda e: replace(e, kind="change.closed"),
        lambda e: replace(e, actors=(Person(iss="i", sub="s", name="Bob"),)),
        lambda e: replace(e, bodies=(Body(digest=b"d" * 32, salt=b"s" * 32, media_type="x", content=b""),)),
        lambda e: replace(e, signature=e.signature[:-1]),
        lambda e: replace(e, signature=b""),
        lambda e: replace(e, key_id="streams/0000000000000000"),
        lambda e: sign_entry(e, Signer("streams", b"\x02" * 32)),
        lambda e: sign_entry(e, Signer("ingress", b"\x01" * 32)),
    ],
)
def test_nothing_of_an_entry_can_be_changed(tamper: object) -> None:
    good = sign_entry(entry("c1"), SIGNER)
    assert is_authentic(good, KEYS)
    assert is_authentic(codec.decode(EvidenceEntry, codec.encode(good)), KEYS)
    assert callable(tamper)
    assert not is_authentic(tamper(good), KEYS)


def test_a_forged_entry_is_shown_and_not_believed(stack: LocalStack, tmp_path: Path) -> None:
    with stack.sql() as sql:
        ((before,),) = sql.query("SELECT count() FROM denials WHERE kind = 'log.unsigned'").result_rows
    change_id = new_id()
    forged = sign_entry(entry(change_id), Signer("streams", b"\x07" * 32))
    producer = Producer({"bootstrap.servers": stack.deployment.bootstrap})
    for value in (codec.encode(forged), codec.encode(entry(change_id))):
        producer.produce(EVIDENCE.name, value=value, partition=0)
    producer.flush(15)

    def shown() -> bool | None:
        with stack.sql() as sql:
            ((count,),) = sql.query("SELECT count() FROM denials WHERE kind = 'log.unsigned'").result_rows
        return True if count == before + 2 else None

    until("both as unsigned in the log", shown)
    with stack.sql() as sql:
        parameters = {"id": change_id}
        assert sql.query("SELECT * FROM approvals WHERE change_id = {id:String}", parameters=parameters).row_count == 0
    out = tmp_path / "export"
    exported = stack.cli("audit", "export", "--data", str(stack.deployment.data), "--out", str(out), "--json")
    assert exported.returncode == 0, exported.stderr
    verified = stack.cli("verify", str(out), "--key", stack.deployment.vkey, "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["ok"]
