"""What policy says: faults told at once, every rule of genesis, the floor, and what is forgiven."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import Any

import pytest

from schemaseal.core.errors import SettingsError
from schemaseal.devstack import orders
from schemaseal.risk import Decision, Facts, Requirement, decide, diff, findings
from schemaseal.risk.policy import load_policy

TEXT = (resources.files("schemaseal.risk") / "genesis.yaml").read_text("utf-8")
GENESIS = load_policy(TEXT)


def facts(**over: Any) -> Facts:
    fields: dict[str, Any] = {
        "operation": "register",
        "target": "registry",
        "subject": "orders-value",
        "actor_kind": "human",
        "requester_groups": (),
        "initiator_known": True,
        "first_version": False,
        "difference_codes": frozenset(),
        "backward": "yes",
        "forward": "yes",
        "finding_codes": frozenset(),
        "permanent": False,
    }
    return Facts(**(fields | over))


def of_schemas(old: dict[str, Any], new: dict[str, Any]) -> Decision:
    found = diff(json.dumps(old), json.dumps(new))
    return decide(
        GENESIS,
        facts(
            difference_codes=frozenset(d.code for d in found.differences),
            backward=found.backward,
            forward=found.forward,
            finding_codes=frozenset(f.code for f in findings(old, new)),
        ),
    )


def codes(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("given", "rule", "verdict", "approvals"),
    [
        ({"first_version": True, "finding_codes": codes("sensitive-value-added")}, "first-version", "allow", 0),
        (
            {"first_version": True, "actor_kind": "service", "initiator_known": False},
            "first-version-by-unknown",
            "require",
            2,
        ),
        ({}, "compatible", "allow", 0),
        (
            {"backward": "no", "difference_codes": codes("property-added-to-open-model", "property-added")},
            "compatible",
            "allow",
            0,
        ),
        (
            {"backward": "no", "difference_codes": codes("property-added-to-open-model", "unsupported-keyword")},
            "register",
            "require",
            1,
        ),
        ({"backward": "no", "difference_codes": codes("never-heard-of")}, "register", "require", 1),
        ({"backward": "no"}, "register", "require", 1),
        ({"backward": "unknown"}, "register", "require", 1),
        (
            {"backward": "unknown", "difference_codes": codes("property-added-to-open-model")},
            "register",
            "require",
            1,
        ),
        ({"finding_codes": codes("sensitive-name-added")}, "register", "require", 1),
        ({"operation": "delete_subject", "permanent": True}, "permanent-delete", "require", 2),
        ({"operation": "delete_context"}, "delete-context", "require", 2),
        ({"operation": "delete_config"}, "settings", "require", 1),
        ({"operation": "set_mode"}, "settings", "require", 1),
        ({"operation": "delete_version"}, "delete", "require", 1),
        ({"operation": "set_exporter", "backward": "unknown"}, "fallback", "require", 2),
    ],
)
def test_genesis(given: dict[str, Any], rule: str, verdict: str, approvals: int) -> None:
    decision = decide(GENESIS, facts(**given))
    assert (decision.rule, decision.verdict) == (rule, verdict)
    if approvals:
        assert decision.requirement == Requirement(approvals, ("schema-owners",), 72 * 3600, 3600)
        assert "schema-owners" in decision.why
    else:
        assert decision.requirement is None


def test_every_rule_of_genesis_is_tried_above() -> None:
    marks: Any = vars(test_genesis)["pytestmark"]
    assert {case[1] for case in marks[0].args[1]} == {rule.name for rule in GENESIS.rules} | {"fallback"}


def test_the_demo_is_held_and_so_is_each_half_of_it() -> None:
    old = orders.order_v1()
    assert of_schemas(old, orders.order_v2()).rule == "register"
    only_ssn, only_removed = orders.order_v1(), orders.order_v1()
    only_ssn["$defs"]["customer"]["properties"]["ssn"] = {"type": "string"}
    only_removed["required"].remove("currency")
    del only_removed["properties"]["currency"]
    assert of_schemas(old, only_ssn).verdict == "require"
    assert of_schemas(old, only_removed).verdict == "require"
    harmless = orders.order_v1()
    harmless["properties"]["warehouse_code"] = {"type": "string"}
    assert of_schemas(old, harmless).rule == "compatible"


@pytest.mark.parametrize("operation", ["register", "set_config", "delete_subject", "change_tags"])
def test_floor_for_a_service_nobody_stands_behind(operation: str) -> None:
    decision = decide(GENESIS, facts(operation=operation, actor_kind="service", initiator_known=False))
    assert decision.requirement is not None
    assert decision.requirement.approvals == 2
    assert decide(GENESIS, facts(actor_kind="service")).verdict == "allow"


def test_an_allow_below_the_floor_must_say_so() -> None:
    rule = "rules: [{name: bots, when: {operations: [register], initiator_known: false}, verdict: allow}]"
    head = "apply_within: 1h\nexpires: 1d\nfloor: {approvals: 2, groups: [g]}\nfallback: {verdict: deny}\n"
    unknown = facts(actor_kind="service", initiator_known=False)
    assert decide(load_policy(head + rule), unknown).verdict == "allow"
    assert decide(load_policy(head + rule.replace(", initiator_known: false", "")), unknown).verdict == "require"
    assert decide(load_policy(head + rule), facts()).verdict == "deny"


def test_identity_and_times() -> None:
    assert GENESIS.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert GENESIS.apply_within_seconds == 3600


def test_all_faults_at_once() -> None:
    text = """
apply_within: soon
surprise: 1
floor: {approvals: 1, groups: [a]}
rules:
  - {name: A b, when: {operations: []}, verdict: allow}
  - {name: twice, verdict: require, approvals: 0}
  - {name: twice, when: {backward: maybe, colour: red}, verdict: perhaps}
  - {name: soft, when: {lenient: [unsupported-keyword]}, verdict: allow, groups: [a]}
"""
    with pytest.raises(SettingsError) as caught:
        load_policy(text)
    for part in (
        "unknown key surprise",
        "apply_within must be a time",
        "expires must be a time",
        "floor: approvals must be 2",
        "rule 1: name",
        "operations must be a list",
        "rule twice: the name is used twice",
        "rule twice: approvals",
        "rule twice: groups",
        "rule twice: never reached",
        "backward must be",
        "unknown key colour",
        "verdict must be",
        "lenient has a meaning only",
        "unsupported-keyword is no code",
        "groups has a meaning only",
        "fallback is missing",
    ):
        assert part in str(caught.value), part


@pytest.mark.parametrize("text", ["", "{}", "- a", "a: [", "a: 1\na: 2", "null", "!!python/name:os.system x"])
def test_what_is_no_policy_does_not_load(text: str) -> None:
    with pytest.raises(SettingsError):
        load_policy(text)


def test_a_fallback_that_allows_does_not_load() -> None:
    start = TEXT.index("fallback:\n")
    with pytest.raises(SettingsError, match="fallback: must be deny or require"):
        load_policy(TEXT[:start] + "fallback: {verdict: allow}\n")
