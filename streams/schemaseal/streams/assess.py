"""Judge one change: unseal, look at what it does to its base, ask policy. Pure.

Fail closed: a request that cannot be opened, classified or tied to its sender is denied; one that cannot be
understood needs approval, because policy says so for unknown verdicts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schemaseal.approvals.state import Verdict
from schemaseal.contracts.events import Change, ChangeIntercepted, SealedPart
from schemaseal.contracts.http import HttpMessageError, HttpRequest, header
from schemaseal.core.errors import SealingError
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.registry.base import Base, BaseError
from schemaseal.registry.classify import classify
from schemaseal.registry.operation import Operation, Unclassified
from schemaseal.risk import Decision, Facts, Requirement, decide, diff, findings, summarize
from schemaseal.sealing.box import open_sealed
from schemaseal.streams.context import Context
from schemaseal.streams.gate import MaskedBody

REASON_HEADER = "schemaseal-reason"
CODES_SHOWN = 20
NO_LIMIT = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The judged change, and masked views of what was judged. `change.state` is for the machine to set."""

    change: Change
    verdict: Verdict
    bodies: tuple[MaskedBody, ...] = ()
    reason: str | None = None
    differences: str = "[]"
    findings: str = "[]"
    difference_codes: tuple[str, ...] = ()
    finding_codes: tuple[str, ...] = ()
    hidden: int = 0
    groups: tuple[str, ...] = ()
    identity: str = ""
    observed_only: bool = False


class _Denied(Exception):  # noqa: N818 - carries an outcome inside this module
    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule, self.why = rule, why


@dataclass(frozen=True, slots=True)
class _Judged:
    """What was found about a request against one base."""

    decision: Decision
    bodies: tuple[MaskedBody, ...]
    differences: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    hidden: int


def assess(event: ChangeIntercepted, identity: Verified | Refusal | None, at: datetime, ctx: Context) -> Assessment:
    """The change as policy sees it. `identity`: what the sealed token proved at the record's time."""
    draft = Change(
        change_id=event.change_id,
        state="",
        target=event.target,
        operation="unknown",
        requester=event.actor.person,
        requester_kind=event.actor.kind,
        initiator=event.initiator,
        attach_key=event.attach_key,
        policy_sha256=event.policy_sha256,
        verdict="deny",
        rule="unreadable",
        why="",
        required=0,
        requested_at=at,
        expires_at=at + NO_LIMIT,
        apply_within_ms=0,
        base_identity=event.base_identity,
        base=event.base,
        request=event.request,
    )
    label = _identity_label(identity)
    request, operation = None, None
    try:
        request = _request(event.request, ctx)
        operation = _operation(event.target, request, ctx)
        draft = replace(draft, operation=operation.name, subject=ctx.gate.text(operation.subject))
        _same_sender(event, identity)
        judged = _judge(draft, request, operation, _base(event.base, ctx), event.actor.groups, ctx)
    except _Denied as denied:
        bodies = tuple(ctx.gate.request(request)) if request is not None else ()
        change = replace(draft, rule=denied.rule, why=denied.why, reason=denied.why)
        return Assessment(change, "deny", bodies, identity=label, groups=event.actor.groups)
    reason = ctx.gate.text(header(request.headers, REASON_HEADER))
    return _finish(draft, judged, at, ctx, reason=reason, identity=label, groups=event.actor.groups)


def reassess(change: Change, base: SealedPart | None, base_identity: str, ctx: Context) -> Assessment:
    """The same request against the base that the target has now; what policy says then.

    The requester's groups are not kept. A policy that asks for them cannot be asked again, so its `allow` does
    not count: a rule that held the change because of its sender would no longer match.
    """
    moved = replace(change, base=base, base_identity=base_identity)
    try:
        request = _request(change.request, ctx)
        operation = _operation(change.target, request, ctx)
        judged = _judge(moved, request, operation, _base(base, ctx), (), ctx)
    except _Denied:
        return Assessment(moved, "deny")
    again = _finish(moved, judged, change.requested_at, ctx, reason=None, identity="", groups=())
    enforced = again.verdict == "allow" and ctx.targets[change.target].mode == "enforce"
    if enforced and any(rule.when.requester_groups for rule in ctx.policies[change.policy_sha256].rules):
        return replace(again, verdict="require")
    return again


def _identity_label(identity: Verified | Refusal | None) -> str:
    if isinstance(identity, Verified):
        return "verified again by streams"
    return "not verified" if identity is None else f"refused: {identity.code}"


def _same_sender(event: ChangeIntercepted, identity: Verified | Refusal | None) -> None:
    """The sealed token must prove the sender that ingress named, initiator included."""
    if isinstance(identity, Refusal):
        raise _Denied("identity", f"the requester's token does not count: {identity.code}")
    if identity is None:
        raise _Denied("identity", "the request carries no token")
    initiator = None if event.initiator is None else event.initiator.key
    proven = None if identity.initiator is None else identity.initiator.key
    if identity.actor.person.key != event.actor.person.key or initiator != proven:
        raise _Denied("identity", "the token is of somebody else than the request says")
    if identity.actor.kind != event.actor.kind or identity.actor.groups != event.actor.groups:
        raise _Denied("identity", "the token says something else about the requester than the request does")


def _request(part: SealedPart, ctx: Context) -> HttpRequest:
    try:
        return HttpRequest.from_bytes(open_sealed(part, ctx.keys))
    except (SealingError, HttpMessageError) as error:
        raise _Denied("unreadable", f"the sealed request cannot be read ({type(error).__name__})") from error


