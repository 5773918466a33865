"""Acts observed by any service → evidence entries. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from schemaseal.contracts.events import ActObserved, SealedPart
from schemaseal.contracts.http import HttpMessageError, HttpRequest, HttpResponse
from schemaseal.contracts.leaf import Source
from schemaseal.contracts.records import Outgoing
from schemaseal.core.errors import SealingError
from schemaseal.core.ids import derived_id
from schemaseal.registry.classify import classify
from schemaseal.registry.operation import Unclassified
from schemaseal.sealing.box import open_sealed
from schemaseal.streams.context import Context
from schemaseal.streams.gate import MaskedBody


def act_entry(act: ActObserved, source: Source, at: datetime, ctx: Context) -> Outgoing:
    """The entry of one act; a repeat of the act has the same id and the same bytes."""
    facts = _facts(act.facts)
    facts["observer"] = act.observer
    if act.actor is not None:
        actor = act.actor
        facts["requester"] = {
            "iss": actor.iss,
            "sub": actor.sub,
            "kind": actor.kind,
            "client_id": actor.client_id,
            "groups": list(actor.groups),
            "kid": actor.kid,
            "unverified": list(actor.unverified),
        }
    if act.initiator is not None:
        facts["initiator"] = {"iss": act.initiator.iss, "sub": act.initiator.sub}
    request = _opened_request(act.request, ctx)
    if request is not None and act.kind in CLASSIFIED:
        facts |= _operation_facts(act.target, request, ctx)
    bodies = _bodies(act.request, "request", ctx) + _bodies(act.response, "response", ctx)
    return ctx.gate.entry(
        leaf_id=derived_id("act", act.act_id),
        kind=kind_of(act),
        at=at,
        source=source,
        facts=facts,
        target=act.target,
        change_id=act.change_id,
        bodies=bodies,
        sealed=tuple(part for part in (act.request, act.response, act.token) if part is not None),
        people=(act.actor and act.actor.person, act.initiator),
    )


CLASSIFIED = ("read", "existing", "baseline")


def _opened_request(part: SealedPart | None, ctx: Context) -> HttpRequest | None:
    if part is None:
        return None
    try:
        return HttpRequest.from_bytes(open_sealed(part, ctx.keys))
    except (SealingError, HttpMessageError):
        return None


def _operation_facts(target: str | None, request: HttpRequest, ctx: Context) -> dict[str, Any]:
    """What the request was about: names come from the sealed request, and leave masked."""
    settings = ctx.targets.get(target or "")
    operation = None if settings is None else classify(settings.profile, request)
    if operation is None or isinstance(operation, Unclassified):
        return {"method": request.method}
    return {
        "method": request.method,
        "operation": operation.name,
        "subject": ctx.gate.text(operation.subject),
        "path": ctx.gate.text(operation.path),
    }


def kind_of(act: ActObserved) -> str:
    """`genesis` and `baseline` stand for themselves; everything else is `act.<kind>`."""
    return act.kind if act.kind in ("genesis", "baseline") else f"act.{act.kind}"


def quarantine_entry(source: Source, at: datetime, error: str, ctx: Context) -> Outgoing:
    """The entry that accounts for a message which could not be processed."""
    return ctx.gate.entry(
        leaf_id=derived_id("quarantined", source.topic, str(source.partition), str(source.offset)),
        kind="act.quarantined",
        at=at,
        source=source,
        facts={"consumer": "streams", "error": error},
    )


def _facts(text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {"facts": "unreadable"}
    return facts if isinstance(facts, dict) else {"facts": "unreadable"}


def _bodies(part: SealedPart | None, name: str, ctx: Context) -> list[MaskedBody]:
    """Masked views of a sealed request or response; a stub where it cannot be opened or understood."""
    if part is None:
        return []
    try:
        raw = open_sealed(part, ctx.keys)
        if name == "request":
            return ctx.gate.request(HttpRequest.from_bytes(raw))
        return ctx.gate.response(HttpResponse.from_bytes(raw))
    except (SealingError, HttpMessageError):
        return [ctx.gate.stub(f"{name}-body", part.jwe, "unreadable")]
