"""Pairs of schemas with the verdicts they deserve, and texts that try to keep the comparison busy."""

from __future__ import annotations

import importlib
import json
import time
from typing import Any

import pytest

from schemaseal.devstack import orders
from schemaseal.risk import diff
from schemaseal.risk.model import BREAKING_CODES, EQUAL_CODES, UNKNOWN_CODES, WIDENING_CODES, Diff, consequence

# Published without type information, so its names are looked up at run time.
JSONSCHEMA: Any = importlib.import_module("jsonschema")
S = "https://json-schema.org/draft/2020-12/schema"
D4, D7 = "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"
STR, INT, NUM = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def closed(**properties: Any) -> dict[str, Any]:
    return obj(**properties) | {"additionalProperties": False}


def compared(old: Any, new: Any, schema: str | None = S) -> Diff:
    def text(value: Any) -> str:
        return json.dumps({"$schema": schema} | value if schema and isinstance(value, dict) else value)

    return diff(text(old), text(new))


def tree(kind: Any) -> dict[str, Any]:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "value": kind}}
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}


CASES: list[tuple[str, Any, Any, str, str, set[str]]] = [
    ("an integer is a number", INT, NUM, "yes", "no", {"type-widened"}),
    ("0.5 is no integer", NUM, INT, "no", "yes", {"type-narrowed"}),
    ("number has integer in it", {"type": ["number", "integer"]}, NUM, "yes", "yes", set()),
    ("null is let in", STR, {"type": ["null", "string"]}, "yes", "no", {"type-widened"}),
    ("other type", STR, INT, "no", "no", {"type-changed"}),
    ("type appears", {}, STR, "no", "yes", {"type-narrowed"}),
    ("all types named", {}, {"type": ["null", "boolean", "object", "array", "number", "string"]}, "yes", "yes", set()),
    ("required appears", obj(a=STR), obj(a=STR) | {"required": ["a"]}, "no", "yes", {"required-added"}),
    ("required goes", obj(a=STR) | {"required": ["a"]}, obj(a=STR), "yes", "no", {"required-removed"}),
    (
        "readers relied on it, old documents stay valid",
        obj(a=STR) | {"required": ["a"]},
        obj(),
        "yes",
        "no",
        {"required-property-removed", "property-removed"},
    ),
    ("an old document may hold ssn as a number", obj(), obj(ssn=STR), "no", "yes", {"property-added-to-open-model"}),
    ("a property without constraint", obj(), obj(a={"title": "A"}), "yes", "yes", {"property-added"}),
    ("no old document holds it", closed(), closed(a=STR), "yes", "no", {"property-added-to-closed-model"}),
    ("a closed model refuses it", closed(a=STR), closed(), "no", "yes", {"property-removed-from-closed-model"}),
    (
        "every old document holds it",
        obj() | {"required": ["a"]},
        obj(a=STR) | {"required": ["a"]},
        "no",
        "yes",
        {"required-property-constrained"},
    ),
    ("others were strings already", obj() | {"additionalProperties": STR}, obj(a=STR) | {"additionalProperties": STR},
     "yes", "yes", {"property-added"}),
    ("false forbids", obj(), obj(a=False), "no", "yes", {"property-forbidden"}),
    ("closing", obj(a=STR), closed(a=STR), "no", "yes", {"additional-properties-closed"}),
    ("opening", closed(a=STR), obj(a=STR), "yes", "no", {"additional-properties-opened"}),
    ("others constrained", obj(), obj() | {"additionalProperties": STR}, "no", "yes", {"type-narrowed"}),
    ("enum value goes", {"enum": [1, 2]}, {"enum": [1]}, "no", "yes", {"enum-value-removed"}),
    ("enum value comes", {"enum": [1]}, {"enum": [1, 2]}, "yes", "no", {"enum-value-added"}),
    ("true is not 1", {"const": 1}, {"const": True}, "no", "no", {"enum-value-removed", "enum-value-added"}),
    ("1.0 is 1", {"const": 1}, {"enum": [1.0]}, "yes", "yes", set()),
    ("enum appears", STR, STR | {"enum": ["a"]}, "no", "yes", {"enum-added"}),
    ("shorter", STR, STR | {"maxLength": 3}, "no", "yes", {"bound-tightened"}),
    ("minLength 0 says nothing", STR, STR | {"minLength": 0}, "yes", "yes", set()),
    ("exclusive", NUM | {"minimum": 0}, NUM | {"exclusiveMinimum": 0}, "no", "yes", {"bound-tightened"}),
    ("looser", INT | {"maximum": 3}, INT | {"maximum": 5}, "yes", "no", {"bound-loosened"}),
    ("items", {"type": "array", "items": INT}, {"type": "array", "items": NUM}, "yes", "no", {"type-widened"}),
    ("items appear", {"type": "array"}, {"type": "array", "items": INT}, "no", "yes", {"type-narrowed"}),
    ("nothing is valid", STR, False, "no", "yes", {"schema-forbidden"}),
    ("title", {"title": "one"}, {"title": "two"}, "yes", "yes", {"annotation-changed"}),
    ("recursion, equal", tree(STR), tree(STR | {"title": "t"}), "yes", "yes", {"annotation-changed"}),
    ("recursion hides no break", tree(NUM), tree(INT), "no", "yes", {"type-narrowed"}),
    ("inlined", {"$ref": "#/$defs/a", "$defs": {"a": STR}}, STR, "yes", "yes", set()),
    ("sibling of a reference counts", {"$ref": "#/$defs/a", "$defs": {"a": STR}},
     {"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": STR}}, "no", "yes", {"bound-tightened"}),
    ("equal combinators over changed definitions", {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": NUM}},
     {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": INT}}, "unknown", "unknown", {"unsupported-keyword"}),
    ("equal combinators over equal definitions", {"title": "1", "anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": NUM}},
     {"title": "2", "anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": NUM}}, "yes", "yes", {"annotation-changed"}),
    ("pattern", STR | {"pattern": "a"}, STR | {"pattern": "b"}, "unknown", "unknown", {"unsupported-keyword"}),
    ("unevaluated depends on the rest", obj(a=STR) | {"unevaluatedProperties": False},
     obj(a=STR, b={}) | {"unevaluatedProperties": False}, "unknown", "unknown",
     {"property-added", "unsupported-keyword"}),
    ("a pattern may match the name", obj() | {"patternProperties": {"s": INT}},
     obj(ssn={}) | {"patternProperties": {"s": INT}}, "unknown", "unknown", {"unsupported-keyword"}),
    ("not a schema", {"type": "record"}, {"type": "string"}, "unknown", "unknown", {"malformed-schema"}),
    ("elsewhere", {"$ref": "other.json"}, {"$ref": "other.json"}, "unknown", "unknown", {"remote-reference"}),
    ("nowhere", {"$ref": "#/$defs/a"}, STR, "unknown", "unknown", {"unresolved-reference"}),
    ("in a circle", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, STR, "unknown", "unknown",
     {"unresolved-reference"}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "old", "new", "backward", "forward", "codes"), CASES, ids=[c[0] for c in CASES])
