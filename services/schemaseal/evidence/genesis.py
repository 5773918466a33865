"""The first leaves: what the deployment is (genesis), and what the registry held before (baseline).

Both are acts like any other, so that streams stay the only writer of evidence. Genesis is written before any
other service starts, and counts as done once the `evidence` partition is not empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from confluent_kafka import Consumer, TopicPartition

from schemaseal.contracts import codec
from schemaseal.contracts.events import ActObserved
from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, HttpRequest, HttpResponse
from schemaseal.contracts.topics import ACTS, EVIDENCE, INTERCEPTED, LOG_LEVEL
from schemaseal.core.clock import system_clock
from schemaseal.core.errors import SchemasealError, TargetUnavailable
from schemaseal.core.ids import derived_id
from schemaseal.core.kafka import AckProducer, Outgoing, read_to_end
from schemaseal.core.kafka.consumer import partitions_of
from schemaseal.core.settings import Settings, read_secret
from schemaseal.registry.paths import encode
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys

WAIT_SECONDS = 60.0


def ever_written(bootstrap: str, topic: str) -> bool:
    """Whether anything was ever written to a topic, retention or not."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "schemaseal-genesis", "log_level": LOG_LEVEL})
    try:
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=15)[1]
            for partition in partitions_of(consumer, topic)
        ]
    finally:
        consumer.close()
    return any(end > 0 for end in ends)


def genesis_act(settings: Settings, vkey: str, keys: dict[str, Any]) -> ActObserved:
    """Policy, issuers, targets and key ids in force at the start; the policy's text as the sealed body."""
    policy = settings.policy_file.read_bytes()
    facts = {
        "origin": settings.origin,
        "log_vkey": vkey,
        "policy_sha256": hashlib.sha256(policy).hexdigest(),
        "issuers": [issuer.url for issuer in settings.issuers],
        "targets": [{"name": t.name, "profile": t.profile, "mode": t.mode} for t in settings.targets],
        "recipient_keys": {name: [jwk["kid"] for jwk in jwks] for name, jwks in keys["recipients"].items()},
        "signing_keys": {name: [entry["kid"] for entry in entries] for name, entries in keys["signers"].items()},
        "mask_key": settings.mask_key_id,
        "exception": "not countersigned: two people have yet to sign it",
    }
    text = HttpResponse(200, (("content-type", "text/plain"),), policy)
    recipients = PublicKeys(keys).recipients("streams", "custody")
    return ActObserved(
        act_id=derived_id("genesis", settings.origin),
        kind="genesis",
        at=system_clock(),
        observer="genesis",
        response=seal(text.to_bytes(), recipients, name="policy", media_type=RESPONSE_MEDIA_TYPE),
        facts=json.dumps(facts),
    )


async def inventory(settings: Settings, target: str) -> AsyncIterator[dict[str, Any]]:
    """Every version the target holds, through the applier's read credential. Raises `TargetUnavailable`."""
    token = read_secret(settings.secrets, "applier.token").decode().strip()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{settings.applier.reached_at}/internal/v1/inventory"
    complete = False
    try:
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False) as http,
            http.stream("GET", url, params={"target": target}, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise TargetUnavailable(f"the applier answered {answer.status_code} to the question for the inventory")
            async for line in answer.aiter_lines():
                item = json.loads(line) if line else {}
                complete = complete or item.get("complete") is True
                if "subject" in item:
                    yield item
    except httpx.HTTPError as error:
        raise TargetUnavailable(f"the inventory of {target} cannot be read ({type(error).__name__})") from error
    if not complete:
        raise TargetUnavailable(f"the inventory of {target} ended half way")


def baseline_act(settings: Settings, keys: PublicKeys, target: str, item: dict[str, Any]) -> ActObserved:
    """One version that was there before the gateway."""
    subject, version = str(item["subject"]), int(item["version"])
    recipients = keys.recipients("streams", "custody")
    request = HttpRequest("GET", f"/subjects/{encode(subject)}/versions/{version}")
    body = json.dumps(item, ensure_ascii=False).encode()
    response = HttpResponse(200, (("content-type", "application/json"),), body)
    return ActObserved(
        act_id=derived_id("baseline", settings.origin, target, subject, str(version)),
        kind="baseline",
        at=system_clock(),
        observer="genesis",
        target=target,
        request=seal(request.to_bytes(), recipients, name="request", media_type=REQUEST_MEDIA_TYPE),
        response=seal(response.to_bytes(), recipients, name="response", media_type=RESPONSE_MEDIA_TYPE),
        facts=json.dumps({"version": version, "schema_id": item["schema_id"]}),
    )


async def write_genesis(settings: Settings, vkey: str) -> int:
    """Genesis and baseline, if the log is empty; returns how many versions are baseline.

    A crash between the two leaves a genesis without a whole baseline: the next start adds what is missing, as
    long as nothing went through ingress. Raises `SchemasealError`.
    """
    written, bootstrap = settings.state / "baseline.written", settings.kafka.bootstrap
    begun = await asyncio.to_thread(ever_written, bootstrap, EVIDENCE.name)
    if begun and (written.exists() or await asyncio.to_thread(ever_written, bootstrap, INTERCEPTED.name)):
        return 0
    known = await asyncio.to_thread(_baseline_acts, bootstrap) if begun else set()
    document = json.loads(settings.public_keys.read_text("utf-8"))
    keys = PublicKeys(document)
    producer = AckProducer(settings.kafka.bootstrap, "genesis", message_limit=settings.message_limit)
    try:
        if not begun:
            act = genesis_act(settings, vkey, document)
            await producer.send(ACTS, None, act, event_id=act.act_id)
            await _first_leaf(settings.kafka.bootstrap)
        count = 0
        for target in settings.targets:
            async for item in inventory(settings, target.name):
                found = baseline_act(settings, keys, target.name, item)
                if found.act_id in known:
                    continue
                await producer.send_all([Outgoing(ACTS, None, found, found.act_id)])
                count += 1
    finally:
        await producer.close()
    written.parent.mkdir(parents=True, exist_ok=True)
    written.touch()
    return count


def _baseline_acts(bootstrap: str) -> set[str]:
    """Ids of the baseline acts that are durable already."""
    records = read_to_end(bootstrap, ACTS.name)
    acts = (codec.decode(ActObserved, record.value) for record in records)
    return {act.act_id for act in acts if act.kind == "baseline"}


async def _first_leaf(bootstrap: str) -> None:
    """Until streams have written genesis: nothing else may be written before it."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while not await asyncio.to_thread(ever_written, bootstrap, EVIDENCE.name):
        if asyncio.get_running_loop().time() > deadline:
            raise SchemasealError("streams did not write the genesis leaf in time; see their log")
        await asyncio.sleep(0.1)
