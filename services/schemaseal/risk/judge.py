"""A small validator for the understood part of JSON Schema: is this value valid under this node?

It answers True, False, or None where it does not understand. It only confirms witnesses, so None costs a
witness and never a verdict. Every step is counted: a general validator can be made to run for hours by a schema.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from schemaseal.risk.document import MAX_DEPTH, Budget, Document, NotUnderstood, canon
from schemaseal.risk.pair import ANNOTATIONS

# Read here, or harmless to any value. A node with another keyword is judged only if that keyword cannot matter.
_READ = ANNOTATIONS | {
    *("type", "enum", "const", "required", "properties", "additionalProperties", "items"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "$ref", "$schema", "$id", "$defs", "definitions"),
}
_STRING_ONLY = frozenset(("pattern", "format", "contentEncoding", "contentMediaType"))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def type_names(value: Any) -> frozenset[str]:
    """The types a value has. Whole floats are left out of `integer`: dialects disagree (draft 4 says no)."""
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, str):
        return frozenset({"string"})
    if isinstance(value, dict | list):
        return frozenset({"object" if isinstance(value, dict) else "array"})
    return frozenset({"number", "integer"}) if isinstance(value, int) else frozenset({"number"})


class Judge:
    """Validates against nodes of one document."""

    def __init__(self, document: Document, budget: Budget) -> None:
        self.document, self.budget = document, budget

    def valid(self, node: Any, value: Any) -> bool | None:
        """None: not understood, or too much work."""
        try:
            return self._valid(node, value, 0)
        except (NotUnderstood, TypeError, ValueError, ArithmeticError, AttributeError):
            return None

    def _valid(self, node: Any, value: Any, depth: int) -> bool | None:
        self.budget.spend()
        if depth > MAX_DEPTH:
            raise NotUnderstood("budget-exceeded")
        if isinstance(node, bool):
            return node
        if "$id" in node and node is not self.document.root:
            return None  # references below it mean something else
        if "$ref" in node:
            if set(node) - {"$ref"} and self.document.dialect not in ("2019-09", "2020-12"):
                return None
            target, _ = self.document.resolve(node["$ref"])
            rest = {key: item for key, item in node.items() if key != "$ref"}
            return _all([self._valid(target, value, depth + 1), self._valid(rest, value, depth + 1)])
        unread = set(node) - _READ
        if unread and (isinstance(value, str) or not unread <= _STRING_ONLY):
            return None
        return _all([self._scalar(node, value), self._bounds(node, value), self._children(node, value, depth)])

    def _scalar(self, node: dict[str, Any], value: Any) -> bool | None:
        if "type" in node:
            wanted = {node["type"]} if isinstance(node["type"], str) else set(node["type"])
            if not wanted & type_names(value):
                return None if isinstance(value, float | Decimal) and value % 1 == 0 else False
        allowed = [*([node["const"]] if "const" in node else []), *node.get("enum", [])]
        if "const" in node and ("enum" in node or self.document.dialect == "draft4"):
            return None
        if "const" in node or "enum" in node:
            return canon(value, self.budget) in {canon(item, self.budget) for item in allowed}
        return True

    def _bounds(self, node: dict[str, Any], value: Any) -> bool:
        if is_number(value):
            value = Decimal(str(value))
            strict_low, strict_high = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
            return not (
                ("minimum" in node and (value < node["minimum"] or (strict_low is True and value == node["minimum"])))
                or (
                    "maximum" in node
                    and (value > node["maximum"] or (strict_high is True and value == node["maximum"]))
                )
                or (is_number(strict_low) and value <= strict_low)
                or (is_number(strict_high) and value >= strict_high)
            )
        for kind, suffix in ((str, "Length"), (list, "Items"), (dict, "Properties")):
            if isinstance(value, kind):
                low, high = node.get(f"min{suffix}", 0), node.get(f"max{suffix}", len(value))
                return bool(low <= len(value) <= high)
        return True

    def _children(self, node: dict[str, Any], value: Any, depth: int) -> bool | None:
        if isinstance(value, list) and "items" in node:
            if isinstance(node["items"], list):
                return None
            return _all([self._valid(node["items"], item, depth + 1) for item in value])
        if not isinstance(value, dict):
            return True
        if any(name not in value for name in node.get("required", [])):
            return False
        named, other = node.get("properties", {}), node.get("additionalProperties", True)
        return _all([self._valid(named.get(name, other), item, depth + 1) for name, item in value.items()])


def _all(answers: list[bool | None]) -> bool | None:
    if False in answers:
        return False
    return None if None in answers else True
