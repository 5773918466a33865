"""What ingress writes: parts sealed, events made, acknowledged. Nothing here is free text in clear."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from schemaseal.contracts.events import ActObserved, Actor, ChangeIntercepted, Event, Person, SealedPart
from schemaseal.contracts.http import REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, HttpRequest, HttpResponse
from schemaseal.contracts.topics import ACTS, INTERCEPTED, Topic
from schemaseal.core.ids import keyed_digest, subject_key
from schemaseal.registry.base import BASE_MEDIA_TYPE, Base
from schemaseal.registry.classify import canonical_request
from schemaseal.registry.operation import Operation, subject_scope
from schemaseal.sealing.box import seal
from schemaseal.sealing.keys import PublicKeys

TOKEN_MEDIA_TYPE = "application/jwt"  # noqa: S105 - a media type
_TOKENS_KEPT = 1024


class Producer(Protocol):
    """Returns when the record is durable; raises `NotRecorded` when that is not known."""

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Versions:
    """In force when a request is taken; they bind its assessment, whatever is in force later."""

    policy_sha256: str
    detectors: str
    mask_key_id: str


@dataclass(frozen=True, slots=True)
class Who:
    """The verified sender with the token that says so."""

    actor: Actor
    initiator: Person | None
    token: str


class Recorder:
    """Seals to the recipients each part has, keys each record by its subject, and waits for the broker."""

    def __init__(self, producer: Producer, public: PublicKeys, channel_key: bytes, versions: Versions) -> None:
        self._producer, self._public = producer, public
        self._channel_key, self._versions = channel_key, versions
        self._tokens: OrderedDict[bytes, SealedPart] = OrderedDict()

    def seal_request(self, request: HttpRequest) -> SealedPart:
        recipients = self._public.recipients("streams", "applier", "custody")
        return seal(request.to_bytes(), recipients, name="request", media_type=REQUEST_MEDIA_TYPE)

    def seal_response(self, response: HttpResponse) -> SealedPart:
        recipients = self._public.recipients("ingress", "streams", "custody")
        return seal(response.to_bytes(), recipients, name="response", media_type=RESPONSE_MEDIA_TYPE)

    def _seal_base(self, base: Base) -> SealedPart:
        recipients = self._public.recipients("streams", "applier", "custody")
        return seal(base.to_bytes(), recipients, name="base", media_type=BASE_MEDIA_TYPE)

    def _seal_token(self, token: str) -> SealedPart:
        """A verified token is sealed once and carried by every record it stands behind."""
        name = hashlib.sha256(token.encode()).digest()
        part = self._tokens.get(name)
        if part is None:
            recipients = self._public.recipients("streams", "custody")
            part = seal(token.encode(), recipients, name="token", media_type=TOKEN_MEDIA_TYPE)
            self._tokens[name] = part
            while len(self._tokens) > _TOKENS_KEPT:
                self._tokens.popitem(last=False)
        return part

    def act_key(self, target: str | None, operation: Operation | None, act_id: str) -> bytes:
        """Beside its subject's changes; acts without a subject are spread."""
        scope = subject_scope(operation) if operation is not None else ""
        return subject_key(self._channel_key, target or "", scope or f"\0act\0{act_id}")

    async def act(
        self,
        *,
        act_id: str,
        kind: str,
        at: datetime,
        facts: dict[str, Any],
        who: Who | None = None,
        target: str | None = None,
        operation: Operation | None = None,
        request: SealedPart | None = None,
        response: HttpResponse | None = None,
        presented: str | None = None,
    ) -> None:
        """One act, durable on return. `presented` is a token nobody verified: for custody's eyes only."""
        token = None
        if who is not None:
            token = self._seal_token(who.token)
        elif presented:
            custody = self._public.recipients("custody")
            token = seal(presented.encode(), custody, name="token", media_type="application/octet-stream")
        event = ActObserved(
            act_id=act_id,
            kind=kind,
            at=at,
            observer="ingress",
            target=target,
            actor=who.actor if who else None,
            initiator=who.initiator if who else None,
            request=request,
            response=None if response is None else self.seal_response(response),
            token=token,
            facts=json.dumps(facts, separators=(",", ":")),
        )
        await self._producer.send(ACTS, self.act_key(target, operation, act_id), event, event_id=act_id)

    async def intercepted(
        self,
        *,
        change_id: str,
        at: datetime,
        target: str,
        operation: Operation,
        request: HttpRequest,
        sealed: SealedPart,
        base: Base,
        who: Who,
    ) -> None:
        """One change, durable on return."""
        event = ChangeIntercepted(
            change_id=change_id,
            received_at=at,
            target=target,
            request=sealed,
            base=self._seal_base(base),
            base_identity=base.identity,
            actor=who.actor,
            initiator=who.initiator,
            token=self._seal_token(who.token),
            policy_sha256=self._versions.policy_sha256,
            detectors=self._versions.detectors,
            mask_key_id=self._versions.mask_key_id,
            attach_key=keyed_digest(
                self._channel_key,
                b"attach",
                target.encode(),
                who.actor.iss.encode(),
                who.actor.sub.encode(),
                canonical_request(operation, request),
            ),
        )
        key = subject_key(self._channel_key, target, subject_scope(operation))
        await self._producer.send(INTERCEPTED, key, event, event_id=change_id)
