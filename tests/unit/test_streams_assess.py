"""Judging a change: what policy is told, what is shown of it, and judging again when the base moved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemaseal.contracts import codec
from schemaseal.contracts.events import ApprovalRequested
from schemaseal.contracts.http import HttpRequest
from schemaseal.identity.access_token import Refusal, Verified
from schemaseal.registry.base import Base
from schemaseal.registry.operation import Reference
from schemaseal.risk import Decision, Facts, decide
from schemaseal.risk.policy import Policy
from schemaseal.streams import assess as assess_module
from schemaseal.streams.assess import CODES_SHOWN, NO_LIMIT, Assessment, assess, reassess
from tests.unit.streams_builder import (
    ALICE,
    BASE,
    CANARIES,
    CARD,
    CI,
    EMAIL,
    JSON,
    LEAKING,
    NARROWER,
    OLD,
    POLICY,
    SSN,
    T0,
    WIDER,
    Subject,
    asks,
    bytes_of,
    context,
    facts_of,
    in_clear,
    intercepted,
    keys,
    policy_sha256,
    register,
    schema,
)

NOT_SET = Base(identity="config:none")
STRICT = Base(identity="config:FULL", config="FULL")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Facts]:
    """The facts that policy was asked with."""
    seen: list[Facts] = []

    def spy(policy: Policy, facts: Facts) -> Decision:
        seen.append(facts)
        return decide(policy, facts)

    monkeypatch.setattr(assess_module, "decide", spy)
    return seen


def judged(
    request: HttpRequest | None = None, *, mode: str = "enforce", policy: str = POLICY, **over: Any
) -> Assessment:
    event = intercepted(request=request, policy_sha256=policy_sha256(policy), **over)
    return assess(event, Verified(event.actor, event.initiator), T0, context(policy, mode=mode))


def envelope(**members: Any) -> HttpRequest:
    body = json.dumps({"schemaType": "JSON", "schema": OLD} | members).encode()
    return HttpRequest("POST", "/subjects/orders/versions", "", JSON, body)


# ---------------------------------------------------------------- facts


def test_facts_of_a_registration(told: list[Facts]) -> None:
    judged(register(NARROWER), actor=replace(ALICE, groups=("pay", "core")))
    (facts,) = told
    assert (facts.operation, facts.target, facts.subject) == ("register", "registry", "orders")
    assert (facts.actor_kind, facts.initiator_known) == ("human", True)
    assert facts.requester_groups == ("pay", "core")
    assert (facts.backward, facts.forward) == ("no", "yes")
    assert facts.difference_codes == {"bound-tightened"}
    assert (facts.first_version, facts.permanent) == (False, False)


@pytest.mark.parametrize(
    ("request_", "base", "operation", "permanent", "subject"),
    [
        (HttpRequest("DELETE", "/subjects/orders"), BASE, "delete_subject", False, "orders"),
        (HttpRequest("DELETE", "/subjects/orders", "permanent=true"), BASE, "delete_subject", True, "orders"),
        (HttpRequest("DELETE", "/subjects/orders/versions/1"), BASE, "delete_version", False, "orders"),
        (
            HttpRequest("PUT", "/config/orders", "", JSON, b'{"compatibility":"NONE"}'),
            STRICT,
            "set_config",
            False,
            "orders",
        ),
        (HttpRequest("PUT", "/config", "", JSON, b'{"compatibility":"NONE"}'), NOT_SET, "set_config", False, None),
        (HttpRequest("DELETE", "/config/orders"), STRICT, "delete_config", False, "orders"),
        (
            HttpRequest("PUT", "/mode", "", JSON, b'{"mode":"READONLY"}'),
            Base("mode:READWRITE"),
            "set_mode",
            False,
            None,
        ),
    ],
)
def test_facts_of_what_is_no_registration(
    told: list[Facts], request_: HttpRequest, base: Base, operation: str, permanent: bool, subject: str | None
) -> None:
    """Nothing to compare is not the same as nothing broken."""
    result = judged(request_, base=base)
    (facts,) = told
    assert (facts.operation, facts.permanent, facts.subject) == (operation, permanent, subject)
    assert (facts.backward, facts.forward) == ("unknown", "unknown")
    assert (facts.difference_codes, facts.finding_codes) == (frozenset(), frozenset())
    assert not facts.first_version
    assert result.verdict == ("deny" if permanent else "require")


def test_a_first_version_breaks_nobody_if_it_can_be_read(told: list[Facts]) -> None:
    assert judged(register(LEAKING), base=None).change.rule == "first-version"
    assert (told[0].first_version, told[0].backward) == (True, "yes")
    assert told[0].finding_codes == {"sensitive-value-added"}, "all that it exposes, for nothing was there"
    assert judged(register("{not json"), base=None).verdict == "require"
    assert told[1].backward == "unknown"


def test_a_subject_of_deleted_versions_has_no_first_version(told: list[Facts]) -> None:
    judged(register(WIDER), base=replace(BASE, identity="deleted:v1:id7", schema_text=None))
    assert (told[0].first_version, told[0].backward) == (False, "unknown")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"schemaType": "AVRO", "schema": '"string"'}, "schema-type-not-json"),
        ({"references": [{"name": "a", "subject": "other", "version": 1}]}, "references-changed"),
        ({"metadata": {"properties": {"owner": "me"}}}, "metadata-given"),
        ({"ruleSet": {"domainRules": []}}, "rules-given"),
        ({"schemaTagsToAdd": [{"schemaEntity": {}, "tags": ["PII"]}]}, "tags-changed"),
        ({"version": 9}, "number-given"),
        ({"id": 9}, "number-given"),
    ],
)
def test_what_a_registration_carries_beside_its_schema_is_not_understood(
    told: list[Facts], members: dict[str, Any], code: str
) -> None:
    result = judged(envelope(**members))
    assert code in told[0].difference_codes
    assert (told[0].backward, told[0].forward) == ("unknown", "unknown")
    assert result.verdict == "require"
    assert code in result.difference_codes
    assert code in [item["code"] for item in json.loads(result.differences)]


def test_the_same_references_are_no_change_and_a_base_of_another_type_is_one(told: list[Facts]) -> None:
    sent = envelope(references=[{"name": "a", "subject": "other", "version": 1}])
    judged(sent, base=replace(BASE, references=(Reference("a", "other", 1),)))
    judged(envelope(), base=replace(BASE, schema_type="AVRO", schema_text='"string"'))
    assert "references-changed" not in told[0].difference_codes
    assert told[0].backward == "yes"
    assert told[1].difference_codes == {"schema-type-not-json"}


def test_behind_a_machine_the_initiator_decides(told: list[Facts]) -> None:
    known = judged(register(WIDER), actor=CI, initiator=ALICE.person)
    alone = judged(register(WIDER), actor=CI)
    assert [(facts.actor_kind, facts.initiator_known) for facts in told] == [("service", True), ("service", False)]
    assert known.verdict == "allow"
    assert (alone.verdict, alone.change.required, alone.change.groups) == ("require", 2, ("schema-owners",))


def test_groups_come_with_the_assessment_and_with_its_leaf() -> None:
    actor = replace(ALICE, groups=("pay", "core"))
    result = judged(register(WIDER), actor=actor)
    assert result.groups == ("pay", "core")
    told = facts_of(Subject().take(intercepted(actor=actor)), "change.assessed")
    assert told["requester"]["groups"] == ["pay", "core"]
    assert (told["identity"], told["observed_only"]) == ("verified again by streams", False)


@pytest.mark.parametrize(("identity", "label"), [(None, "not verified"), (Refusal("expired", "x"), "refused: expired")])
def test_a_denied_change_says_what_became_of_its_token(identity: Refusal | None, label: str) -> None:
    """What could be read is shown all the same: an attempt is worth as much evidence as a change."""
    event = intercepted(request=register(LEAKING))
    result = assess(event, identity, T0, context())
    assert (result.verdict, result.identity, result.change.operation) == ("deny", label, "register")
    assert [body.name for body in result.bodies] == ["request-head", "request-body"]
    assert (result.change.required, result.change.apply_within_ms) == (0, 0)


# ---------------------------------------------------------------- what policy's answer becomes


def test_times_and_people_are_those_of_the_rule() -> None:
    policy = POLICY.replace(
        "approvals: 1\n    groups: [schema-owners]",
        "approvals: 3\n    groups: [a, b]\n    expires: 5m\n    apply_within: 7s",
    )
    change = judged(register(NARROWER), policy=policy).change
    assert (change.required, change.groups) == (3, ("a", "b"))
    assert (change.expires_at, change.apply_within_ms) == (T0 + timedelta(minutes=5), 7000)
    allowed = judged(register(WIDER), policy=policy).change
    assert (allowed.required, allowed.groups, allowed.apply_within_ms) == (0, (), 3_600_000)
    assert allowed.expires_at == T0 + NO_LIMIT


@pytest.mark.parametrize("request_", [register(NARROWER), HttpRequest("DELETE", "/subjects/orders", "permanent=true")])
def test_observe_shows_the_verdict_and_holds_nothing(request_: HttpRequest) -> None:
    enforced, observed = judged(request_), judged(request_, mode="observe")
    assert enforced.verdict != "allow"
    assert not enforced.observed_only
    assert (observed.verdict, observed.change.verdict, observed.change.required) == ("allow", "allow", 0)
    assert observed.observed_only
    assert observed.change.reason is None
    assert (observed.change.rule, observed.change.why) == (enforced.change.rule, enforced.change.why)
    assert observed.differences == enforced.differences


def test_observe_says_so_only_where_it_made_a_difference_and_still_denies_strangers() -> None:
    assert not judged(register(WIDER), mode="observe").observed_only
    stranger = assess(intercepted(), None, T0, context(mode="observe"))
    assert stranger.verdict == "deny", "a request that is tied to nobody is not let through by any mode"
    assert stranger.change.rule == "identity"


# ---------------------------------------------------------------- judged again


def waiting(text: str = WIDER, **over: Any) -> Assessment:
    return judged(register(text), **over)


def base_part(text: str | None, identity: str = "v2:id8") -> tuple[Any, str]:
    made = Base(identity=identity, version=2, schema_id=8, schema_type="JSON", schema_text=text)
    return keys().base(made), identity


def test_judged_again_against_the_base_that_is_there_now() -> None:
    change = waiting().change
    part, identity = base_part(OLD)
    again = reassess(change, part, identity, context())
    assert again.verdict == "allow"
    assert (again.change.base, again.change.base_identity) == (part, "v2:id8")
    assert (again.change.request, again.change.change_id) == (change.request, change.change_id)
    assert again.bodies

    part, identity = base_part(schema(id={"type": "string"}))
    worse = reassess(change, part, identity, context())
    assert (worse.verdict, worse.change.rule) == ("require", "register")
    assert worse.change.expires_at == change.requested_at + timedelta(hours=2), "time runs from the request on"


def test_judged_again_without_a_base_is_a_first_version() -> None:
    assert reassess(waiting(NARROWER).change, None, "none", context()).change.rule == "first-version"


@pytest.mark.parametrize(
    "over",
    [
        {"policy_sha256": "0" * 64},
        {"target": "elsewhere"},
        {"request": keys().request(register(WIDER), "applier")},
        {"request": keys().request(HttpRequest("GET", "/subjects"))},
    ],
)
def test_what_cannot_be_judged_again_is_denied(over: dict[str, Any]) -> None:
    part, identity = base_part(OLD)
    again = reassess(replace(waiting().change, **over), part, identity, context())
    assert again.verdict == "deny"
    assert again.change.base_identity == "v2:id8"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_new_base_that_cannot_be_read_is_denied(content: bytes) -> None:
    assert reassess(waiting().change, keys().seal(content, "base", "x"), "v2:id8", context()).verdict == "deny"


def test_allow_does_not_count_again_where_policy_asks_for_groups() -> None:
    """Groups are not in the state. A rule that held the change for them would not match any more."""
    rule = "rules:\n  - {name: trusted, when: {operations: [register], requester_groups: [core]}, verdict: allow}\n"
    policy = POLICY.replace("rules:\n", rule, 1)
    change = waiting(policy=policy, actor=replace(ALICE, groups=("core",))).change
    assert change.rule == "trusted"
    part, identity = base_part(OLD)
    again = reassess(change, part, identity, context(policy))
    assert (again.verdict, again.change.base_identity) == ("require", "v2:id8")
    part, identity = base_part(schema(id={"type": "string"}))
    assert reassess(change, part, identity, context(policy)).verdict == "require"
    assert reassess(change, part, identity, context(policy, mode="observe")).verdict == "allow", "it holds nothing"


# ---------------------------------------------------------------- what is shown


def test_codes_are_cut_and_sorted_for_the_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        assess_module,
        "_beyond_schema",
        lambda *_: {f"code-{number:02}": "x" for number in range(CODES_SHOWN + 5, 0, -1)},
    )
    result = judged(register(OLD))
    assert result.difference_codes == tuple(f"code-{number:02}" for number in range(1, CODES_SHOWN + 1))
    assert len(json.loads(result.differences)) == CODES_SHOWN + 5, "people are shown all of them"


def test_many_differences_are_cut_with_every_code_named() -> None:
    many = {f"p{number:03}": {"type": "string"} for number in range(120)}
    result = judged(register(schema(**many)))
    shown = json.loads(result.differences)
    assert len(shown) < 60
    assert "more" in [item["code"] for item in shown]
    assert "more" in result.difference_codes
    assert len(codec.encode(asks(Subject().take(intercepted(request=register(schema(**many, id=False)))))[0])) < 64_000


PLACES = ("enum", "const", "default", "examples", "description", "$comment", "pattern", "unknown-keyword")


@given(
    canary=st.sampled_from((CARD, EMAIL, SSN)),
    place=st.sampled_from(PLACES),
    name=st.sampled_from(["note", "ssn", "password", "by canary"]),
    into_base=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_neither_why_nor_differences_hold_what_was_in_the_schemas(
    canary: str, place: str, name: str, into_base: bool
) -> None:
    name = f"of {canary}" if name == "by canary" else name
    value = [canary] if place in ("enum", "examples") else canary
    dirty = schema(id={"type": "integer"}, **{name: {"type": "string", place: value}})
    old, new = (dirty, NARROWER) if into_base else (OLD, dirty)
    subject = Subject()
    outputs = subject.take(intercepted(request=register(new), base=replace(BASE, schema_text=old)))
    result = judged(register(new), base=replace(BASE, schema_text=old))
    texts = (result.differences, result.findings, result.change.why, result.change.subject or "")
    assert [text for text in texts if canary in text] == []
    assert json.loads(result.differences), "there is something that differs"
    assert [found for found in CANARIES if found.encode() in in_clear(outputs)] == []


@pytest.mark.parametrize("secret", ["correct-horse-battery", "Tr0ub4dor&3"])
def test_a_value_under_a_sensitive_name_is_not_shown_though_it_looks_like_nothing(secret: str) -> None:
    dirty = schema(id={"type": "integer"}, password={"type": "string", "default": secret, "examples": [secret]})
    outputs = Subject().take(intercepted(request=register(dirty)))
    assert secret.encode() not in in_clear(outputs)
    (ask,) = asks(outputs)
    assert ask.hidden > 0


def test_why_is_made_of_rules_and_codes() -> None:
    why = judged(register(LEAKING)).change.why
    assert why.startswith("Needs approval by 1 person of schema-owners (rule register): ")
    assert "sensitive-value-added" in why
    assert "note" not in why


def test_the_reason_of_the_sender_is_masked() -> None:
    request = register(NARROWER, headers=(*JSON, ("Schemaseal-Reason", f"asked by {EMAIL}")))
    result = judged(request)
    assert result.reason is not None
    assert result.reason.startswith("asked by EMAIL~K1~")
    assert judged(register(NARROWER)).reason is None


_IN_ANOTHER_PROCESS = """
import hashlib
from schemaseal.identity.access_token import Verified
from schemaseal.streams.assess import assess
from tests.unit.streams_builder import ALICE, BASE, T0, context, intercepted, register, schema
from dataclasses import replace

