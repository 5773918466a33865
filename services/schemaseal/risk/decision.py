"""From facts to a verdict: the first rule that matches, then the floor.

Floor: behind a service whose initiator is unknown nobody stands who could be asked, and nobody can be kept from
approving a change of their own. So `require` asks for at least the floor's approvals, and `allow` becomes the
floor's requirement, unless the matching rule says `initiator_known: false` itself. `deny` stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from schemaseal.risk.model import HARMLESS_CODES, Verdict
from schemaseal.risk.policy import Condition, Outcome, Policy, Requirement, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What policy may ask about a change. Nothing here but names, codes and verdicts; no schema text."""

    operation: str
    target: str
    subject: str | None
    actor_kind: Literal["human", "service"]
    requester_groups: tuple[str, ...]
    initiator_known: bool
    first_version: bool
    difference_codes: frozenset[str]
    backward: Verdict
    forward: Verdict
    finding_codes: frozenset[str]
    permanent: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """`rule` names what decided; `requirement` is set exactly where the verdict is `require`."""

    verdict: Outcome
    rule: str
    why: str
    requirement: Requirement | None


def decide(policy: Policy, facts: Facts) -> Decision:
    """The verdict of a policy on a change. Never raises."""
    rule = next((rule for rule in policy.rules if matches(rule.when, facts)), policy.fallback)
    verdict, requirement, floored = rule.verdict, rule.requirement, False
    if facts.actor_kind == "service" and not facts.initiator_known:
        if verdict == "allow" and rule.when.initiator_known is not False:
            verdict, requirement, floored = "require", policy.floor, True
        elif requirement is not None and requirement.approvals < policy.floor.approvals:
            requirement, floored = replace(requirement, approvals=policy.floor.approvals), True
    return Decision(verdict, rule.name, _why(rule, facts, verdict, requirement, floored=floored), requirement)


def matches(when: Condition, facts: Facts) -> bool:
    """All that the condition names holds."""
    return (
        _globs(when.operations, facts.operation)
        and _globs(when.targets, facts.target)
        and _globs(when.subjects, facts.subject)
        and (not when.requester_groups or bool(set(when.requester_groups) & set(facts.requester_groups)))
        and _equal(when.actor_kind, facts.actor_kind)
        and _equal(when.initiator_known, facts.initiator_known)
        and _equal(when.first_version, facts.first_version)
        and _equal(when.permanent, facts.permanent)
        and _equal(when.findings, "any" if facts.finding_codes else "none")
        and (not when.forward or facts.forward in when.forward)
        and _codes(when, facts)
    )


def _codes(when: Condition, facts: Facts) -> bool:
    if when.with_codes and not set(when.with_codes) & facts.difference_codes:
        return False
    if set(when.without_codes) & facts.difference_codes:
        return False
    return not when.backward or facts.backward in when.backward or _forgiven(when, facts)


def _forgiven(when: Condition, facts: Facts) -> bool:
    """A break counts as none when each code that is not known to be harmless is one that the rule forgives.

    What was not understood has a code of its own, which no rule can forgive; so unknown is never forgiven.
    """
    harmful = facts.difference_codes - HARMLESS_CODES
    return "yes" in when.backward and facts.backward == "no" and bool(harmful) and harmful <= set(when.lenient)


def _globs(patterns: tuple[str, ...], name: str | None) -> bool:
    return not patterns or (name is not None and any(fnmatchcase(name, pattern) for pattern in patterns))


def _equal(wanted: object, given: object) -> bool:
    return wanted is None or wanted == given


def _why(rule: Rule, facts: Facts, verdict: Outcome, requirement: Requirement | None, *, floored: bool) -> str:
    """A sentence to act upon, made of rule texts and codes; nothing of the payload can get in."""
    reason = rule.why or _reason(facts)
    if verdict != "require" or requirement is None:
        return f"{'Allowed' if verdict == 'allow' else 'Refused'} by rule {rule.name}: {reason}"
    people = "person" if requirement.approvals == 1 else "people"
    ask = f"Needs approval by {requirement.approvals} {people} of {' or '.join(requirement.groups)}"
    floor = "; no person is known behind the service that asks, so more people must agree" if floored else ""
    return f"{ask} (rule {rule.name}): {reason}{floor}"


def _reason(facts: Facts) -> str:
    said = {
        "yes": "what was valid stays valid",
        "no": "documents that were valid are refused by the new schema",
        "unknown": "what the change does to existing documents is not understood",
    }
    parts = [said[facts.backward]]
    if facts.difference_codes:
        parts.append("differences: " + ", ".join(sorted(facts.difference_codes)[:8]))
    if facts.finding_codes:
        parts.append("findings: " + ", ".join(sorted(facts.finding_codes)[:8]))
    return "; ".join(parts)
