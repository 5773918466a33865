"""Keys, sealed events and a subject with a memory, for the tests of streams' pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemaseal.contracts import codec, topics
from schemaseal.contracts.events import (
    Actor,
    ApprovalDecided,
    ApprovalRequested,
    Change,
    ChangeApplying,
    ChangeIntercepted,
    ChangeReleased,
    ChangeStatus,
    EvidenceEntry,
    Person,
    ReleaseOrder,
    SealedPart,
    SubjectState,
    TimerDue,
)
from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, HttpRequest, HttpResponse
from schemaseal.contracts.leaf import Source
from schemaseal.contracts.records import Outgoing
from schemaseal.core.ids import keyed_digest
from schemaseal.core.settings import TargetSettings
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.masking import MaskKeys, MaskRules
from schemaseal.registry.base import BASE_MEDIA_TYPE, Base
from schemaseal.risk.policy import Policy, load_policy
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import RECIPIENTS, PrivateKeys, PublicKeys, generate_recipient
from schemaseal.sealing.signing import Signer
from schemaseal.streams.context import Context
from schemaseal.streams.gate import Gate
from schemaseal.streams.pipeline import Identity, Incoming, Keyed, handle

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=10)
KEY = b"0123456789abcdef0123456789abcdef"
ISS = "https://issuer.example"
OWNERS = ("schema-owners",)
JSON = (("content-type", "application/json"),)

CARD = "4111111111111111"
EMAIL = "jane.roe@customers.example"
SSN = "219-09-9999"
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJlLXBsYW50ZWQ"
CANARIES = (CARD, EMAIL, SSN, TOKEN)

POLICY = """\
apply_within: 1h
expires: 2h
floor: {approvals: 2, groups: [schema-owners]}
rules:
  - name: never-permanent
    when: {operations: ["delete_*"], permanent: true}
    verdict: deny
    why: what is deleted permanently cannot be brought back
  - name: first-version
    when: {operations: [register], first_version: true, backward: yes}
    verdict: allow
    why: this is the first version of the subject
  - name: compatible
    when: {operations: [register], first_version: false, backward: yes, findings: none}
    verdict: allow
  - name: register
    when: {operations: [register]}
    verdict: require
    approvals: 1
    groups: [schema-owners]
  - name: delete
    when: {operations: ["delete_*"]}
    verdict: require
    approvals: 2
    groups: [schema-owners]
fallback: {verdict: require, approvals: 2, groups: [schema-owners]}
"""


def schema(**properties: Any) -> str:
    """A closed object schema, so that an added optional property breaks nobody."""
    return json.dumps({"type": "object", "additionalProperties": False, "properties": properties})


OLD = schema(id={"type": "integer"})
WIDER = schema(id={"type": "integer"}, note={"type": "string"})
NARROWER = schema(id={"type": "integer", "minimum": 10})
LEAKING = schema(id={"type": "integer", "minimum": 7}, note={"type": "string", "examples": [CARD, SSN, EMAIL]})
BASE = Base(identity="v1:id7", version=1, schema_id=7, schema_type="JSON", schema_text=OLD, versions=(1,))


def register(text: str, *, subject: str = "orders", headers: tuple[tuple[str, str], ...] = JSON) -> HttpRequest:
    body = json.dumps({"schemaType": "JSON", "schema": text}).encode()
    return HttpRequest("POST", f"/subjects/{subject}/versions", "", headers, body)


def human(sub: str, *, groups: tuple[str, ...] = OWNERS, name: str | None = None) -> Actor:
    shown = name if name is not None else f"{sub.title()} Displayname"
    return Actor(iss=ISS, sub=sub, name=shown, kind="human", client_id="console", groups=groups)


ALICE, BOB, CAROL = human("alice"), human("bob"), human("carol")
CI = Actor(iss=ISS, sub="ci", name="Ci Displayname", kind="service", client_id="pipeline", groups=OWNERS)


class Keys:
    """Every recipient's key, generated once; the private halves are read back from files as services do."""

    def __init__(self) -> None:
        self.signer = Signer("streams", b"s" * 32)
        with TemporaryDirectory() as directory:
            root = Path(directory)
            public = {name: [generate_recipient(name, 1, root / name)] for name in RECIPIENTS}
            self.private = {name: PrivateKeys.load(root / name) for name in RECIPIENTS}
        signers = {"streams": [{"kid": self.signer.key_id, "public": self.signer.public.hex()}]}
        self.public = PublicKeys({"recipients": public, "signers": signers})

    def seal(self, data: bytes, name: str, media_type: str, *to: str) -> SealedPart:
        recipients = self.public.recipients(*(to or ("streams", "applier", "custody")))
        return seal(data, recipients, name=name, media_type=media_type)

    def request(self, request: HttpRequest, *to: str) -> SealedPart:
        return self.seal(request.to_bytes(), "request", REQUEST_MEDIA_TYPE, *to)

    def response(self, response: HttpResponse, *to: str) -> SealedPart:
        return self.seal(response.to_bytes(), "response", RESPONSE_MEDIA_TYPE, *(to or ("streams", "ingress")))

    def base(self, base: Base) -> SealedPart:
        return self.seal(base.to_bytes(), "base", BASE_MEDIA_TYPE)

    def token(self, text: str = TOKEN) -> SealedPart:
        return self.seal(text.encode(), "token", "application/jwt", "streams", "custody")


