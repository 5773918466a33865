"""Policy as data: ordered rules in YAML, read strictly.

A policy that cannot be meant does not load, and every fault is told at once: unknown keys, rules that can never
match or never be satisfied, no fallback. What loads is identified by the SHA-256 of its text.

```yaml
apply_within: 1h          # after approval
expires: 72h              # without enough approvals
floor: {approvals: 2, groups: [schema-owners]}   # service whose initiator is unknown
rules:
  - name: compatible
    when: {operations: [register], backward: yes, findings: none}
    verdict: allow
fallback: {verdict: require, approvals: 2, groups: [schema-owners]}
```
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import yaml

from schemaseal.core.errors import SettingsError
from schemaseal.risk.model import BREAKING_CODES, Verdict

Outcome = Literal["allow", "deny", "require"]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_TOP = frozenset({"apply_within", "expires", "floor", "rules", "fallback"})
_OUTCOME = frozenset({"verdict", "approvals", "groups", "expires", "apply_within", "why"})
_RULE = _OUTCOME | {"name", "when"}
_LISTS = ("operations", "targets", "subjects", "requester_groups", "with_codes", "without_codes", "lenient")
_FLAGS = ("initiator_known", "first_version", "permanent")
_WHEN = frozenset({*_LISTS, *_FLAGS, "actor_kind", "backward", "forward", "findings"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """Approvals needed, from which groups, within which time; and how long an approval may be used."""

    approvals: int
    groups: tuple[str, ...]
    expires_seconds: int
    apply_within_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What must hold for a rule. Empty and None: anything. Operations, targets, subjects may hold `*`."""

    operations: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    requester_groups: tuple[str, ...] = ()
    with_codes: tuple[str, ...] = ()
    without_codes: tuple[str, ...] = ()
    lenient: tuple[str, ...] = ()
    actor_kind: str | None = None
    initiator_known: bool | None = None
    first_version: bool | None = None
    permanent: bool | None = None
    backward: tuple[Verdict, ...] = ()
    forward: tuple[Verdict, ...] = ()
    findings: Literal["none", "any"] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Named outcome for what its condition matches. `requirement` is set exactly where the verdict is `require`."""

    name: str
    when: Condition
    verdict: Outcome
    requirement: Requirement | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """`floor`: what a change by a service with unknown initiator needs at least."""

    sha256: str
    apply_within_seconds: int
    floor: Requirement
    rules: tuple[Rule, ...]
    fallback: Rule


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the first one would be dropped in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(set(keys)):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_policy(text: str) -> Policy:
    """The policy that a text says. Raises `SettingsError` that lists every fault."""
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that is stricter
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"the policy is not YAML: {error}", hint="correct the policy file") from error
    if not isinstance(data, dict) or not data:
        raise SettingsError("the policy is empty", hint="start from genesis.yaml")
    reader = _Reader()
    policy = reader.policy(data, hashlib.sha256(text.encode()).hexdigest())
    if reader.faults:
        listed = "\n".join(f"- {fault}" for fault in reader.faults)
        raise SettingsError(f"the policy does not load:\n{listed}", hint="correct the policy file")
    return policy


@dataclass(slots=True)
class _Reader:
    """Goes on after a fault, with something harmless in its place, so that all faults are seen at once."""

    faults: list[str] = field(default_factory=list)
    expires: int = 0
    apply_within: int = 0

    def policy(self, data: dict[Any, Any], sha256: str) -> Policy:
        self._unknown("policy", data, _TOP)
        self.expires = self._seconds("policy: expires", data.get("expires"))
        self.apply_within = self._seconds("policy: apply_within", data.get("apply_within"))
        floor = self._floor(data.get("floor"))
        given = data.get("rules")
        if not isinstance(given, list) or not given:
            self.faults.append("policy: rules must be a list with at least one rule")
            given = []
        rules = tuple(self._rule(number, item) for number, item in enumerate(given, 1))
        self._order(rules)
        fallback = self._fallback(data.get("fallback"))
        return Policy(sha256, self.apply_within, floor, rules, fallback)

    def _order(self, rules: tuple[Rule, ...]) -> None:
        names = [rule.name for rule in rules]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.faults.append(f"rule {name}: the name is used twice")
        for rule, after in pairwise(rules):
            if rule.when == Condition():
                self.faults.append(f"rule {after.name}: never reached, rule {rule.name} before it matches everything")

    def _floor(self, data: Any) -> Requirement:
        if not isinstance(data, dict):
            self.faults.append("policy: floor must say approvals and groups for services with unknown initiator")
            return Requirement(2, (), self.expires, self.apply_within)
        self._unknown("floor", data, frozenset({"approvals", "groups", "expires", "apply_within"}))
        floor = self._requirement("floor", data)
        if floor.approvals == 1:
            self.faults.append("floor: approvals must be 2 or more")
        return floor

    def _fallback(self, data: Any) -> Rule:
        if not isinstance(data, dict):
            self.faults.append("policy: fallback is missing: it says what holds where no rule matches")
            return Rule("fallback", Condition(), "deny", None)
        self._unknown("fallback", data, _OUTCOME)
        if data.get("verdict") == "allow":
            self.faults.append("fallback: must be deny or require")
        return self._outcome("fallback", "fallback", Condition(), data)

    def _rule(self, number: int, data: Any) -> Rule:
        if not isinstance(data, dict):
            self.faults.append(f"rule {number}: must be a mapping")
            return Rule(str(number), Condition(permanent=True), "deny", None)
        name = data.get("name")
        if not isinstance(name, str) or not _NAME.match(name) or name == "fallback":
            self.faults.append(f"rule {number}: name must be lower case letters, digits and dashes, and not fallback")
            name = str(number)
        label = f"rule {name}"
        self._unknown(label, data, _RULE)
        return self._outcome(label, name, self._condition(label, data.get("when", {})), data)

    def _outcome(self, label: str, name: str, when: Condition, data: dict[Any, Any]) -> Rule:
        verdict, why = data.get("verdict"), data.get("why")
        if why is not None and (not isinstance(why, str) or not why):
            self.faults.append(f"{label}: why must be a sentence")
        if verdict == "require":
            return Rule(name, when, "require", self._requirement(label, data), why)
        if verdict not in ("allow", "deny"):
            self.faults.append(f"{label}: verdict must be allow, deny or require")
        for key in sorted({"approvals", "groups", "expires", "apply_within"} & set(data)):
            self.faults.append(f"{label}: {key} has a meaning only with verdict require")
        return Rule(name, when, "allow" if verdict == "allow" else "deny", None, why)

    def _requirement(self, label: str, data: dict[Any, Any]) -> Requirement:
        approvals = data.get("approvals")
        if not isinstance(approvals, int) or isinstance(approvals, bool) or not 1 <= approvals <= 20:
            self.faults.append(f"{label}: approvals must be a whole number from 1 to 20")
            approvals = 20
        groups = self._texts(label, "groups", data.get("groups"))
        expires = self._seconds(f"{label}: expires", data["expires"]) if "expires" in data else self.expires
        within = (
            self._seconds(f"{label}: apply_within", data["apply_within"])
            if "apply_within" in data
            else self.apply_within
        )
        return Requirement(approvals, groups, expires, within)

    def _condition(self, label: str, data: Any) -> Condition:
        if not isinstance(data, dict):
            self.faults.append(f"{label}: when must be a mapping")
            return Condition()
        self._unknown(f"{label}: when", data, _WHEN)
        made: dict[str, Any] = {key: self._texts(label, key, data[key]) for key in _LISTS if key in data}
        for key in _FLAGS:
            if key in data and not isinstance(data[key], bool):
                self.faults.append(f"{label}: {key} must be true or false")
            made[key] = data.get(key)
        for key, allowed in (("actor_kind", ("human", "service")), ("findings", ("none", "any"))):
            if key in data and data[key] not in allowed:
                self.faults.append(f"{label}: {key} must be {' or '.join(allowed)}")
            made[key] = data.get(key)
        for key in ("backward", "forward"):
            if key in data:
                made[key] = self._verdicts(label, key, data[key])
        condition = Condition(**made)
        self._satisfiable(label, condition)
        return condition

    def _satisfiable(self, label: str, when: Condition) -> None:
        if when.lenient and "yes" not in when.backward:
            self.faults.append(f"{label}: lenient has a meaning only with backward: yes")
        for code in sorted(set(when.lenient) - BREAKING_CODES):
            self.faults.append(f"{label}: lenient: {code} is no code of a break that can be forgiven")
        for code in sorted(set(when.with_codes) & set(when.without_codes)):
            self.faults.append(f"{label}: can never match: {code} is both wanted and excluded")
        if when.actor_kind == "human" and when.initiator_known is False:
            self.faults.append(f"{label}: can never match: the initiator of a human's change is known")

    def _verdicts(self, label: str, key: str, data: Any) -> tuple[Verdict, ...]:
        """YAML reads a bare yes and no as booleans; both spellings mean the verdict."""
        words: dict[Any, Verdict] = {True: "yes", False: "no", "yes": "yes", "no": "no", "unknown": "unknown"}
        given = data if isinstance(data, list) else [data]
        if not given or not all(isinstance(item, str | bool) and item in words for item in given):
            self.faults.append(f"{label}: {key} must be yes, no or unknown, or a list of these")
            return ()
        return tuple(words[item] for item in given)

    def _texts(self, label: str, key: str, data: Any) -> tuple[str, ...]:
        if not isinstance(data, list) or not data or not all(isinstance(item, str) and item for item in data):
            self.faults.append(f"{label}: {key} must be a list of at least one text")
            return ()
        return tuple(data)

    def _seconds(self, label: str, data: Any) -> int:
        match = _DURATION.match(data) if isinstance(data, str) else None
        if match is None:
            self.faults.append(f"{label} must be a time like 72h, 30m or 3d")
            return 1
        return int(match[1]) * _UNITS[match[2]]

    def _unknown(self, label: str, data: dict[Any, Any], known: frozenset[str]) -> None:
        for key in sorted(str(key) for key in data if key not in known):
            self.faults.append(f"{label}: unknown key {key}")