def _base(part: SealedPart | None, ctx: Context) -> Base | None:
    if part is None:
        return None
    try:
        return Base.from_bytes(open_sealed(part, ctx.keys))
    except (SealingError, BaseError) as error:
        raise _Denied("unreadable", f"the sealed base cannot be read ({type(error).__name__})") from error


def _operation(target: str, request: HttpRequest, ctx: Context) -> Operation:
    settings = ctx.targets.get(target)
    if settings is None:
        raise _Denied("unknown-target", "the target is not configured")
    operation = classify(settings.profile, request)
    if isinstance(operation, Unclassified) or operation.kind != "change":
        raise _Denied("unclassified", "the request is not a change that this profile knows")
    return operation


def _judge(
    change: Change,
    request: HttpRequest,
    operation: Operation,
    base: Base | None,
    groups: tuple[str, ...],
    ctx: Context,
) -> _Judged:
    policy = ctx.policies.get(change.policy_sha256)
    if policy is None:
        raise _Denied("unknown-policy", "streams do not have the policy version that ingress stamped")
    new = operation.body_schema.schema_text if operation.body_schema is not None else None
    old = base.schema_text if base is not None else None
    beyond = _beyond_schema(operation, base)
    comparable = new is not None and old is not None and OTHER_TYPE not in beyond
    difference = diff(old, new) if comparable and old is not None and new is not None else None
    exposed = findings(_json(old), _json(new)) if new is not None else ()
    facts = Facts(
        operation=operation.name,
        target=change.target,
        subject=operation.subject,
        actor_kind="service" if change.requester_kind == "service" else "human",
        requester_groups=groups,
        initiator_known=change.requester_kind != "service" or change.initiator is not None,
        first_version=operation.name == "register" and change.base_identity == "none",
        difference_codes=frozenset(beyond) | {d.code for d in (difference.differences if difference else ())},
        backward="unknown" if beyond else difference.backward if difference else _without_base(operation, change),
        forward="unknown" if beyond else difference.forward if difference else _without_base(operation, change),
        finding_codes=frozenset(f.code for f in exposed),
        permanent=operation.permanent,
    )
    summary = summarize(difference, exposed, ctx.gate.count)
    differences = [*({"code": code, "text": text} for code, text in beyond.items()), *summary.differences]
    bodies = list(ctx.gate.request(request))
    if differences or summary.findings:
        bodies.append(ctx.gate.json_body("assessment", {"differences": differences, "findings": summary.findings}))
    return _Judged(decide(policy, facts), tuple(bodies), differences, summary.findings, summary.hidden)


OTHER_TYPE = "schema-type-not-json"


def _beyond_schema(operation: Operation, base: Base | None) -> dict[str, str]:
    """What a registration changes beside the text of its schema, by code: a diff of schemas cannot judge it."""
    envelope = operation.body_schema
    if envelope is None:
        return {}
    found = {}
    if envelope.schema_type != "JSON" or (base is not None and base.schema_type not in (None, "JSON")):
        found[OTHER_TYPE] = "the schema is not a JSON Schema, so it was not compared"
    if set(envelope.references) != set(base.references if base is not None else ()):
        found["references-changed"] = "the schema refers to other subjects than before"
    if envelope.metadata:
        found["metadata-given"] = "the registration carries metadata"
    if envelope.rule_set:
        found["rules-given"] = "the registration carries a rule set"
    if envelope.tags_changed:
        found["tags-changed"] = "the registration adds or removes tags"
    if envelope.schema_id is not None or envelope.version is not None:
        found["number-given"] = "the registration chooses its own id or version"
    return found


def _without_base(operation: Operation, change: Change) -> Any:
    """Nothing to compare with: a first version breaks nobody if it can be read; anything else is not understood."""
    envelope = operation.body_schema
    first = operation.name == "register" and change.base_identity == "none"
    return "yes" if first and envelope is not None and _json(envelope.schema_text) is not None else "unknown"


def _json(text: str | None) -> Any:
    """The parsed schema, or None where there is none or it does not parse: then diff says `unknown`."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _finish(
    change: Change,
    judged: _Judged,
    since: datetime,
    ctx: Context,
    *,
    reason: str | None,
    identity: str,
    groups: tuple[str, ...],
) -> Assessment:
    decision = judged.decision
    verdict: Verdict = decision.verdict
    settings = ctx.targets[change.target]
    observed_only = settings.mode == "observe" and verdict != "allow"
    requirement = decision.requirement or Requirement(0, (), 0, 0)
    apply_within = requirement.apply_within_seconds or ctx.policies[change.policy_sha256].apply_within_seconds
    effective: Verdict = "allow" if observed_only else verdict
    finished = replace(
        change,
        verdict=effective,
        rule=decision.rule,
        why=decision.why,
        required=requirement.approvals if effective == "require" else 0,
        groups=requirement.groups,
        expires_at=since + timedelta(seconds=requirement.expires_seconds)
        if requirement.expires_seconds
        else since + NO_LIMIT,
        apply_within_ms=apply_within * 1000,
        reason=decision.why if effective == "deny" else None,
    )
    return Assessment(
        change=finished,
        verdict=effective,
        bodies=judged.bodies,
        reason=reason,
        differences=json.dumps(judged.differences, ensure_ascii=False),
        findings=json.dumps(judged.findings, ensure_ascii=False),
        difference_codes=tuple(sorted({str(item["code"]) for item in judged.differences}))[:CODES_SHOWN],
        finding_codes=tuple(sorted({str(item["code"]) for item in judged.findings}))[:CODES_SHOWN],
        hidden=judged.hidden,
        groups=groups,
        identity=identity,
        observed_only=observed_only,
    )
