"""The decisions API: everybody who decides is its client, and nobody else writes `approvals.decided`.

It refuses what it can see is wrong (no identity, unknown change, other bytes); whether a decision counts is
for `state` to say, in streams, with the record's own time and identities. The answer waits for that.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemaseal.approvals.view import Entry, View, detail, summary
from schemaseal.contracts.events import ActObserved, Actor, ApprovalDecided, Event, SealedPart
from schemaseal.contracts.topics import ACTS, DECIDED, Topic
from schemaseal.core.clock import Clock
from schemaseal.core.errors import IdentityUnavailable, NotRecorded
from schemaseal.core.ids import new_id
from schemaseal.identity.access_token import Refusal, Verified

Decision = Literal["approve", "reject", "withdraw"]
DECISIONS: tuple[Decision, ...] = ("approve", "reject", "withdraw")
REASON_LIMIT = 4000
BODY_LIMIT = 64 * 1024

WORDS = {
    "own_change": "requester and initiator cannot decide their own change; they may withdraw it",
    "not_a_person": "only a person who logged in can decide",
    "not_in_group": "none of your groups may decide this change",
    "already_voted": "you have approved this change already; one person is one vote",
    "other_payload": "what you were shown is not what is waiting; look at the change again",
    "expired": "the time to decide is over",
    "not_pending": "the change does not wait for approvals any more",
    "already_released": "the change was released already",
    "not_yours": "only requester or initiator can withdraw a change",
}


class Sender(Protocol):
    """Returns when the record is durable; raises `NotRecorded` when that is not known."""

    async def send(self, topic: Topic, key: bytes | None, event: Event, *, event_id: str) -> None: ...


class Verifier(Protocol):
    """Raises `IdentityUnavailable` when the issuer's keys cannot be had."""

    async def verify(self, token: str, now: datetime) -> Verified | Refusal: ...


Seal = Callable[[bytes, str, str], SealedPart]


@dataclass(slots=True)
class Decisions:
    """What the handlers share. `seal(data, name, media_type)` seals to streams and custody."""

    sender: Sender
    verifier: Verifier
    seal: Seal
    clock: Clock
    view: View = field(default_factory=View)
    wait_seconds: float = 20.0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    ready: Callable[[], bool] = lambda: True

    async def notify(self) -> None:
        """Called after each batch that changed the view."""
        async with self.changed:
            self.changed.notify_all()

    async def answer(self, change_id: str, decision_id: str) -> Entry | None:
        """The entry once streams answered the decision; None when that takes too long."""

        def there() -> bool:
            entry = self.view.entries.get(change_id)
            return entry is not None and decision_id in entry.answers

        try:
            async with asyncio.timeout(self.wait_seconds), self.changed:
                await self.changed.wait_for(there)
        except TimeoutError:
            return None
        return self.view.entries[change_id]


def problem(status: int, code: str, detail_: str) -> Response:
    """RFC 9457 problem details; `code` is stable, `detail` is for the reader."""
    body = {"type": f"urn:schemaseal:problem:{code}", "title": code.replace("_", " "), "status": status}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(json.dumps(body | {"code": code, "detail": detail_}), status, headers, "application/problem+json")


def bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


Handler = Callable[[Decisions, Request, str, Actor], Awaitable[Response]]