names = [f"name{n}" for n in range(12)]
old = schema(**{n: {"type": ["string", "null", "integer"], "enum": names} for n in names})
new = schema(**{f"{n}x": {"type": ["null", "boolean"], "password": "p", "writeOnly": True} for n in names})
event = intercepted(request=register(new), base=replace(BASE, schema_text=old))
made = assess(event, Verified(ALICE), T0, context())
shown = (made.differences, made.findings, made.change.why, made.difference_codes, [b.content for b in made.bodies])
print(hashlib.sha256(repr(shown).encode()).hexdigest(), len(made.difference_codes))
"""


def test_a_worker_that_starts_anew_judges_in_the_same_bytes() -> None:
    """After a crash another process handles the event again, and its sets have another order."""
    printed = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = [sys.executable, "-c", _IN_ANOTHER_PROCESS]
        printed.add(subprocess.run(child, env=environment, check=True, capture_output=True, text=True).stdout)
    (only,) = printed
    assert int(only.split()[1]) > 1


# ---------------------------------------------------------------- hostile schemas

TEXT = st.text(st.characters(exclude_categories=[]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "enum", "const", "properties", "required", "not", "$ref", "items", "default"])
            | TEXT,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(old=VALUES, new=VALUES)
@example(old={"enum": ["\ud800"]}, new={"enum": ["\udfff"]})
@example(old={}, new={"properties": {"\ud800": {"default": "\ud800"}}, "required": ["\ud800"]})
@settings(max_examples=250, deadline=None)
def test_no_schema_stops_the_worker(old: Any, new: Any) -> None:
    """An exception here ends the process, and the event would come again: one client could stop all."""
    sent = register(json.dumps(new))
    event = intercepted(request=sent, base=replace(BASE, schema_text=json.dumps(old)))
    result = assess(event, Verified(ALICE), T0, context())
    assert result.verdict in ("allow", "require")
    subject = Subject()
    outputs = subject.take(event)
    assert bytes_of(outputs)
    assert codec.decode(type(subject.state), codec.encode(subject.state)) == subject.state
    for ask in asks(outputs):
        assert codec.decode(ApprovalRequested, codec.encode(ask)) == ask


@pytest.mark.parametrize(
    "text",
    [
        '{"not":' * 900 + "{}" + "}" * 900,
        "[" * 50_000,
        '{"maximum": NaN, "enum": [Infinity]}',
        "9" * 5000,
        "",
        "\ud800",
    ],
)
def test_a_text_that_is_hardly_a_schema_needs_people(text: str) -> None:
    result = judged(register(text))
    assert result.verdict == "require"
    assert result.change.rule == "register"
