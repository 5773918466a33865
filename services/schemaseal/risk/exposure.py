"""What a schema exposes that it did not expose before: sensitive names, real-looking values, lost annotations.

Every text of the schema is searched, wherever it stands, property names and whole numbers included: an example
in a keyword that nobody knows is as public as one in `examples`. A finding says kind and place, never the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from schemaseal.masking import find_text, is_sensitive_name
from schemaseal.risk.document import escape

Severity = Literal["high", "medium", "low"]
MAX_NODES = 100_000
MAX_FINDINGS = 500
_NAMED = ("properties", "patternProperties", "dependentRequired", "dependentSchemas", "dependencies")
_PROTECTIONS = ("writeOnly", "confluent:tags", "x-sensitive", "x-pii", "x-classification")


@dataclass(frozen=True, slots=True)
class Finding:
    """`pointer` is a JSON pointer into the new schema and holds names of its properties: mask it before showing."""

    code: str
    pointer: str
    text: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class _Found:
    """What a walk met. Names by place, texts by themselves: a value that moves is not a new value."""

    names: dict[tuple[str, str], str]
    texts: dict[str, str]
    protections: dict[tuple[str, str], None]
    complete: bool


def findings(old_json: Any | None, new_json: Any | None) -> tuple[Finding, ...]:
    """What new exposes and old did not; without old, all that new exposes. Never raises for parsed JSON."""
    if new_json is None:
        return ()
    before, after = _look(old_json), _look(new_json)
    found = [*_names(before, after), *_values(before, after), *_lost(before, after, new_json)]
    if not after.complete or not before.complete or len(found) > MAX_FINDINGS:
        text = "the schema is too large to be searched completely"
        found = [Finding("not-fully-searched", "", text, "high"), *found[:MAX_FINDINGS]]
    return tuple(found)


def name_kind(name: str) -> str | None:
    """The kind of sensitive thing that a property name speaks of, or None."""
    return is_sensitive_name(name.strip("^$"))


def value_kinds(text: str) -> frozenset[str]:
    """The kinds of real-looking values in a text."""
    return frozenset(span.entity for span in find_text(text))


def _names(before: _Found, after: _Found) -> Iterator[Finding]:
    for (place, name), pointer in after.names.items():
        kind = name_kind(name) if (place, name) not in before.names else None
        if kind is not None:
            yield Finding("sensitive-name-added", pointer, f"a property is added whose name speaks of {kind}", "high")


def _values(before: _Found, after: _Found) -> Iterator[Finding]:
    for text, pointer in after.texts.items():
        for kind in sorted(value_kinds(text)) if text not in before.texts else ():
            yield Finding("sensitive-value-added", pointer, f"a value that looks like a real {kind} is added", "high")


def _lost(before: _Found, after: _Found, new_json: Any) -> Iterator[Finding]:
    for place, key in before.protections:
        if (place, key) not in after.protections and _exists(new_json, place):
            yield Finding("annotation-removed", place, f"the annotation {key} is removed or switched off", "medium")


def _exists(value: Any, pointer: str) -> bool:
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _look(root: Any) -> _Found:
    """One walk over all of it, without recursion, in document order."""
    found: tuple[dict[tuple[str, str], str], dict[str, str], dict[tuple[str, str], None]] = ({}, {}, {})
    names, texts, protections = found
    todo: list[tuple[str, Any]] = [("", root)]
    for _ in range(MAX_NODES):
        if not todo:
            return _Found(names, texts, protections, complete=True)
        pointer, value = todo.pop()
        if isinstance(value, dict):
            for key in value:
                texts.setdefault(key, f"{pointer}/{escape(key)}")
            names.update({(pointer, name): at for name, at in _named_in(value, pointer)})
            protections.update({(pointer, key): None for key in _PROTECTIONS if value.get(key)})
            todo.extend((f"{pointer}/{escape(key)}", item) for key, item in reversed(value.items()))
        elif isinstance(value, list):
            todo.extend((f"{pointer}/{index}", item) for index, item in reversed(list(enumerate(value))))
        elif isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
            texts.setdefault(_as_text(value), pointer)
    return _Found(names, texts, protections, complete=not todo)


def _as_text(value: str | float | Decimal) -> str:
    """A number as somebody would write it; one too long to be a value of interest is left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else ""
    return str(value).removesuffix(".0")


def _named_in(node: dict[str, Any], pointer: str) -> Iterator[tuple[str, str]]:
    """Names of properties that a node speaks of: defined, required or depended upon."""
    for key in _NAMED:
        if isinstance(node.get(key), dict):
            for name in node[key]:
                yield name, f"{pointer}/{key}/{escape(name)}"
    required = node.get("required")
    for index, name in enumerate(required if isinstance(required, list) else ()):
        if isinstance(name, str) and not (isinstance(node.get("properties"), dict) and name in node["properties"]):
            yield name, f"{pointer}/required/{index}"
