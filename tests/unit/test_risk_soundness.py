"""Whatever the comparison says about generated schemas, an independent validator must not contradict it."""

from __future__ import annotations

import copy
import importlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemaseal.risk import diff
from schemaseal.risk.model import Difference

# Published without type information, so its names are looked up at run time.
JSONSCHEMA: Any = importlib.import_module("jsonschema")
DRAFTS: dict[str, Any] = {
    "https://json-schema.org/draft/2020-12/schema": JSONSCHEMA.Draft202012Validator,
    "http://json-schema.org/draft-04/schema#": JSONSCHEMA.Draft4Validator,
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
        # The default, where a side says nothing.
        node = node[step] if isinstance(node, dict) and step in node else True
    try:
        return bool(validator(root).evolve(schema=node).is_valid(value))
    except RecursionError:
        return None


def _at(pointer: str, difference: Difference) -> str:
    return pointer.rsplit(f"/{difference.keyword}", 1)[0] if difference.keyword else pointer


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs(), st.lists(documents, min_size=8, max_size=14), st.sampled_from(sorted(DRAFTS)))
def test_yes_is_never_wrong(pair: tuple[dict[str, Any], dict[str, Any]], values: list[Any], dialect: str) -> None:
    old, new = ({"$schema": dialect} | side for side in pair)
    validator = DRAFTS[dialect]
    found = diff(json.dumps(old), json.dumps(new))
    values = [*values, *(d.witness[0] for d in found.differences if d.witness)]
    for value in values:
        before, after = _valid(validator, old, "", value), _valid(validator, new, "", value)
        assert found.backward != "yes" or not (before is True and after is False), value
        assert found.forward != "yes" or not (after is True and before is False), value


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs())
def test_a_witness_is_one(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    dialect = "https://json-schema.org/draft/2020-12/schema"
    old, new = ({"$schema": dialect} | side for side in pair)
    for difference in diff(json.dumps(old), json.dumps(new)).differences:
        if difference.witness is None:
            continue
        value = json.loads(json.dumps(difference.witness[0]))
        before = _valid(JSONSCHEMA.Draft202012Validator, old, _at(difference.pointer_old, difference), value)
        after = _valid(JSONSCHEMA.Draft202012Validator, new, _at(difference.pointer_new, difference), value)
        if None in (before, after):
            continue
        assert (before, after) == ((False, True) if difference.breaks == "readers" else (True, False)), difference


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(roots())
def test_a_schema_is_equal_to_itself(root: dict[str, Any]) -> None:
    found = diff(json.dumps(root), json.dumps(root, indent=1, sort_keys=True))
    assert (found.backward, found.forward, found.differences) == ("yes", "yes", ())


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")), st.text())
def test_any_text_gets_an_answer(old: str, new: str) -> None:
    assert diff(old, new).backward in ("yes", "no", "unknown")


KINDS = TYPES.map(lambda name: {"type": name})
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(scalars, min_size=1, max_size=3),
    "minimum": st.integers(-1, 2) | st.just(0.5),
    "exclusiveMaximum": st.integers(-1, 2),
    "minLength": small,
    "maxItems": small,
    "minProperties": small,
    "items": KINDS,
    "required": st.lists(NAMES, max_size=2, unique=True),
    "properties": st.dictionaries(NAMES, KINDS, max_size=2),
    "additionalProperties": st.booleans() | KINDS,
    "const": scalars,
}
SCALARS = [None, True, False, 0, 1, 2, -1, 0.5, "", "a", "abc"]
POOL: list[Any] = [
    *SCALARS,
    *([], {}, [0, 0], {"a": 0, "b": 0}, {"a": "", "b": "", "c": ""}),
    *([value] for value in SCALARS),
    *({name: value} for name in "abc" for value in SCALARS),
]


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_one_keyword_changed(data: st.DataObject) -> None:
    """Small schemas against every value of a pool: what the recursive ones rarely hit."""
    old = {key: data.draw(KEYWORDS[key]) for key in data.draw(st.sets(st.sampled_from(sorted(KEYWORDS)), max_size=2))}
    key, new = data.draw(st.sampled_from(sorted(KEYWORDS))), dict(old)
    if new.pop(key, None) is None or data.draw(st.booleans()):
        new[key] = data.draw(KEYWORDS[key])
    found = diff(json.dumps(old), json.dumps(new))
    before, after = JSONSCHEMA.Draft202012Validator(old), JSONSCHEMA.Draft202012Validator(new)
    for value in POOL:
        one, other = before.is_valid(value), after.is_valid(value)
        assert not (found.backward == "yes" and one and not other), value
        assert not (found.forward == "yes" and other and not one), value