def _authenticated(decisions: Decisions, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Identity first. A refusal is recorded before it is answered; unrecorded is unanswered."""

    async def handle(request: Request) -> Response:
        token = bearer(request)
        try:
            verified = (
                Refusal("no_token", "send an access token as a bearer token")
                if token is None
                else await decisions.verifier.verify(token, decisions.clock())
            )
            if isinstance(verified, Refusal) or token is None:
                refusal = cast(Refusal, verified)
                await _record(decisions, "denied", token, None, None, {"reason_code": refusal.code})
                return problem(401, refusal.code, refusal.text)
            return await handler(decisions, request, token, verified.actor)
        except IdentityUnavailable as error:
            return problem(503, "identity_unavailable", str(error))
        except NotRecorded:
            return problem(503, "not_recorded", "this could not be recorded, so nothing was done; try again")

    return handle


async def _record(
    decisions: Decisions,
    kind: str,
    token: str | None,
    actor: Actor | None,
    change_id: str | None,
    facts: dict[str, Any],
) -> None:
    act = ActObserved(
        act_id=new_id(),
        kind=kind,
        at=decisions.clock(),
        observer="decisions",
        actor=actor,
        change_id=change_id,
        token=None if token is None else decisions.seal(token.encode(), "token", "application/jwt"),
        facts=json.dumps(facts),
    )
    await decisions.sender.send(ACTS, None, act, event_id=act.act_id)


async def _list(decisions: Decisions, request: Request, _token: str, _actor: Actor) -> Response:
    wanted = {name: request.query_params.get(name) for name in ("state", "target")}
    rows = [summary(entry) for entry in decisions.view.entries.values()]
    return JSONResponse({"changes": [r for r in rows if all(v in (None, r[k]) for k, v in wanted.items())]})


async def _show(decisions: Decisions, request: Request, _token: str, _actor: Actor) -> Response:
    entry = decisions.view.entries.get(request.path_params["change_id"])
    if entry is None:
        return problem(404, "unknown_change", "no change with this id was put before people")
    return JSONResponse(detail(entry))


@dataclass(frozen=True, slots=True)
class Asked:
    """The body of a decision, checked."""

    decision: Decision
    commitment: bytes
    reason: str | None
    decision_id: str


def _encodable(text: str) -> bool:
    """JSON can name a lone surrogate; UTF-8, which is what is sealed, cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


async def _asked(request: Request) -> Asked | str:
    """The decision in the body, or what is wrong with it."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_LIMIT:  # counted, not believed: a chunked body names no length
            return "the body is too large"
    try:
        body = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if not isinstance(body, dict) or body.get("decision") not in DECISIONS:
        return f"`decision` is one of {', '.join(DECISIONS)}"
    reason, decision_id = body.get("reason"), body.get("decision_id", new_id())
    if reason is not None and (not isinstance(reason, str) or len(reason) > REASON_LIMIT):
        return f"`reason` is a text of at most {REASON_LIMIT} characters"
    if reason is not None and not _encodable(reason):
        return "`reason` holds half a surrogate pair, which is no character"
    try:
        commitment, decision_id = bytes.fromhex(body["commitment"]), str(uuid.UUID(decision_id))
    except (KeyError, TypeError, ValueError, AttributeError):
        return "`commitment` is the hex that the change shows, `decision_id` a UUID"
    return Asked(body["decision"], commitment, reason or None, decision_id)


async def _decide(decisions: Decisions, request: Request, token: str, actor: Actor) -> Response:
    change_id = request.path_params["change_id"]
    asked = await _asked(request)
    if isinstance(asked, str):
        return problem(422, "bad_input", asked)
    entry = decisions.view.entries.get(change_id)
    if entry is None:
        facts = {"reason_code": "unknown_change", "decision": asked.decision}
        await _record(decisions, "decision_refused", token, actor, None, facts)
        return problem(404, "unknown_change", "no change with this id was put before people")
    event = ApprovalDecided(
        decision_id=asked.decision_id,
        change_id=change_id,
        decision=asked.decision,
        actor=actor,
        token=decisions.seal(token.encode(), "token", "application/jwt"),
        custody="attested",
        commitment=asked.commitment,
        reason=None if asked.reason is None else decisions.seal(asked.reason.encode(), "reason", "text/plain"),
    )
    # A crash after this leaves a decision that counts and a client without an answer: the same decision_id again
    # hears what the first one did.
    await decisions.sender.send(DECIDED, entry.key, event, event_id=event.decision_id)
    answered = await decisions.answer(change_id, asked.decision_id)
    if answered is None:
        return JSONResponse({"decision_id": asked.decision_id, "state": "recorded"}, 202)
    refusal = answered.answers[asked.decision_id]
    body = summary(answered) | {"decision_id": asked.decision_id, "accepted": refusal is None, "refusal": refusal}
    if refusal is None:
        return JSONResponse(body)
    status = 409 if refusal.partition(":")[0] in ("closed", "already_released", "other_payload", "expired") else 403
    return problem(status, refusal, WORDS.get(refusal, f"this decision does not count: {refusal}"))


def create_app(decisions: Decisions) -> Starlette:
    """The API's routes."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        ready = decisions.ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/v1/changes", _authenticated(decisions, _list)),
            Route("/v1/changes/{change_id}", _authenticated(decisions, _show)),
            Route("/v1/changes/{change_id}/decisions", _authenticated(decisions, _decide), methods=["POST"]),
        ]
    )