def test_verdicts(reason: str, old: Any, new: Any, backward: str, forward: str, codes: set[str]) -> None:
    found = compared(old, new)
    assert (found.backward, found.forward) == (backward, forward), reason
    assert {difference.code for difference in found.differences} == codes
    assert all(consequence(d.code) == (d.effect, d.breaks) for d in found.differences)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_equal_texts_have_no_differences(case: tuple[str, Any, Any, str, str, set[str]]) -> None:
    for schema in case[1:3]:
        if schema != {"$ref": "other.json"}:
            assert compared(schema, schema) == Diff((), "yes", "yes")


def test_dialects() -> None:
    old, new = {"minimum": 0}, {"minimum": 0, "exclusiveMinimum": True}
    assert compared(old, new, D4).backward == "no"
    assert compared(old, new, D7).backward == "unknown"
    ignored = {"$ref": "#/definitions/a", "minLength": 1, "definitions": {"a": STR}}
    assert compared(ignored, ignored | {"minLength": 2}, D7).backward == "yes"
    assert compared(ignored, ignored | {"minLength": 2}, None).backward == "unknown"
    assert compared({"const": 1}, {}, D4).backward == "unknown"
    assert (
        compared(STR, STR | {"title": "x"}, "https://elsewhere.example/meta").differences[0].code == "unknown-dialect"
    )
    changed = diff(json.dumps(STR | {"$schema": D7}), json.dumps(STR | {"$schema": S}))
    assert (changed.backward, changed.differences[0].code) == ("unknown", "dialect-changed")


