"""How a state of a change becomes an answer in the client's own dialect. Pure.

Confluent's clients retry 408, 429 and 5xx and take every 2xx for success. So: 423 while a change waits, 403
when people or policy said no, 424 when it is the target's answer that is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from schemaseal.contracts.events import ChangeStatus
from schemaseal.contracts.http import Headers, HttpResponse
from schemaseal.contracts.timestamps import timestamp
from schemaseal.registry.dialect import client_error, to_client

JSON = (("content-type", "application/json"),)
PENDING = "pending"

# state → (status, error code, what it means)
_ENDS: dict[str, tuple[int, int, str]] = {
    "denied": (403, 40301, "was denied by policy"),
    "rejected": (403, 40302, "was rejected"),
    "withdrawn": (403, 40303, "was withdrawn"),
    "expired": (403, 40304, "expired: nobody decided in time"),
    "lapsed": (403, 40305, "lapsed: it was approved and could not be applied in time"),
    "superseded": (403, 40306, "was superseded: the subject has another version now; send it again"),
    "unresolved": (424, 42401, "was sent and nobody can tell what the target did; a person will find out"),
    "failed": (424, 42402, "failed: the target did not take it"),
    "applied": (424, 42403, "was applied; the target's answer is lost; repeat the call to see the result"),
}
FINAL = frozenset(_ENDS)

_DENIALS: dict[int, tuple[int, str]] = {
    401: (40101, "Unauthorized: a valid access token of a known issuer is needed"),
    403: (40320, "Forbidden: this request is not one that may pass"),
    413: (41301, "The request body is too large"),
    415: (41501, "Bodies must be plain JSON without content encoding"),
    422: (42201, "The request body is not a valid JSON object for this call"),
    502: (50201, "The registry did not answer"),
    503: (50301, "The request could not be recorded, so it was not forwarded"),
}


@dataclass(frozen=True, slots=True)
class View:
    """What the texts need besides the status."""

    profile: str
    page_url: str = ""


def final_answer(status: ChangeStatus, opened: HttpResponse | None, view: View) -> HttpResponse:
    """The answer of a change that ended: the target's own where there is one, else why not.

    A redirect of the target is never passed on: nobody shall follow it past us.
    """
    if opened is not None and status.state in ("applied", "failed") and not 300 <= opened.status < 400:
        return HttpResponse(opened.status, to_client(opened.headers), opened.body)
    code, number, meaning = _ENDS[status.state]
    text = f"Change {status.change_id} {meaning}."
    if status.reason:
        text += f" Reason: {status.reason}"
    if status.rule and status.state == "denied":
        text += f" (rule {status.rule})"
    return client_error(view.profile, code, number, text)


def waiting_text(change_id: str, status: ChangeStatus | None, view: View) -> str:
    """What a held change waits for and what can be done, in one paragraph."""
    if status is None or status.state != PENDING:
        state = "being assessed" if status is None else status.state
        return f"Change {change_id} is recorded and {state}. Repeat this call to get the answer."
    who = f" by {' or '.join(status.groups)}" if status.groups else ""
    count = f"{status.approvals} of {status.required} approvals{who}"
    text = f"Change {change_id} is held for approval: {count}"
    if status.rule:
        text += f" (rule {status.rule})"
    if status.expires_at is not None:
        text += f", until {timestamp(status.expires_at)}"
    page = f" or on {view.page_url.rstrip('/')}/changes/{change_id}" if view.page_url else ""
    return (
        f"{text}. Somebody other than the requester approves with `schemaseal change approve {change_id}`{page}. "
        "Then repeat this call to get the answer."
    )


def waiting_answer(change_id: str, status: ChangeStatus | None, view: View, *, respond_async: bool) -> HttpResponse:
    """423, or 202 with the place to look for a client that asked for it (RFC 7240 §4.1)."""
    text = waiting_text(change_id, status, view)
    if not respond_async:
        return client_error(view.profile, 423, 42300, text)
    body = {"change_id": change_id, "state": status.state if status else "received", "message": text}
    headers: Headers = (
        *JSON,
        ("location", f"/schemaseal/v1/changes/{change_id}"),
        ("preference-applied", "respond-async"),
    )
    return HttpResponse(202, headers, json.dumps(body).encode())


def denial(profile: str, status: int, reason: str) -> HttpResponse:
    """A refusal by ingress itself. `reason` is a code."""
    code, text = _DENIALS.get(status, (status * 100, "Refused"))
    answer = client_error(profile, status, code, f"{text} ({reason}).")
    if status != 401:
        return answer
    challenge = 'Bearer realm="schemaseal"' + ("" if reason == "no_token" else ', error="invalid_token"')
    return HttpResponse(401, (*answer.headers, ("www-authenticate", challenge)), answer.body)


def status_document(status: ChangeStatus) -> HttpResponse:
    """`GET /schemaseal/v1/changes/{id}`: where a change stands; nothing of its content."""
    document = {
        "change_id": status.change_id,
        "state": status.state,
        "at": timestamp(status.at),
        "rule": status.rule,
        "reason": status.reason,
        "required": status.required,
        "approvals": status.approvals,
        "groups": list(status.groups),
        "expires_at": timestamp(status.expires_at) if status.expires_at else None,
        "commitment": status.commitment.hex() if status.commitment else None,
    }
    return HttpResponse(200, JSON, json.dumps(document).encode())