@cache
def keys() -> Keys:
    return Keys()


def gate() -> Gate:
    mask_key = b"m" * 32
    return Gate(MaskRules(), MaskKeys("K1", mask_key), keyed_digest(mask_key, b"salts"))


def context(*policies: str, mode: Any = "enforce", **over: Any) -> Context:
    loaded: list[Policy] = [load_policy(text) for text in policies or (POLICY,)]
    made = Context(
        keys=keys().private["streams"],
        gate=gate(),
        signer=keys().signer,
        policies={policy.sha256: policy for policy in loaded},
        targets={"registry": TargetSettings(name="registry", url="http://127.0.0.1:1", mode=mode)},
        attach_window=WINDOW,
    )
    return replace(made, **over)


def policy_sha256(text: str = POLICY) -> str:
    return load_policy(text).sha256


def intercepted(
    change_id: str = "change-1",
    request: HttpRequest | None = None,
    *,
    base: Base | None = BASE,
    actor: Actor = ALICE,
    **over: Any,
) -> ChangeIntercepted:
    """A sealed change as ingress sends it."""
    sent = request or register(WIDER)
    fields: dict[str, Any] = {
        "change_id": change_id,
        "received_at": T0,
        "target": "registry",
        "request": keys().request(sent),
        "base": None if base is None else keys().base(base),
        "base_identity": "none" if base is None else base.identity,
        "actor": actor,
        "token": keys().token(),
        "policy_sha256": policy_sha256(),
        "detectors": "masking/1",
        "mask_key_id": "K1",
        "attach_key": keyed_digest(b"attach", actor.sub.encode(), sent.to_bytes()),
    }
    return ChangeIntercepted(**(fields | over))


def decided(asked: Change, actor: Actor, decision: Any = "approve", **over: Any) -> ApprovalDecided:
    fields: dict[str, Any] = {
        "decision_id": f"{decision}-{actor.sub}-{asked.change_id}",
        "change_id": asked.change_id,
        "decision": decision,
        "actor": actor,
        "token": keys().token(),
        "custody": "attested",
        "commitment": asked.request.commitment,
    }
    return ApprovalDecided(**(fields | over))


def applying(change: Change, outcome: Any = None, **over: Any) -> ChangeApplying:
    """`sending` without an outcome, else the applier's word."""
    fields: dict[str, Any] = {
        "change_id": change.change_id,
        "release_id": change.release_id or "",
        "phase": "sending" if outcome is None else "outcome",
        "at": T0,
        "outcome": outcome,
    }
    return ChangeApplying(**(fields | over))


TOPIC_OF: dict[type[Any], topics.Topic] = {
    ChangeIntercepted: topics.INTERCEPTED,
    ApprovalDecided: topics.DECIDED,
    ChangeApplying: topics.APPLYING,
    TimerDue: topics.TIMERS,
}