def test_what_parsers_disagree_about_is_not_understood() -> None:
    for text in ('{"type": "string", "type": "integer"}', '{"minimum": NaN}', "{", '"string"', "[]", "1"):
        assert diff(text, text).backward == "unknown"
    exact = diff('{"maximum": 0.1000000000000000000001}', '{"maximum": 0.1}')
    assert exact.backward == "no"


def test_the_demo() -> None:
    found = diff(orders.order_v1_text(), orders.order_v2_text())
    codes = {difference.code: difference for difference in found.differences}
    assert (found.backward, found.forward) == ("no", "no")
    assert set(codes) == {"property-added-to-open-model", "required-property-removed", "property-removed"}
    added = codes["property-added-to-open-model"]
    assert (added.pointer_new, added.instance_path, added.via_ref) == (
        "/$defs/customer/properties/ssn",
        "/customer",
        True,
    )
    assert added.witness is not None
    for schema, valid in ((orders.order_v1(), True), (orders.order_v2(), False)):
        node = JSONSCHEMA.Draft202012Validator({"$ref": "#/$defs/customer", "$defs": schema["$defs"]})
        assert node.is_valid(added.witness[0]) is valid


def nested(depth: int, leaf: Any) -> str:
    return '{"properties": {"a": ' * depth + json.dumps(leaf) + "}}" * depth


def defs(count: int, kind: str) -> str:
    made = {f"d{n}": {"properties": {f"p{m}": {"$ref": f"#/$defs/d{m}"} for m in range(count)}} for n in range(count)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": made | {f"d{count - 1}": {"type": kind}}})


def crossed(count: int) -> str:
    """Rings of coprime lengths give as many pairs as the product of the lengths."""
    ring = {f"d{n}": {"properties": {"n": {"$ref": f"#/$defs/d{(n + 1) % count}"}}} for n in range(count)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": ring})


HOSTILE = [
    (nested(100_000, STR), nested(100_000, INT)),
    (nested(400, STR), nested(400, INT)),
    (nested(63, {"enum": [nested(40, 1)]}), nested(63, {"enum": []})),
    (defs(300, "string"), defs(300, "integer")),
    (crossed(1009), crossed(1013)),
    (json.dumps({"enum": list(range(150_000))}), json.dumps({"enum": list(range(1, 150_000))})),
    (json.dumps({"a": "x" * 1_100_000}), "{}"),
    (json.dumps({"allOf": [{"$ref": "#"}] * 2, "title": "1"}), json.dumps({"allOf": [{"$ref": "#"}] * 2})),
    ('{"maximum": 1E999999999}', '{"maximum": 1E99999999}'),
    ('{"const": 1E999999999}', '{"type": "integer"}'),
    ('{"maximum": ' + "9" * 5000 + "}", "{}"),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_end_soon(number: int) -> None:
    old, new = HOSTILE[number]
    began = time.monotonic()
    found = diff(old, new)
    assert time.monotonic() - began < 8
    assert found.differences
    assert found == diff(old, new)  # the same every time, so that a replay judges alike
    json.dumps([found.backward, found.forward])


def test_every_code_is_in_one_table() -> None:
    tables = (BREAKING_CODES, WIDENING_CODES, EQUAL_CODES, UNKNOWN_CODES)
    assert sum(map(len, tables)) == len(frozenset[str]().union(*tables))
