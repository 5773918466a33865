"""Groups of keywords that are compared on their own: types, enumerations, bounds; and the shapes they must have.

A function here sees two nodes whose shapes were checked by `misshapen` and gives the changes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from schemaseal.risk.document import Canon, Dialect, escape
from schemaseal.risk.judge import is_number

TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
_MAPS = ("properties", "patternProperties")


@dataclass(frozen=True, slots=True)
class Change:
    """A code and where it stands; `keyword` may go on with `/<name>`."""

    code: str
    keyword: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit and, for numbers, its exclusive sister."""

    key: str
    lower: bool
    exclusive: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,) if self.exclusive is None else (self.key, self.exclusive)

    def of(self, node: dict[str, Any]) -> tuple[Any, bool] | None:
        """(limit, whether the limit itself is out), the tightest of all spellings. None: no limit."""
        found: list[tuple[Any, bool]] = []
        strict = node.get(self.exclusive) if self.exclusive else None
        if self.key in node:
            found.append((node[self.key], strict is True))
        if is_number(strict):
            found.append((strict, True))
        if not found:
            return None
        limit = max(found) if self.lower else min(found, key=lambda pair: (pair[0], not pair[1]))
        return None if self.lower and not self.exclusive and limit[0] == 0 else limit

    def tighter(self, one: tuple[Any, bool] | None, other: tuple[Any, bool] | None) -> bool:
        """Whether `one` refuses something that `other` lets through."""
        if one is None or one == other:
            return False
        if other is None:
            return True
        if one[0] == other[0]:
            return one[1]
        return bool(one[0] > other[0]) if self.lower else bool(one[0] < other[0])


BOUNDS = (
    Bound("minimum", lower=True, exclusive="exclusiveMinimum"),
    Bound("maximum", lower=False, exclusive="exclusiveMaximum"),
    *(Bound(f"min{kind}", lower=True) for kind in ("Length", "Items", "Properties")),
    *(Bound(f"max{kind}", lower=False) for kind in ("Length", "Items", "Properties")),
)


def types_of(node: dict[str, Any]) -> frozenset[str]:
    """The types a node lets through; `number` brings `integer` along."""
    if "type" not in node:
        return TYPES
    named = frozenset([node["type"]] if isinstance(node["type"], str) else node["type"])
    return named | {"integer"} if "number" in named else named


def type_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    before, after = types_of(old), types_of(new)
    if before == after:
        return
    code = "type-narrowed" if after < before else "type-widened" if before < after else "type-changed"
    yield Change(code, "type", old.get("type"), new.get("type"))


def enum_changes(old: dict[str, Any], new: dict[str, Any], canon: Callable[[Any], Canon]) -> Iterator[Change]:
    """`const` is an enumeration of one; both together allow what stands in both."""
    before, after = _allowed(old, canon), _allowed(new, canon)
    key = "enum" if "enum" in old or "enum" in new else "const"
    if before is None and after is not None:
        yield Change("enum-added", key, None, list(after.values()))
    elif before is not None and after is None:
        yield Change("enum-removed", key, list(before.values()), None)
    elif before is not None and after is not None:
        for form in [form for form in before if form not in after]:
            yield Change("enum-value-removed", key, before[form], None)
        for form in [form for form in after if form not in before]:
            yield Change("enum-value-added", key, None, after[form])


def _allowed(node: dict[str, Any], canon: Callable[[Any], Canon]) -> dict[Canon, Any] | None:
    lists = [node["enum"]] if "enum" in node else []
    lists += [[node["const"]]] if "const" in node else []
    if not lists:
        return None
    forms = [{canon(value): value for value in values} for values in lists]
    return {form: value for form, value in forms[0].items() if all(form in other for other in forms)}


def bound_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for bound in BOUNDS:
        before, after = bound.of(old), bound.of(new)
        code = "bound-tightened" if bound.tighter(after, before) else "bound-loosened"
        if bound.tighter(after, before) or bound.tighter(before, after):
            key = next(key for key in bound.keys if key in new or key in old)
            yield Change(code, key, before and before[0], after and after[0])


def misshapen(node: dict[str, Any], dialect: Dialect | None) -> str | None:
    """The first keyword (or `<keyword>/<name>`) whose value its dialect does not allow, or None."""
    for key, well in _SHAPES.items():
        if key in node and not well(node[key]):
            return key
    for bound in BOUNDS:
        wanted = _is_limit if bound.exclusive is None else is_number
        if bound.key in node and not wanted(node[bound.key]):
            return bound.key
        if bound.exclusive in node and not _is_exclusive(node, bound, dialect):
            return bound.exclusive
    return _old_boolean(node) if dialect == "draft4" else None


def _is_exclusive(node: dict[str, Any], bound: Bound, dialect: Dialect | None) -> bool:
    value = node[bound.exclusive or ""]
    return (isinstance(value, bool) and bound.key in node) if dialect == "draft4" else is_number(value)


def _old_boolean(node: dict[str, Any]) -> str | None:
    """Draft 4 knows booleans as schemas only in `additionalProperties` and `additionalItems`."""
    for key in _MAPS:
        for name, value in node.get(key, {}).items():
            if isinstance(value, bool):
                return f"{key}/{escape(name)}"
    return "items" if isinstance(node.get("items"), bool) else None


def _is_type(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(isinstance(n, str) and n in TYPES for n in names)


def _is_limit(value: Any) -> bool:
    return bool(is_number(value) and value >= 0)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list),
    "properties": lambda value: isinstance(value, dict),
    "patternProperties": lambda value: isinstance(value, dict),
    "additionalProperties": lambda value: isinstance(value, dict | bool),
    "items": lambda value: isinstance(value, dict | bool | list),
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
}
