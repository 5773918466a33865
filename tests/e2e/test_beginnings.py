"""What a new log begins with: the deployment itself, and what the registry held before."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from confluent_kafka.schema_registry import Schema

from schemaseal.contracts.topics import EVIDENCE
from schemaseal.core.ids import derived_id
from schemaseal.core.kafka import AckProducer, Outgoing
from schemaseal.devstack.deployment import TARGET
from schemaseal.devstack.story import until
from schemaseal.evidence import genesis
from schemaseal.evidence.genesis import write_genesis
from tests.conftest import LEGACY
from tests.stack import LocalStack


def test_the_first_leaf_names_policy_issuers_and_keys(stack: LocalStack) -> None:
    with stack.sql() as sql:
        (found,) = sql.query("SELECT * FROM genesis").named_results()
    deployment = stack.deployment
    keys = json.loads((deployment.data / "public" / "keys.json").read_text("utf-8"))
    policy = (deployment.data / "public" / "policy.yaml").read_bytes()
    assert found["idx"] == 0
    assert found["policy_sha256"] == hashlib.sha256(policy).hexdigest()
    assert found["issuers"] == [deployment.issuer]
    assert found["log_vkey"] == deployment.vkey
    recipients = {name: [jwk["kid"] for jwk in jwks] for name, jwks in keys["recipients"].items()}
    assert json.loads(found["recipient_keys"]) == recipients
    assert json.loads(found["signing_keys"]).keys() == {"ingress", "streams"}
    assert found["exception"].startswith("not countersigned")


async def test_a_baseline_is_not_written_twice_nor_after_the_first_change(stack: LocalStack) -> None:
    """With its marker lost too, as after a restore: nobody's change may pass for something that was there before."""
    settings = stack.deployment.settings("operator")
    assert (settings.state / "baseline.written").exists()
    assert await write_genesis(settings, stack.deployment.vkey) == 0
    token = stack.person("alice")
    schema = Schema('{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}', "JSON")
    await asyncio.to_thread(stack.registry_client(token).register_schema, "after-genesis-value", schema)
    (settings.state / "baseline.written").unlink()
    assert await write_genesis(settings, stack.deployment.vkey) == 0


async def test_a_half_written_baseline_is_completed(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stack.deployment.settings("operator")
    sent: list[str] = []

    async def send_all(_self: AckProducer, records: list[Outgoing]) -> None:
        sent.extend(record.event_id for record in records)

    def one_of_two(_bootstrap: str) -> set[str]:
        return {derived_id("baseline", settings.origin, TARGET, LEGACY, "1")}

    monkeypatch.setattr(AckProducer, "send_all", send_all)
    monkeypatch.setattr(genesis, "_baseline_acts", one_of_two)
    monkeypatch.setattr(genesis, "ever_written", lambda _bootstrap, topic: topic == EVIDENCE.name)
    (settings.state / "baseline.written").unlink(missing_ok=True)
    assert await write_genesis(settings, stack.deployment.vkey) == len(sent)
    assert derived_id("baseline", settings.origin, TARGET, LEGACY, "1") not in sent
    assert derived_id("baseline", settings.origin, TARGET, LEGACY, "2") in sent


def test_what_the_registry_held_before_is_baseline(stack: LocalStack) -> None:
    def listed() -> list[tuple[str, int]] | None:
        with stack.sql() as sql:
            rows = sql.query("SELECT subject, version FROM baseline ORDER BY idx").result_rows
        return [(str(subject), int(version)) for subject, version in rows] if len(rows) >= 2 else None

    assert until("the baseline in evidence", listed) == [(LEGACY, 1), (LEGACY, 2)]
