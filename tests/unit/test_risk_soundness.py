"""Whatever the comparison says about generated schemas, an independent validator must not contradict it."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft202012Validator

from schemaseal.risk import diff
from schemaseal.risk.model import Difference

DRAFTS: dict[str, Any] = {
    "https://json-schema.org/draft/2020-12/schema": Draft202012Validator,
    "http://json-schema.org/draft-04/schema#": Draft4Validator,
}
NAMES = st.sampled_from(["a", "b", "c"])
scalars = st.sampled_from([None, True, False, 0, 1, 2, -1, 0.5, 1.5, "", "a", "ab", "abc"])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "object", "array", "number", "integer", "string"])
small = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True) | st.just("object"),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "enum": st.lists(scalars, min_size=1, max_size=3),
            "minimum": st.integers(-1, 2) | st.just(0.5),
            "maximum": st.integers(-1, 2),
            "minLength": small,
            "maxLength": small,
            "minItems": small,
            "maxProperties": small,
            "title": st.sampled_from(["t", "u"]),
        },
    )


reference = st.sampled_from(["#", "#/$defs/x", "#/$defs/y"]).map(lambda ref: {"$ref": ref})
plain = st.recursive(_schemas(st.just({}) | reference), _schemas, max_leaves=3)
opaque = _schemas(plain) | st.fixed_dictionaries({"anyOf": st.lists(plain | reference, min_size=1, max_size=2)})
nodes = plain | opaque | reference


@st.composite
def roots(draw: st.DrawFn) -> dict[str, Any]:
    root: dict[str, Any] = dict(draw(_schemas(nodes) | opaque))
    root["$defs"] = {"x": draw(plain), "y": draw(plain)}
    return root


def _places(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [place for item in node for place in _places(item)]
    if not isinstance(node, dict):
        return []
    return [node, *(place for item in node.values() for place in _places(item))]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unrelated schemas are rarely compatible: mostly new is old with a few keywords changed somewhere."""
    old = draw(roots())
    if draw(st.integers(0, 4)) == 0:
        return old, draw(roots())
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(_places(new)))
        if place is new.get("$defs") or any(place is owner.get("properties") for owner in _places(new)):
            continue
        other = draw(_schemas(plain))
        for key in draw(st.lists(st.sampled_from(sorted({*place, *other, "type"} - {"$defs"})), max_size=2)):
            place.pop(key, None)
            if key in other and draw(st.booleans()):
                place[key] = other[key]
    return old, new


def _valid(validator: Any, root: dict[str, Any], pointer: str, value: Any) -> bool | None:
    """None: the schema refers to itself without end, so nothing can be said."""
    node: Any = root
    for step in pointer.split("/")[1:]:
        if isinstance(node, dict) and step not in node:
            node = True  # the default, where a side says nothing
        else:
            node = node[step]
    try:
        return bool(validator(root).evolve(schema=node).is_valid(value)) if node != root else _whole(validator, root, value)
    except RecursionError:
        return None


def _whole(validator: Any, root: dict[str, Any], value: Any) -> bool:
    return bool(validator(root).is_valid(value))


def _at(pointer: str, difference: Difference) -> str:
    return pointer.rsplit(f"/{difference.keyword}", 1)[0] if difference.keyword else pointer


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs(), st.lists(documents, min_size=12, max_size=25), st.sampled_from(sorted(DRAFTS)))
def test_yes_is_never_wrong(pair: tuple[dict[str, Any], dict[str, Any]], values: list[Any], dialect: str) -> None:
    old, new = ({"$schema": dialect} | side for side in pair)
    validator = DRAFTS[dialect]
    found = diff(json.dumps(old), json.dumps(new))
    values = [*values, *(d.witness[0] for d in found.differences if d.witness)]
    for value in values:
        before, after = _valid(validator, old, "", value), _valid(validator, new, "", value)
        assert found.backward != "yes" or not (before is True and after is False), value
        assert found.forward != "yes" or not (after is True and before is False), value


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs())
def test_a_witness_is_one(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    dialect = "https://json-schema.org/draft/2020-12/schema"
    old, new = ({"$schema": dialect} | side for side in pair)
    for difference in diff(json.dumps(old), json.dumps(new)).differences:
        if difference.witness is None or "$ref" in json.dumps([difference.pointer_old, difference.pointer_new]):
            continue
        value = json.loads(json.dumps(difference.witness[0]))
        before = _valid(Draft202012Validator, old, _at(difference.pointer_old, difference), value)
        after = _valid(Draft202012Validator, new, _at(difference.pointer_new, difference), value)
        assert (before, after) == ((False, True) if difference.breaks == "readers" else (True, False)), difference


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(roots())
def test_a_schema_is_equal_to_itself(root: dict[str, Any]) -> None:
    found = diff(json.dumps(root), json.dumps(root, indent=1, sort_keys=True))
    assert (found.backward, found.forward, found.differences) == ("yes", "yes", ())


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")), st.text())
def test_any_text_gets_an_answer(old: str, new: str) -> None:
    assert diff(old, new).backward in ("yes", "no", "unknown")