@dataclass
class Subject:
    """One subject as the agent keeps it: a state, and the next offset of every topic."""

    ctx: Context = field(default_factory=context)
    at: datetime = T0
    state: SubjectState = field(default_factory=SubjectState)
    offsets: dict[str, int] = field(default_factory=dict)
    written: list[Outgoing] = field(default_factory=list)

    def incoming(self, event: Keyed, identity: Identity = None) -> Incoming:
        topic = TOPIC_OF[type(event)].name
        offset = self.offsets.get(topic, 0)
        self.offsets[topic] = offset + 1
        return Incoming(Source(topic, 3, offset), KEY, self.at, event, identity)

    def take(self, event: Keyed, identity: Identity | str = "proven") -> list[Outgoing]:
        """Handle the event; unless told otherwise the sealed token proves what the event says."""
        proof = proven(event) if isinstance(identity, str) else identity
        self.state, outputs = handle(self.state, self.incoming(event, proof), self.ctx)
        self.written += outputs
        return outputs

    def change(self, change_id: str = "change-1") -> Change:
        found = self.state.find(change_id)
        assert found is not None, f"{change_id} is not known"
        return found


def proven(event: Keyed) -> Identity:
    match event:
        case ChangeIntercepted():
            return Verified(event.actor, event.initiator)
        case ApprovalDecided():
            return Verified(event.actor)
    return None


REFUSED = Refusal("expired", "the token has expired; get a new one")


def bytes_of(outputs: Sequence[Outgoing]) -> list[tuple[str, bytes | None, str, bytes]]:
    """The records as they would be written: topic, key, event id, value."""
    return [(o.topic.name, o.key, o.event_id, codec.encode(o.event)) for o in outputs]


def entries(outputs: Sequence[Outgoing]) -> list[EvidenceEntry]:
    return [o.event for o in outputs if isinstance(o.event, EvidenceEntry)]


def kinds(outputs: Sequence[Outgoing]) -> list[str]:
    return [entry.kind for entry in entries(outputs)]


def leaf_of(entry: EvidenceEntry) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(entry.leaf)
    return loaded


def facts_of(outputs: Sequence[Outgoing], kind: str) -> dict[str, Any]:
    """Facts of the only entry of this kind."""
    (entry,) = [entry for entry in entries(outputs) if entry.kind == kind]
    facts: dict[str, Any] = leaf_of(entry)["facts"]
    return facts


def body_of(entry: EvidenceEntry, name: str) -> bytes:
    """Content of the only body of this name; names stand in the leaf, in the order of the bodies."""
    (place,) = [n for n, item in enumerate(leaf_of(entry)["bodies"]) if item["name"] == name]
    return entry.bodies[place].content


def statuses(outputs: Sequence[Outgoing]) -> list[ChangeStatus]:
    return [o.event for o in outputs if isinstance(o.event, ChangeStatus)]


def asks(outputs: Sequence[Outgoing]) -> list[ApprovalRequested]:
    return [o.event for o in outputs if isinstance(o.event, ApprovalRequested)]


def released(outputs: Sequence[Outgoing]) -> list[ChangeReleased]:
    return [o.event for o in outputs if isinstance(o.event, ChangeReleased)]


def orders(outputs: Sequence[Outgoing]) -> list[ReleaseOrder]:
    return [codec.decode(ReleaseOrder, event.order) for event in released(outputs)]


def in_clear(outputs: Sequence[Outgoing]) -> bytes:
    """Everything that can be read without a key in what was written: leaves, bodies and short texts."""
    shown: list[bytes] = []
    for output in outputs:
        match output.event:
            case EvidenceEntry() as entry:
                shown += [entry.leaf, *(body.content for body in entry.bodies)]
                shown += [body.media_type.encode() for body in entry.bodies]
            case ApprovalRequested() as ask:
                texts = (ask.subject, ask.reason, ask.differences, ask.findings, ask.why, ask.rule)
                shown += [(text or "").encode() for text in texts]
            case ChangeStatus() as status:
                shown.append((status.reason or "").encode())
    return b"\n".join(shown)


def person(actor: Actor) -> Person:
    return actor.person
