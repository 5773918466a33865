"""The one place where anything becomes an evidence entry, an approval text or an answer in clear.

Every text that a person or a program wrote passes `Gate`; what comes out is masked, and is looked at again
before it is written: a residue turns the whole body into a stub. Salts are derived, not random, so that a
repeat of an event writes the same bytes (the derivation key never leaves streams).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from schemaseal.contracts import leaf
from schemaseal.contracts.events import Actor, Body, EvidenceEntry, Person, SealedPart
from schemaseal.contracts.http import HttpRequest, HttpResponse, header
from schemaseal.contracts.leaf import Source
from schemaseal.contracts.records import Outgoing
from schemaseal.contracts.topics import EVIDENCE
from schemaseal.core.ids import keyed_digest
from schemaseal.masking import MaskKeys, MaskRules, mask, mask_text, residue

# Headers that say something about a request without being its content; all others are only sealed.
READABLE_HEADERS = frozenset(
    {"content-type", "accept", "user-agent", "prefer", "schemaseal-reason", "content-encoding"}
)
JSON = "application/json"
FACT_LIMIT = 2048
TYPE_LIMIT = 128
# A digest in hex, a UUID, a timestamp: forms in which no person's value can stand.
_MACHINE = re.compile(
    r"[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
)


@dataclass(frozen=True, slots=True)
class MaskedBody:
    """A named body on its way into an entry, with how many values it hides."""

    name: str
    media_type: str
    content: bytes
    hidden: int


@dataclass(frozen=True, slots=True)
class Gate:
    """Masks with one key and one set of rules; makes entries."""

    rules: MaskRules
    keys: MaskKeys
    salt_key: bytes

    def text(self, text: str | None) -> str | None:
        """A short text masked; None stays None."""
        if text is None:
            return None
        return self.count(text)[0]

    def count(self, text: str) -> tuple[str, int]:
        """A text masked, and how many values were hidden in it."""
        # JSON can name half a character, which no UTF-8 can hold: one schema must not stop the worker.
        text = text.encode("utf-8", "replace").decode()
        masked, manifest = mask_text(text, self.rules, self.keys)
        return masked, manifest.hidden

    def body(self, name: str, content: bytes, media_type: str) -> MaskedBody:
        """A body masked as its media type says; looked at again; a stub where anything is left."""
        masked = mask(content, media_type, self.rules, self.keys)
        content_type = self._type(media_type) if masked.manifest.stub is None else JSON
        if residue(masked.body):
            return self.stub(name, content, "residue")
        return MaskedBody(name, content_type, masked.body, masked.manifest.hidden)

    def _type(self, media_type: str) -> str:
        """A media type as it may stand in a leaf: clients write it, so it is a text like any other."""
        shown = self.text(media_type) or ""
        return shown if len(shown) <= TYPE_LIMIT else "application/octet-stream"

    def stub(self, name: str, content: bytes, reason: str) -> MaskedBody:
        """What stands for content that must not be shown: its size and a keyed digest."""
        digest = hmac.digest(self.salt_key, content, hashlib.sha256).hex()
        stub = {"masked": "stub", "reason": reason, "size": len(content), "digest": digest}
        return MaskedBody(name, JSON, json.dumps(stub).encode(), 1)

    def json_body(self, name: str, value: Any) -> MaskedBody:
        return self.body(name, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), JSON)

    def request(self, request: HttpRequest) -> list[MaskedBody]:
        """Head and body of a request, masked."""
        head: dict[str, Any] = {
            "method": request.method,
            "path": self.text(request.path),
            "query": self.text(request.query),
            "headers": self._headers(request.headers),
        }
        bodies = [self.json_body("request-head", head)]
        if request.body:
            kind = header(request.headers, "content-type") or "application/octet-stream"
            bodies.append(self.body("request-body", request.body, kind))
        return bodies

    def response(self, response: HttpResponse) -> list[MaskedBody]:
        """Status and body of a response, masked."""
        head = {"status": response.status, "headers": self._headers(response.headers)}
        bodies = [self.json_body("response-head", head)]
        if response.body:
            kind = header(response.headers, "content-type") or "application/octet-stream"
            bodies.append(self.body("response-body", response.body, kind))
        return bodies

    def _headers(self, headers: tuple[tuple[str, str], ...]) -> list[list[str]]:
        return [[k.lower(), self.text(v) or ""] for k, v in headers if k.lower() in READABLE_HEADERS]

    def _finish(self, leaf_id: str, body: MaskedBody) -> Body:
        salt = keyed_digest(self.salt_key, b"salt", leaf_id.encode(), body.name.encode())
        digest = hmac.digest(salt, body.content, hashlib.sha256)
        return Body(digest=digest, salt=salt, media_type=body.media_type, content=body.content)

    def entry(
        self,
        *,
        leaf_id: str,
        kind: str,
        at: datetime,
        source: Source,
        facts: dict[str, Any],
        target: str | None = None,
        change_id: str | None = None,
        bodies: list[MaskedBody] | None = None,
        sealed: tuple[SealedPart, ...] = (),
        people: tuple[Person | Actor | None, ...] = (),
    ) -> Outgoing:
        """The record for the evidence topic. Facts are masked as JSON here, whoever made them.

        Where they are too long for a leaf, the long ones stand in a body `facts`, and `in_body` names them.
        """
        finished = [(body.name, self._finish(leaf_id, body)) for body in bodies or []]
        masked_facts = self._facts(facts)
        build = partial(
            leaf.build,
            leaf_id=leaf_id,
            kind=kind,
            at=at,
            source=source,
            target=target,
            change_id=change_id,
            sealed=sealed,
        )
        try:
            data = build(facts=masked_facts, bodies=tuple(finished))
        except leaf.LeafTooLarge:
            short = {key: value for key, value in masked_facts.items() if len(json.dumps(value)) <= FACT_LIMIT}
            moved = {key: value for key, value in masked_facts.items() if key not in short}
            finished.append(("facts", self._finish(leaf_id, self.json_body("facts", moved))))
            data = build(facts=short | {"in_body": list(moved)}, bodies=tuple(finished))
        names = {
            (person.iss, person.sub): Person(iss=person.iss, sub=person.sub, name=self.text(person.name))
            for person in people
            if person is not None
        }
        event = EvidenceEntry(
            id=leaf_id,
            kind=kind,
            leaf=data,
            bodies=tuple(body for _, body in finished),
            sealed=sealed,
            actors=tuple(names.values()),
        )
        return Outgoing(EVIDENCE, None, event, leaf_id)

    def _facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Facts with every text masked that is not plainly a machine's: those would only be damaged."""

        def walk(value: Any) -> Any:
            if isinstance(value, str):
                return value if _MACHINE.fullmatch(value) else self.text(value)
            if isinstance(value, dict):
                return {self.text(key): walk(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [walk(item) for item in value]
            return value

        result: dict[str, Any] = walk(facts)
        return result
